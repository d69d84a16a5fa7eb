//! The providers of a resource, in their order: the first writes, whichever has the right prefix and key reads.

use bytes::Bytes;

use super::{Read, cipher::Cipher};
use crate::authorize::aggregate;

/// Before everything that is encrypted, whichever the provider.
const ENCRYPTED: &[u8] = b"k8s:enc:";

pub enum Provider {
    /// Not encrypted.
    Identity,
    Keys(Keys),
}

pub struct Keys {
    /// `k8s:enc:aesgcm:v1:`
    pub prefix: &'static str,
    /// `AES` or `Secretbox`, as upstream names it when no key is the right one.
    pub called: &'static str,
    /// With their names; the first writes.
    pub keys: Vec<(String, Cipher)>,
}

/// The providers of a resource.
pub struct Transformer {
    providers: Vec<Provider>,
    /// What is said when no provider knows the form.
    unmatched: &'static str,
}

impl Transformer {
    /// Of resources that the configuration does not name.
    pub const PLAIN: Self =
        Self { providers: Vec::new(), unmatched: "identity transformer tried to read encrypted data" };

    pub fn new(providers: Vec<Provider>) -> Self {
        Self { providers, unmatched: "no matching prefix found" }
    }

    /// None: it is stored as it is.
    pub fn write(&self, name: &str, plain: &[u8]) -> Result<Option<Bytes>, String> {
        let Some(Provider::Keys(keys)) = self.providers.first() else { return Ok(None) };
        let Some((key, cipher)) = keys.keys.first() else { return Ok(None) };
        let head = format!("{}{key}:", keys.prefix);
        Ok(Some([head.as_bytes(), &cipher.seal(name, plain)?].concat().into()))
    }

    /// The error is upstream's.
    pub fn read(&self, name: &str, stored: &[u8]) -> Result<Read, String> {
        let encrypted = stored.starts_with(ENCRYPTED);
        if self.providers.is_empty() && !encrypted {
            return Ok(Read { plain: None, stale: false });
        }
        let mut errors = Vec::new();
        for (i, provider) in self.providers.iter().enumerate() {
            match provider {
                Provider::Identity if encrypted => {}
                Provider::Identity => return Ok(Read { plain: None, stale: i != 0 }),
                Provider::Keys(keys) => {
                    let Some(rest) = stored.strip_prefix(keys.prefix.as_bytes()) else { continue };
                    match keys.open(name, rest) {
                        Ok((plain, at)) => return Ok(Read { plain: Some(plain.into()), stale: i != 0 || at != 0 }),
                        Err(why) => errors.push(why),
                    }
                }
            }
        }
        Err(if errors.is_empty() { self.unmatched.to_owned() } else { aggregate(&errors) })
    }
}

impl Keys {
    /// What it says, and which key has opened it.
    fn open(&self, name: &str, rest: &[u8]) -> Result<(Vec<u8>, usize), String> {
        let mut errors = Vec::new();
        for (i, (key, cipher)) in self.keys.iter().enumerate() {
            let sealed = rest.strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
            match sealed.map(|sealed| cipher.open(name, sealed)) {
                None => {}
                Some(Ok(plain)) => return Ok((plain, i)),
                Some(Err(why)) => errors.push(why),
            }
        }
        if errors.is_empty() {
            return Err(format!("no matching key was found for the provided {} transformer", self.called));
        }
        Err(aggregate(&errors))
    }
}
