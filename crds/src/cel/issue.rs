//! What is wrong with an expression, shown with its place in the source as cel-go shows it.

use std::{fmt, sync::Arc};

/// At most so many issues are kept and shown.
const MOST: usize = 100;
/// Longer lines of source are not quoted.
const LONGEST_SNIPPET: usize = 16_384;

/// One thing that is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Counted from one.
    pub line: usize,
    /// Counted from zero, in characters.
    pub column: usize,
    pub message: String,
}

/// Everything that is wrong with an expression; never empty once it is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues {
    source: Arc<str>,
    list: Vec<Issue>,
    dropped: usize,
}

impl Issues {
    pub(crate) fn new(source: &str) -> Self {
        Self { source: source.into(), list: Vec::new(), dropped: 0 }
    }

    pub(crate) fn push(&mut self, issue: Issue) {
        if self.list.len() < MOST {
            self.list.push(issue);
        } else {
            self.dropped += 1;
        }
    }

    /// Reports a message at an offset, which is counted in characters; `None` is no place at all.
    pub(crate) fn report(&mut self, offset: Option<usize>, message: impl Into<String>) {
        // Without a place upstream's location is line -1, column -1, which is shown as column 0.
        let (line, column) = offset.map_or((usize::MAX, usize::MAX), |offset| self.place(offset));
        self.push(Issue { line, column, message: message.into() });
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.source.chars().take(offset);
        before.fold((1, 0), |(line, column), c| if c == '\n' { (line + 1, 0) } else { (line, column + 1) })
    }

    pub fn list(&self) -> &[Issue] {
        &self.list
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn snippet(&self, line: usize) -> Option<&str> {
        let line = self.source.split('\n').nth(line.checked_sub(1)?)?;
        (line.len() <= LONGEST_SNIPPET && !self.source.is_empty()).then_some(line)
    }

    fn show(&self, issue: &Issue, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if issue.line == usize::MAX {
            return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
        }
        // The end of nothing is before its first column.
        let column = if self.source.is_empty() { 0 } else { issue.column + 1 };
        write!(f, "ERROR: <input>:{}:{column}: {}", issue.line, issue.message)?;
        let Some(line) = self.snippet(issue.line) else {
            return Ok(());
        };
        let line = line.replace('\t', " ");
        write!(f, "\n | {line}\n | ")?;
        let mut characters = line.chars();
        for c in characters.by_ref().take(issue.column) {
            f.write_str(if c.len_utf8() > 1 { "\u{ff0e}" } else { "." })?;
        }
        f.write_str(if characters.next().is_some_and(|c| c.len_utf8() > 1) { "\u{ff3e}" } else { "^" })
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<&Issue> = self.list.iter().collect();
        // An issue without a place comes first, as line -1 does.
        sorted.sort_by_key(|issue| (issue.line.wrapping_add(1), issue.column.wrapping_add(1)));
        for (i, issue) in sorted.into_iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            self.show(issue, f)?;
        }
        if self.dropped > 0 {
            write!(f, "\n{} more errors were truncated", self.dropped)?;
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}
