//! Numbers as Go writes them.

/// `%g`: the shortest digits that give the number back, with an exponent where it is far from one.
pub(crate) fn general(number: f64) -> String {
    if let Some(word) = not_finite(number) {
        return word.to_owned();
    }
    let exponent = decimal_exponent(number);
    if (-4..6).contains(&exponent) { format!("{number}") } else { scientific(number, None) }
}

fn decimal_exponent(number: f64) -> i32 {
    let written = format!("{number:e}");
    written.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

fn not_finite(number: f64) -> Option<&'static str> {
    match number {
        n if n.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// `%f` with so many decimals.
pub(crate) fn fixed(number: f64, decimals: usize) -> String {
    not_finite(number).map_or_else(|| format!("{number:.decimals$}"), str::to_owned)
}

/// `%e`; without decimals given, the shortest that gives the number back. The exponent has two digits at least.
pub(crate) fn scientific(number: f64, decimals: Option<usize>) -> String {
    if let Some(word) = not_finite(number) {
        return word.to_owned();
    }
    let written = decimals.map_or_else(|| format!("{number:e}"), |decimals| format!("{number:.decimals$e}"));
    let Some((digits, exponent)) = written.split_once('e') else {
        return written;
    };
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go() {
        for (number, want) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (-2.5, "-2.5"),
        ] {
            assert_eq!(general(number), want);
        }
        assert_eq!(scientific(1052.032911275, Some(6)), "1.052033e+03");
    }
}
