//! Optional fields as Go reads them: what is absent is empty.

pub trait Text {
    fn text(&self) -> &str;
    /// Fills in what is absent or empty.
    fn or_set(&mut self, value: &str);
}

impl Text for Option<String> {
    fn text(&self) -> &str {
        self.as_deref().unwrap_or("")
    }

    fn or_set(&mut self, value: &str) {
        if self.text().is_empty() {
            *self = Some(value.to_owned());
        }
    }
}

pub trait Items {
    type Item;
    fn items(&self) -> &[Self::Item];
}

impl<T> Items for Option<Vec<T>> {
    type Item = T;

    fn items(&self) -> &[T] {
        self.as_deref().unwrap_or_default()
    }
}

pub trait Number: Sized {
    fn or_set_nonzero(&mut self, value: i32);
}

impl Number for Option<i32> {
    fn or_set_nonzero(&mut self, value: i32) {
        if self.unwrap_or(0) == 0 {
            *self = Some(value);
        }
    }
}
