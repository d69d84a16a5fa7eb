//! What is wrong with an object, as far as anybody could read it.

use std::ops::{Deref, DerefMut};

use super::Error;

/// In bytes of text. An object of 3 MB can be wrong in ways that take gigabytes to tell: what comes after this much is not
/// told.
const SIZE_MAX: usize = 4 << 20;

/// All that is wrong with an object, in the order it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    found: Vec<Error>,
    size: usize,
}

impl Errors {
    pub const fn new() -> Self {
        Self { found: Vec::new(), size: 0 }
    }

    pub fn push(&mut self, error: Error) {
        if !self.is_full() {
            self.size += error.size();
            self.found.push(error);
        }
    }

    /// For errors that show much more than what is wrong: they are not even made once nothing more is taken.
    pub fn push_with(&mut self, error: impl FnOnce() -> Error) {
        if !self.is_full() {
            self.push(error());
        }
    }

    pub fn append(&mut self, more: &mut Self) {
        self.extend(std::mem::take(more));
    }

    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Nothing more is taken.
    pub const fn is_full(&self) -> bool {
        self.size >= SIZE_MAX
    }
}

impl Extend<Error> for Errors {
    fn extend<I: IntoIterator<Item = Error>>(&mut self, more: I) {
        let mut more = more.into_iter();
        while !self.is_full()
            && let Some(error) = more.next()
        {
            self.push(error);
        }
    }
}

impl FromIterator<Error> for Errors {
    fn from_iter<I: IntoIterator<Item = Error>>(found: I) -> Self {
        let mut errors = Self::new();
        errors.extend(found);
        errors
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self::from_iter([error])
    }
}

impl IntoIterator for Errors {
    type Item = Error;
    type IntoIter = std::vec::IntoIter<Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.into_iter()
    }
}

impl<'a> IntoIterator for &'a Errors {
    type Item = &'a Error;
    type IntoIter = std::slice::Iter<'a, Error>;

    fn into_iter(self) -> Self::IntoIter {
        self.found.iter()
    }
}

impl Deref for Errors {
    type Target = [Error];

    fn deref(&self) -> &[Error] {
        &self.found
    }
}

impl DerefMut for Errors {
    fn deref_mut(&mut self) -> &mut [Error] {
        &mut self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_could_read_is_not_kept() {
        let text = "x".repeat(1 << 20);
        let mut errors = Errors::new();
        let mut made = 0;
        errors.extend((0..1000).map(|i| {
            made += 1;
            Error::invalid(format!("f[{i}]"), text.as_str(), "")
        }));
        let told: usize = errors.iter().map(|error| error.to_string().len()).sum();
        assert!(errors.is_full() && (SIZE_MAX..SIZE_MAX + (2 << 20)).contains(&told), "{told}");
        errors.push_with(|| unreachable!("nothing more is taken"));
        assert_eq!(made, errors.len());
    }
}
