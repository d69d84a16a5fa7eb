//! The `timeout` of a request: a duration as Go writes it.

use crds::field::quote;

use crate::{
    call::Call,
    error::{ApiError, Result},
};

const UNITS: [&str; 8] = ["ns", "us", "\u{b5}s", "\u{3bc}s", "ms", "s", "m", "h"];

/// Requests that end by themselves may say by when; the value must at least be one.
pub fn check(call: &Call) -> Result<()> {
    let long = call.info.is_long_running();
    let Some(text) = call.query.first("timeout").filter(|text| !text.is_empty() && !long) else { return Ok(()) };
    check_duration(text)
        .map_err(|why| ApiError::bad_request(format!("invalid timeout specified in the request URL - time: {why}")))
}

/// What Go's `time.ParseDuration` has against a text.
fn check_duration(text: &str) -> std::result::Result<(), String> {
    let invalid = || format!("invalid duration {}", quote(text));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        if !digits.contains(|c: char| c.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return Err(invalid());
        }
        let unit = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        if unit.is_empty() {
            return Err(format!("missing unit in duration {}", quote(text)));
        }
        if !UNITS.contains(&unit) {
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("30s", None),
            ("1h2m3.5s", None),
            ("0", None),
            ("soon", Some("invalid duration \"soon\"")),
            ("5", Some("missing unit in duration \"5\"")),
            ("5x", Some("unknown unit \"x\" in duration \"5x\"")),
        ] {
            assert_eq!(check_duration(text).err().as_deref(), want, "{text}");
        }
    }
}
