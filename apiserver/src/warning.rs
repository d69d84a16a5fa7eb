//! `Warning` headers: each text once, cut where there are too many.

use crds::field::quote;
use http::HeaderValue;

/// All warnings together, and one of them once they are cut, in bytes.
const TOTAL_MAX: usize = 4096;
const CUT_MAX: usize = 256;

pub fn headers(warnings: &[String]) -> Vec<HeaderValue> {
    let mut told: Vec<&str> = Vec::new();
    for warning in warnings {
        if !warning.is_empty() && !told.contains(&warning.as_str()) {
            told.push(warning);
        }
    }
    if told.iter().map(|w| w.len()).sum::<usize>() <= TOTAL_MAX {
        return told.into_iter().filter_map(header).collect();
    }
    let mut left = TOTAL_MAX;
    told.into_iter()
        .map(|warning| cut(warning, CUT_MAX))
        .take_while(|warning| {
            let fits = warning.len() <= left;
            left = left.saturating_sub(warning.len());
            fits
        })
        .filter_map(header)
        .collect()
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn header(text: &str) -> Option<HeaderValue> {
    // As upstream: control characters are left out, and the text is quoted.
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    HeaderValue::from_bytes(format!("299 - {}", quote(&plain)).as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_once_and_quoted() {
        let warnings = ["a \"b\"".to_owned(), "a \"b\"".to_owned(), String::new()];
        assert_eq!(headers(&warnings), [r#"299 - "a \"b\"""#]);
        let many: Vec<_> = (0..50).map(|i| format!("{i}{}", "x".repeat(500))).collect();
        assert_eq!(headers(&many).len(), TOTAL_MAX / CUT_MAX);
    }
}
