//! Lists: borrowed JSON arrays, or what an expression made; typed lists compare as their schema says.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{
    decl::{Decl, ListType},
    equality::equal,
    value::{EvalError, Outcome, Value},
};

/// A list.
#[derive(Clone, Debug)]
pub struct List<'a> {
    items: Items<'a>,
    /// The declaration of the list, where a schema gave it.
    decl: Option<&'a Decl>,
}

#[derive(Clone, Debug)]
enum Items<'a> {
    Json(&'a [Json]),
    Made(Arc<Vec<Value<'a>>>),
}

impl<'a> List<'a> {
    pub fn new(items: Vec<Value<'a>>) -> Self {
        Self { items: Items::Made(Arc::new(items)), decl: None }
    }

    /// An array whose declaration is that of the list itself, or the dynamic one.
    pub(crate) fn json(items: &'a [Json], decl: &'a Decl) -> Self {
        Self { items: Items::Json(items), decl: Some(decl).filter(|d| !d.is_dynamic()) }
    }

    pub fn len(&self) -> usize {
        match &self.items {
            Items::Json(items) => items.len(),
            Items::Made(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no schema types the list.
    pub(crate) fn is_plain(&self) -> bool {
        self.decl.is_none()
    }

    pub fn get(&self, index: usize) -> Option<Outcome<'a>> {
        match &self.items {
            Items::Json(items) => items.get(index).map(|item| match self.decl.and_then(Decl::item) {
                Some(decl) => decl.value(item),
                None => Ok(Value::json(item)),
            }),
            Items::Made(items) => items.get(index).cloned().map(Ok),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    fn collect(&self) -> Result<Vec<Value<'a>>, EvalError> {
        self.iter().collect()
    }

    fn list_type(&self) -> &ListType {
        self.decl.map_or(&ListType::Atomic, Decl::list_type)
    }

    /// The list with one value more; cheap where nobody else holds the list.
    pub(crate) fn push(mut self, value: Value<'a>) -> Result<Self, EvalError> {
        if let Items::Json(_) = self.items {
            self.items = Items::Made(Arc::new(self.collect()?));
        }
        if let Items::Made(items) = &mut self.items {
            Arc::make_mut(items).push(value);
        }
        Ok(self)
    }

    /// Both lists in one: sets take what they lack, maps replace what has the same key.
    pub(crate) fn concat(self, other: &Self) -> Result<Self, EvalError> {
        if self.is_plain() && self.is_empty() {
            return Ok(other.clone());
        }
        if other.is_empty() {
            return Ok(self);
        }
        let decl = self.decl;
        let list_type = self.list_type().clone();
        let mut items = match self.items {
            Items::Made(items) => Arc::unwrap_or_clone(items),
            Items::Json(_) => self.collect()?,
        };
        for item in other.iter() {
            let item = item?;
            match &list_type {
                ListType::Set if items.iter().any(|known| matches!(equal(known, &item), Ok(true))) => {}
                ListType::Map(keys) => match items.iter_mut().find(|known| same_key(known, &item, keys)) {
                    Some(known) => *known = item,
                    None => items.push(item),
                },
                _ => items.push(item),
            }
        }
        Ok(Self { items: Items::Made(Arc::new(items)), decl })
    }

    pub(crate) fn contains(&self, value: &Value<'a>) -> Result<bool, EvalError> {
        let mut failed = None;
        for item in self.iter() {
            match item.and_then(|item| equal(&item, value)) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if !self.is_plain() => failed = failed.or(Some(error)),
                Err(_) => {}
            }
        }
        failed.map_or(Ok(false), Err)
    }

    pub(crate) fn equals(&self, other: &Self) -> Result<bool, EvalError> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match self.list_type() {
            ListType::Atomic => {
                for (one, other) in self.iter().zip(other.iter()) {
                    match equal(&one?, &other?) {
                        Ok(true) => {}
                        // Lists without a schema go on over what cannot be compared, as upstream's do.
                        Err(_) if self.is_plain() => {}
                        different => return different,
                    }
                }
                Ok(true)
            }
            ListType::Set => {
                for item in other.iter() {
                    if !self.contains(&item?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            ListType::Map(keys) => {
                let known = self.collect()?;
                for item in other.iter() {
                    let item = item?;
                    let Some(same) = known.iter().rfind(|known| same_key(known, &item, keys)) else {
                        return Ok(false);
                    };
                    if !equal(same, &item)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

fn same_key(one: &Value<'_>, other: &Value<'_>, keys: &[Arc<str>]) -> bool {
    let (Value::Map(one), Value::Map(other)) = (one, other) else {
        return false;
    };
    keys.iter().all(|key| match (one.field(key), other.field(key)) {
        (Some(Ok(one)), Some(Ok(other))) => matches!(equal(&one, &other), Ok(true)),
        (None, None) => true,
        _ => false,
    })
}
