//! YAML out, as go-yaml writes it: block style, keys in natural order, and quotes where a bare text would mean
//! something else.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::scalar::{Scalar, resolve, short};

/// Beyond this column a text is continued on the next line, at the next blank.
const WIDTH: usize = 80;
/// Longer keys are written with a question mark.
const SIMPLE_KEY_MAX: usize = 128;

/// A value as a YAML document, without markers around it.
pub fn write(value: &Value) -> String {
    let mut writer = Writer { out: String::new(), column: 0, blank: true, at_indent: true, indent: 0 };
    writer.value(value, Context::Root);
    if !writer.out.ends_with('\n') {
        writer.line_end();
    }
    writer.out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Root,
    Item,
    Key,
    /// The value of a mapping's entry.
    Entry,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

struct Writer {
    out: String,
    /// In characters.
    column: usize,
    /// The last character separates.
    blank: bool,
    /// Nothing but indentation and indicators stands on the line.
    at_indent: bool,
    indent: usize,
}

impl Writer {
    fn put(&mut self, c: char) {
        self.out.push(c);
        self.column += 1;
    }

    fn line_end(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// A line end of the text itself.
    fn take_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
        self.at_indent = true;
    }

    fn start_line(&mut self) {
        if !self.at_indent || self.column > self.indent || (self.column == self.indent && !self.blank) {
            self.line_end();
        }
        while self.column < self.indent {
            self.put(' ');
        }
        self.blank = true;
        self.at_indent = true;
    }

    fn indicator(&mut self, text: &str, needs_blank: bool, is_blank: bool, is_indent: bool) {
        if needs_blank && !self.blank {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.blank = is_blank;
        self.at_indent &= is_indent;
    }

    fn value(&mut self, value: &Value, context: Context) {
        match value {
            Value::Null => self.bare("null"),
            Value::Bool(value) => self.bare(if *value { "true" } else { "false" }),
            Value::Number(number) => self.bare(&number_text(number)),
            Value::String(text) => self.text(text, context),
            Value::Array(items) if items.is_empty() => self.empty("[", "]"),
            Value::Object(entries) if entries.is_empty() => self.empty("{", "}"),
            Value::Array(items) => self.list(items, context),
            Value::Object(entries) => self.map(entries, context),
        }
    }

    fn empty(&mut self, open: &str, close: &str) {
        self.indicator(open, true, true, false);
        self.indicator(close, false, false, false);
    }

    /// A list in a mapping stands no deeper than its key.
    fn list(&mut self, items: &[Value], context: Context) {
        let outer = self.indent;
        if context == Context::Item || (context == Context::Entry && self.at_indent) {
            self.indent += 2;
        }
        for item in items {
            self.start_line();
            self.indicator("-", true, false, true);
            self.value(item, Context::Item);
        }
        self.indent = outer;
    }

    fn map(&mut self, entries: &Map<String, Value>, context: Context) {
        let outer = self.indent;
        if context != Context::Root {
            self.indent += 2;
        }
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by(|a, b| natural(a.0, b.0));
        for (key, value) in sorted {
            self.start_line();
            if key.len() <= SIMPLE_KEY_MAX && !key.contains(is_break) {
                self.text(key, Context::Key);
                self.indicator(":", false, false, false);
            } else {
                self.indicator("?", true, false, true);
                self.text(key, Context::Entry);
                self.start_line();
                self.indicator(":", true, false, true);
            }
            self.value(value, Context::Entry);
        }
        self.indent = outer;
    }

    fn bare(&mut self, text: &str) {
        self.indicator(text, true, false, false);
    }

    fn text(&mut self, text: &str, context: Context) {
        let outer = self.indent;
        if context != Context::Root {
            self.indent += 2;
        } else {
            self.indent = 2;
        }
        let may_break = context != Context::Key;
        match style(text, context) {
            Style::Plain => self.plain(text, may_break),
            Style::Single => self.single(text, may_break),
            Style::Double => self.double(text, may_break),
            Style::Literal => self.literal(text),
        }
        self.indent = outer;
    }

    fn plain(&mut self, text: &str, may_break: bool) {
        if !self.blank {
            self.put(' ');
        }
        let mut after_space = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' && may_break && !after_space && self.column > WIDTH && chars.peek() != Some(&' ') {
                self.start_line();
            } else {
                self.put(c);
            }
            self.at_indent = false;
            after_space = c == ' ';
        }
        (self.blank, self.at_indent) = (false, false);
    }

    fn single(&mut self, text: &str, may_break: bool) {
        self.indicator("'", true, false, false);
        let (mut after_space, mut after_break) = (false, false);
        let last = text.chars().count().saturating_sub(1);
        let chars: Vec<char> = text.chars().collect();
        for (at, c) in chars.iter().copied().enumerate() {
            let inside = at > 0 && at < last && chars.get(at + 1) != Some(&' ');
            if c == ' ' {
                if may_break && !after_space && self.column > WIDTH && inside {
                    self.start_line();
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else if is_break(c) {
                if !after_break && c == '\n' {
                    self.line_end();
                }
                self.take_break(c);
                after_break = true;
            } else {
                if after_break {
                    self.start_line();
                }
                if c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.at_indent = false;
                (after_space, after_break) = (false, false);
            }
        }
        self.indicator("'", false, false, false);
        (self.blank, self.at_indent) = (false, false);
    }

    fn double(&mut self, text: &str, may_break: bool) {
        self.indicator("\"", true, false, false);
        let chars: Vec<char> = text.chars().collect();
        let mut after_space = false;
        for (at, c) in chars.iter().copied().enumerate() {
            if !is_printable(c) || is_break(c) || c == '"' || c == '\\' {
                escape(c).chars().for_each(|c| self.put(c));
                after_space = false;
            } else if c == ' ' {
                let inside = at > 0 && at + 1 < chars.len();
                if may_break && !after_space && self.column > WIDTH && inside {
                    self.start_line();
                    if chars[at + 1] == ' ' {
                        self.put('\\');
                    }
                } else {
                    self.put(' ');
                }
                after_space = true;
            } else {
                self.put(c);
                after_space = false;
            }
        }
        self.indicator("\"", false, false, false);
        (self.blank, self.at_indent) = (false, false);
    }

    fn literal(&mut self, text: &str) {
        self.indicator("|", true, false, false);
        if text.starts_with(|c| c == ' ' || is_break(c)) {
            self.indicator("2", false, false, false);
        }
        let mut from_end = text.chars().rev();
        match (from_end.next(), from_end.next()) {
            (Some(last), _) if !is_break(last) => self.indicator("-", false, false, false),
            (Some(_), None) => self.indicator("+", false, false, false),
            (Some(_), Some(before)) if is_break(before) => self.indicator("+", false, false, false),
            _ => {}
        }
        self.line_end();
        (self.at_indent, self.blank) = (true, true);
        let mut after_break = true;
        for c in text.chars() {
            if is_break(c) {
                if c == '\n' {
                    self.line_end()
                } else {
                    self.put(c)
                }
                (self.at_indent, after_break) = (true, true);
                continue;
            }
            if after_break {
                self.start_line();
            }
            self.put(c);
            (self.at_indent, after_break) = (false, false);
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What go-yaml takes to be printable: nothing beyond the basic plane.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{fffd}') && c != '\u{feff}'
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        c => {
            return match u32::from(c) {
                code @ ..=0xff => format!("\\x{code:02X}"),
                code @ ..=0xffff => format!("\\u{code:04X}"),
                code => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

/// Whether a bare text would be read as something else. (Upstream leaves `<<` bare, which then is a merge.)
fn is_ambiguous(text: &str) -> bool {
    let is_text = matches!(resolve("", text, true), Ok(Scalar::Text(_)));
    !is_text || text == "<<" || is_timestamp(text) || is_base_60(text)
}

/// Dates and times that YAML 1.1 knows.
fn is_timestamp(text: &str) -> bool {
    let Some((year, rest)) = text.split_once('-') else { return false };
    if year.len() != 4 || !year.bytes().all(|c| c.is_ascii_digit()) {
        return false;
    }
    let (date, clock) = match rest.find(['T', 't', ' ']) {
        Some(at) => (&rest[..at], Some((rest.as_bytes()[at], &rest[at + 1..]))),
        None => (rest, None),
    };
    let Some((month, day)) = date.split_once('-') else { return false };
    let (Some(month), Some(day)) = (part(month, 12), part(day, 31)) else { return false };
    let year: i16 = year.parse().unwrap_or_default();
    if jiff::civil::Date::new(year, month as i8, day as i8).is_err() {
        return false;
    }
    match clock {
        None => true,
        Some((b' ', clock)) => is_clock(clock),
        Some((_, clock)) => match clock.strip_suffix('Z') {
            Some(clock) => is_clock(clock),
            None => clock.rfind(['+', '-']).is_some_and(|at| {
                let (clock, zone) = clock.split_at(at);
                let (hours, minutes) = (zone.get(1..3), zone.get(4..6));
                let limited =
                    |part: Option<&str>, max| part.and_then(|p| p.parse::<u8>().ok()).is_some_and(|n| n <= max);
                is_clock(clock) && zone.len() == 6 && &zone[3..4] == ":" && limited(hours, 24) && limited(minutes, 60)
            }),
        },
    }
}

/// One or two digits up to a limit.
fn part(text: &str, max: u8) -> Option<u8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n <= max)
}

fn is_clock(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let (hour, minute, second) = (parts.next(), parts.next(), parts.next());
    let second = second.map(|s| s.split_once(['.', ',']).map_or((s, "0"), |(whole, fraction)| (whole, fraction)));
    let Some((second, fraction)) = second else { return false };
    let fits = |text: Option<&str>, max| text.and_then(|t| part(t, max)).is_some();
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|c| c.is_ascii_digit());
    fits(hour, 23) && fits(minute, 59) && fits(Some(second), 59) && is_fraction
}

/// Numbers to the base of 60, which only older readers know: `1:30`.
fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digit = |c: u8| c.is_ascii_digit() || c == b'_';
    let mut parts = text.split(':');
    let first = parts.next().unwrap_or_default();
    let mut rest = parts.peekable();
    rest.peek().is_some()
        && first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().chain(fraction.bytes()).all(is_digit)
        && rest.all(|p| part(p, 59).is_some())
}

fn style(text: &str, context: Context) -> Style {
    let facts = Facts::of(text);
    let wanted = match () {
        () if text.contains('\n') => Style::Literal,
        () if is_ambiguous(text) => Style::Double,
        () => Style::Plain,
    };
    let is_key = context == Context::Key;
    if is_key && facts.multiline {
        return Style::Double;
    }
    match wanted {
        Style::Literal if is_key || !facts.block_allowed => Style::Double,
        Style::Plain if facts.plain_allowed && !(text.is_empty() && is_key) => Style::Plain,
        Style::Plain if facts.single_allowed => Style::Single,
        Style::Plain => Style::Double,
        wanted => wanted,
    }
}

/// What a text allows.
struct Facts {
    multiline: bool,
    plain_allowed: bool,
    single_allowed: bool,
    block_allowed: bool,
}

impl Facts {
    fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let (Some(first), Some(last)) = (chars.first().copied(), chars.last().copied()) else {
            return Self { multiline: false, plain_allowed: true, single_allowed: true, block_allowed: false };
        };
        let blank = |at: usize| chars.get(at).is_none_or(|c| *c == ' ' || *c == '\t');
        let mut indicator = text.starts_with("---") || text.starts_with("...");
        indicator |= "#,[]{}&*!|>'\"%@`".contains(first) || ("?:-".contains(first) && blank(1));
        let (mut breaks, mut special, mut break_space, mut space_break) = (false, false, false, false);
        for (at, c) in chars.iter().copied().enumerate() {
            let before = at.checked_sub(1).map(|at| chars[at]);
            if at > 0 {
                indicator |= c == ':' && blank(at + 1);
                indicator |= c == '#' && before.is_some_and(|b| b == ' ' || b == '\t' || is_break(b) || b == '\0');
            }
            special |= !is_printable(c);
            breaks |= is_break(c);
            break_space |= c == ' ' && before.is_some_and(is_break);
            space_break |= is_break(c) && before == Some(' ');
        }
        let loose = [first, last].iter().any(|c| *c == ' ' || is_break(*c));
        let strange = space_break || special;
        Self {
            multiline: breaks,
            plain_allowed: !(loose || break_space || strange || breaks || indicator),
            single_allowed: !(break_space || strange),
            block_allowed: !(last == ' ' || strange),
        }
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => short(float),
        _ => number.to_string(),
    }
}

/// Letters come after everything else, and numbers in texts count as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    let (x, y) = (a[at], b[at]);
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero within a number is no leading zero.
    let within = (x == '0' || y == '0') && a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let number = |text: &[char]| {
        let digits: Vec<_> = text[at..].iter().map_while(|c| c.to_digit(10)).collect();
        let start = i64::from(within);
        let value = digits.iter().fold(start, |n, d| n.wrapping_mul(10).wrapping_add(i64::from(*d)));
        (value, digits.len())
    };
    number(&a).cmp(&number(&b)).then(x.cmp(&y))
}
