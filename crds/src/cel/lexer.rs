//! Cuts an expression into tokens; what is none is reported as antlr reports it.

use super::issue::Issues;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Operators and brackets, by their text.
    Sign(&'static str),
    True,
    False,
    Null,
    In,
    Ident,
    /// `` `a-b` ``
    Escaped,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    End,
}

/// A token with its text and where it begins, in characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexeme<'s> {
    pub(crate) token: Token,
    pub(crate) text: &'s str,
    pub(crate) at: usize,
}

/// Longer signs first.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%",
];

pub(crate) fn lex<'s>(source: &'s str, issues: &mut Issues) -> Vec<Lexeme<'s>> {
    let mut lexer = Lexer { rest: source, at: 0, lexemes: Vec::new() };
    while !lexer.rest.is_empty() {
        lexer.next(issues);
    }
    let at = lexer.at;
    lexer.lexemes.push(Lexeme { token: Token::End, text: "<EOF>", at });
    lexer.lexemes
}

struct Lexer<'s> {
    rest: &'s str,
    at: usize,
    lexemes: Vec<Lexeme<'s>>,
}

impl<'s> Lexer<'s> {
    fn take(&mut self, bytes: usize) -> &'s str {
        let (text, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.at += text.chars().count();
        text
    }

    fn push(&mut self, token: Token, bytes: usize) {
        let at = self.at;
        let text = self.take(bytes);
        self.lexemes.push(Lexeme { token, text, at });
    }

    fn next(&mut self, issues: &mut Issues) {
        let rest = self.rest;
        let blank = rest.len() - rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']).len();
        if blank > 0 {
            self.take(blank);
        } else if rest.starts_with("//") {
            self.take(rest.find('\n').unwrap_or(rest.len()));
        } else if let Some((token, length)) = quoted(rest).or_else(|| number(rest)).or_else(|| word(rest)) {
            self.push(token, length);
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            self.push(Token::Sign(sign), sign.len());
        } else {
            let at = self.at;
            let text = self.take(unrecognized(rest));
            let shown = text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r");
            issues.report(Some(at), format!("Syntax error: token recognition error at: '{shown}'"));
        }
    }
}

/// How far antlr got before it gave up on a token.
fn unrecognized(rest: &str) -> usize {
    let first = rest.chars().next().map_or(0, char::len_utf8);
    match rest.as_bytes().first() {
        Some(b'"' | b'\'') => {
            let quote = &rest[..1];
            let mut characters = rest.char_indices().skip(1);
            while let Some((i, c)) = characters.next() {
                match c {
                    '\n' | '\r' => return i + 1,
                    '\\' => match escape(&rest[i..]) {
                        Some(length) => {
                            for _ in 1..length {
                                characters.next();
                            }
                        }
                        None => return rest.len().min(i + 1 + rest[i + 1..].chars().next().map_or(0, char::len_utf8)),
                    },
                    _ if rest[i..].starts_with(quote) => return i + 1,
                    _ => {}
                }
            }
            rest.len()
        }
        Some(b'&' | b'|' | b'=') => first + rest[first..].chars().next().map_or(0, char::len_utf8),
        Some(b'`') => {
            let bad = |c: char| !(c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
            rest[1..]
                .find(bad)
                .map_or(rest.len(), |end| 1 + end + rest[1 + end..].chars().next().map_or(0, char::len_utf8))
        }
        _ => first,
    }
}

/// The length of an escape in a literal.
fn escape(text: &str) -> Option<usize> {
    let hex = |count: usize| {
        let digits = text.as_bytes().get(2..2 + count)?;
        digits.iter().all(u8::is_ascii_hexdigit).then_some(2 + count)
    };
    match text.as_bytes().get(1)? {
        b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`' => Some(2),
        b'x' | b'X' => hex(2),
        b'u' => hex(4),
        b'U' => hex(8),
        b'0'..=b'3' => {
            let digits = text.as_bytes().get(2..4)?;
            digits.iter().all(|b| (b'0'..=b'7').contains(b)).then_some(4)
        }
        _ => None,
    }
}

fn quoted(rest: &str) -> Option<(Token, usize)> {
    let bytes = rest.starts_with(['b', 'B']);
    let start = usize::from(bytes);
    let raw = rest[start..].starts_with(['r', 'R']);
    let start = start + usize::from(raw);
    let token = if bytes { Token::Bytes } else { Token::String };
    let body = &rest[start..];
    let long = ["\"\"\"", "'''"].into_iter().find(|quote| body.starts_with(quote));
    let end = |quote: &str| {
        let mut i = quote.len();
        loop {
            let c = body[i..].chars().next()?;
            if body[i..].starts_with(quote) {
                return Some(i + quote.len());
            }
            match c {
                '\\' if !raw => i += escape(&body[i..])?,
                '\n' | '\r' if quote.len() == 1 => return None,
                c => i += c.len_utf8(),
            }
        }
    };
    let quote = long.or_else(|| ["\"", "'"].into_iter().find(|quote| body.starts_with(quote)))?;
    // What begins with three quotes may still be an empty literal before another one.
    let length = end(quote).or_else(|| long.and_then(|long| end(&long[..1])))?;
    Some((token, start + length))
}

fn number(rest: &str) -> Option<(Token, usize)> {
    let digits = |from: usize| rest.get(from..).map_or(0, |text| text.bytes().take_while(u8::is_ascii_digit).count());
    if let Some(hex) = rest.strip_prefix("0x") {
        let count = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        if count > 0 {
            let unsigned = hex[count..].starts_with(['u', 'U']);
            return Some((if unsigned { Token::Uint } else { Token::Int }, 2 + count + usize::from(unsigned)));
        }
    }
    let whole = digits(0);
    let fraction = if rest[whole..].starts_with('.') { digits(whole + 1) } else { 0 };
    if whole == 0 && fraction == 0 {
        return None;
    }
    let mut length = whole + if fraction > 0 { 1 + fraction } else { 0 };
    let mut exponent = 0;
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
        let count = digits(length + 1 + sign);
        exponent = if count > 0 { 1 + sign + count } else { 0 };
    }
    length += exponent;
    if fraction > 0 || exponent > 0 {
        return Some((Token::Double, length));
    }
    let unsigned = rest[length..].starts_with(['u', 'U']);
    Some((if unsigned { Token::Uint } else { Token::Int }, length + usize::from(unsigned)))
}

fn word(rest: &str) -> Option<(Token, usize)> {
    if let Some(inside) = rest.strip_prefix('`') {
        let end = inside.find('`').filter(|end| *end > 0)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.-/ ".contains(c);
        return inside[..end].chars().all(allowed).then_some((Token::Escaped, end + 2));
    }
    if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return None;
    }
    let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let token = match &rest[..length] {
        "true" => Token::True,
        "false" => Token::False,
        "null" => Token::Null,
        "in" => Token::In,
        _ => Token::Ident,
    };
    Some((token, length))
}
