//! Tokens from a file: `token,user,uid,"group1,group2"`, one a line.

use std::{collections::HashMap, sync::Arc};

use crds::user::User;
use sha2::{Digest, Sha256};

use super::with_authenticated;

#[derive(Debug, thiserror::Error)]
pub enum StaticTokenError {
    #[error("line {line} of the token file must have at least 3 columns (token, user name, user uid), found {found}")]
    Columns { line: usize, found: usize },
    #[error("line {0} of the token file has no token")]
    Empty(usize),
}

/// Keyed by a digest: comparing tokens must not tell how much of one was right.
#[derive(Default)]
pub struct StaticTokens {
    users: HashMap<[u8; 32], Arc<User>>,
}

impl StaticTokens {
    pub fn parse(text: &str) -> Result<Self, StaticTokenError> {
        let mut users = HashMap::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let columns = columns(line);
            let [token, name, uid, groups @ ..] = columns.as_slice() else {
                return Err(StaticTokenError::Columns { line: i + 1, found: columns.len() });
            };
            if token.is_empty() {
                return Err(StaticTokenError::Empty(i + 1));
            }
            let groups = groups.first().map(String::as_str).unwrap_or_default();
            let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect();
            let user = User { name: name.clone(), uid: uid.clone(), groups, ..User::default() };
            users.insert(Sha256::digest(token).into(), Arc::new(with_authenticated(user)));
        }
        Ok(Self { users })
    }

    pub fn find(&self, token: &str) -> Option<Arc<User>> {
        if self.users.is_empty() {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.users.get(&digest).cloned()
    }
}

/// The columns of a line of CSV; quotes keep commas together.
fn columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            c => columns.iter_mut().last().into_iter().for_each(|column| column.push(c)),
        }
    }
    columns.iter().map(|c| c.trim().to_owned()).collect()
}
