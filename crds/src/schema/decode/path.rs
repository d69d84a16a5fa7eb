//! Where in a text the decoder is: built on the stack, written out only when there is something to tell.

use crate::schema::{Field, Type};

#[derive(Clone, Copy)]
pub struct Path<'a> {
    pub parent: Option<&'a Path<'a>>,
    pub step: Step<'a>,
}

#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// A field and the type that has it.
    Field(&'a Field, &'a Type),
    Key(&'a str),
    Index(usize),
}

impl Path<'_> {
    /// How the strict decoder names a member of what is at the path: `spec.containers[0].gadget`.
    pub fn strict(path: Option<&Self>, name: &str) -> String {
        let mut out = String::new();
        if let Some(path) = path {
            path.write_strict(&mut out);
            out.push('.');
        }
        out.push_str(name);
        out
    }

    fn write_strict(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_strict(out);
        }
        let name = match self.step {
            Step::Field(field, _) => &*field.json,
            Step::Key(key) => key,
            Step::Index(at) => return out.push_str(&format!("[{at}]")),
        };
        if self.parent.is_some() {
            out.push('.');
        }
        out.push_str(name);
    }

    /// How Go names a field in an error: the innermost struct, and the fields on the way without indexes and keys.
    /// A field of an embedded struct has that struct's name before it.
    pub fn context(path: Option<&Self>) -> Option<(&str, String)> {
        let (mut owner, mut fields) = (None, Vec::new());
        let mut at = path;
        while let Some(path) = at {
            if let Step::Field(field, ty) = path.step {
                owner = owner.or(Some(&*ty.go));
                fields.push(&*field.json);
                fields.extend(field.embedded.as_deref());
            }
            at = path.parent;
        }
        fields.reverse();
        Some((owner?, fields.join(".")))
    }
}
