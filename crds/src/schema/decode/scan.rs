//! JSON as text: a scanner that accepts and refuses what Go's does, in Go's words.

use std::borrow::Cow;

use crate::field::quote;

/// Deeper values are refused. Go allows more, but what is stored must be readable by every parser in the house.
pub const DEPTH_MAX: usize = 120;

/// What is wrong with a text that is no JSON, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(pub String);

pub type Scan<T> = Result<T, SyntaxError>;

pub struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, depth: 0 }
    }

    /// The first byte of what comes next.
    pub fn peek(&mut self) -> Scan<u8> {
        self.blanks();
        self.bytes.get(self.at).copied().ok_or_else(end)
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn unexpected(&self, context: &str) -> SyntaxError {
        match self.bytes.get(self.at) {
            None => end(),
            Some(c) => SyntaxError(format!("invalid character {} {context}", quote_byte(*c))),
        }
    }

    /// Nothing but blanks may follow the value.
    pub fn finish(&mut self) -> Scan<()> {
        self.blanks();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.unexpected("after top-level value")) }
    }

    fn descend(&mut self) -> Scan<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(SyntaxError("exceeded max depth".to_owned())) } else { Ok(()) }
    }

    /// Steps into an object or list whose opening bracket comes next; whether it has a member.
    pub fn open(&mut self, close: u8) -> Scan<bool> {
        self.descend()?;
        Ok(!self.closes(close)?)
    }

    fn closes(&mut self, close: u8) -> Scan<bool> {
        let closes = self.peek()? == close;
        if closes {
            self.at += 1;
            self.depth -= 1;
        }
        Ok(closes)
    }

    /// After a member: whether another one follows.
    pub fn more(&mut self, close: u8) -> Scan<bool> {
        if self.peek()? == b',' {
            self.at += 1;
            return Ok(true);
        }
        if self.closes(close)? {
            return Ok(false);
        }
        Err(self.unexpected(if close == b']' { "after array element" } else { "after object key:value pair" }))
    }

    /// An object's key and the colon behind it.
    pub fn key(&mut self) -> Scan<Cow<'a, str>> {
        if self.peek()? != b'"' {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(key)
    }

    /// A string, whose opening quote comes next.
    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        let plain = self.bytes[start..].iter().position(|c| *c < 0x20 || *c == b'"' || *c == b'\\');
        self.at = plain.map_or(self.bytes.len(), |length| start + length);
        match self.bytes.get(self.at) {
            None => Err(end()),
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(&self.text[start..self.at - 1]))
            }
            Some(b'\\') => self.escaped(start).map(Cow::Owned),
            Some(_) => Err(self.unexpected("in string literal")),
        }
    }

    /// The rest of a string from its first backslash on.
    fn escaped(&mut self, start: usize) -> Scan<String> {
        let mut out = self.text[start..self.at].to_owned();
        let mut plain = self.at;
        loop {
            match self.bytes.get(self.at) {
                None => return Err(end()),
                Some(b'"') => {
                    out.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[plain..self.at]);
                    self.at += 1;
                    out.push(self.escape()?);
                    plain = self.at;
                }
                Some(0..=0x1f) => return Err(self.unexpected("in string literal")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Scan<char> {
        let c = match self.bytes.get(self.at) {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(c)
    }

    /// Half a surrogate pair becomes the replacement character, as in Go.
    fn unicode(&mut self) -> Scan<char> {
        let high = self.hex()?;
        if !(0xd800..0xdc00).contains(&high) || self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Ok(char::from_u32(high).unwrap_or('\u{fffd}'));
        }
        let back = self.at;
        self.at += 2;
        let low = self.hex()?;
        if (0xdc00..0xe000).contains(&low) {
            return Ok(char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).unwrap_or('\u{fffd}'));
        }
        self.at = back;
        Ok('\u{fffd}')
    }

    fn hex(&mut self) -> Scan<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|c| char::from(*c).to_digit(16));
            code = code * 16 + digit.ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// A number as it is written.
    pub fn number(&mut self) -> Scan<&'a str> {
        let start = self.at;
        self.skip_if(|c| c == b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ if self.at == start => return Err(self.unexpected("looking for beginning of value")),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.skip_if(|c| c == b'.') {
            self.some_digits("after decimal point in numeric literal")?;
        }
        if self.skip_if(|c| c == b'e' || c == b'E') {
            self.skip_if(|c| c == b'+' || c == b'-');
            self.some_digits("in exponent of numeric literal")?;
        }
        Ok(&self.text[start..self.at])
    }

    fn skip_if(&mut self, is: impl Fn(u8) -> bool) -> bool {
        let skip = self.bytes.get(self.at).is_some_and(|c| is(*c));
        self.at += usize::from(skip);
        skip
    }

    fn digits(&mut self) {
        while self.skip_if(|c| c.is_ascii_digit()) {}
    }

    fn some_digits(&mut self, context: &str) -> Scan<()> {
        if !self.skip_if(|c| c.is_ascii_digit()) {
            return Err(self.unexpected(context));
        }
        self.digits();
        Ok(())
    }

    /// One of the words `true`, `false` and `null`.
    pub fn word(&mut self, word: &'static str) -> Scan<()> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        for expected in word.bytes() {
            if self.bytes.get(self.at) != Some(&expected) {
                let expected = char::from(expected);
                return Err(self.unexpected(&format!("in literal {word} (expecting '{expected}')")));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Passes over a value; gives it as it is written.
    pub fn skip(&mut self) -> Scan<&'a str> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'{' => {
                let mut more = self.open(b'}')?;
                while more {
                    self.key()?;
                    self.skip()?;
                    more = self.more(b'}')?;
                }
            }
            b'[' => {
                let mut more = self.open(b']')?;
                while more {
                    self.skip()?;
                    more = self.more(b']')?;
                }
            }
            b'"' => {
                self.string()?;
            }
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => {
                self.number()?;
            }
        }
        Ok(&self.text[start..self.at])
    }
}

fn end() -> SyntaxError {
    SyntaxError("unexpected end of JSON input".to_owned())
}

fn quote_byte(c: u8) -> String {
    match c {
        b'\'' => "'\\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        c => {
            let quoted = quote(char::from(c).encode_utf8(&mut [0; 4]));
            format!("'{}'", &quoted[1..quoted.len() - 1])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let mut scanner = Scanner::new(text);
        scanner.skip().and_then(|_| scanner.finish()).unwrap_err().0
    }

    #[test]
    fn words() {
        for (text, want) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 2}", "invalid character '2' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("nil", "invalid character 'i' in literal null (expecting 'u')"),
            ("-", "unexpected end of JSON input"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            ("\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape"),
            ("'a'", "invalid character '\\'' looking for beginning of value"),
        ] {
            assert_eq!(problem(text), want, "{text}");
        }
        assert_eq!(problem(&"[".repeat(DEPTH_MAX + 1)), "exceeded max depth");
    }

    #[test]
    fn strings() {
        for (text, want) in [
            (r#""a\nb""#, "a\nb"),
            (r#""\u00e9\ud83d\ude00""#, "é😀"),
            (r#""\ud83dx\ude00""#, "\u{fffd}x\u{fffd}"),
            (r#""\ud83dA""#, "\u{fffd}A"),
        ] {
            assert_eq!(Scanner::new(text).string().unwrap(), want, "{text}");
        }
    }
}
