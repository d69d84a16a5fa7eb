//! The ciphers of encryption at rest, in upstream's forms: what is random stands before what is encrypted.

use aes_gcm::{
    AesGcm, KeyInit,
    aead::{Aead, Payload, consts::U12},
};
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

const GCM_NONCE_BYTES: usize = 12;
const GCM_TAG_BYTES: usize = 16;
const CBC_BLOCK_BYTES: usize = 16;
const SECRETBOX_NONCE_BYTES: usize = 24;
const SECRETBOX_TAG_BYTES: usize = 16;

const SHORT: &str = "the stored data was shorter than the required size";
/// What Go's cipher says.
const FORGED: &str = "cipher: message authentication failed";

type Gcm<Aes> = AesGcm<Aes, U12>;

/// A cipher with its key.
pub enum Cipher {
    Gcm128(Box<Gcm<aes::Aes128>>),
    Gcm192(Box<Gcm<aes::Aes192>>),
    Gcm256(Box<Gcm<aes::Aes256>>),
    /// The key: 16, 24 or 32 bytes.
    Cbc(Vec<u8>),
    Secretbox(Box<crypto_secretbox::XSalsa20Poly1305>),
}

impl Cipher {
    /// None: the key has a length that the cipher does not take.
    pub fn gcm(key: &[u8]) -> Option<Self> {
        Some(match key.len() {
            16 => Self::Gcm128(Box::new(Gcm::new_from_slice(key).ok()?)),
            24 => Self::Gcm192(Box::new(Gcm::new_from_slice(key).ok()?)),
            _ => Self::Gcm256(Box::new(Gcm::new_from_slice(key).ok()?)),
        })
    }

    pub fn cbc(key: &[u8]) -> Option<Self> {
        matches!(key.len(), 16 | 24 | 32).then(|| Self::Cbc(key.to_vec()))
    }

    pub fn secretbox(key: &[u8]) -> Option<Self> {
        use crypto_secretbox::KeyInit;
        crypto_secretbox::XSalsa20Poly1305::new_from_slice(key).ok().map(|cipher| Self::Secretbox(Box::new(cipher)))
    }

    /// `name`: the key of the entry, which GCM binds the value to.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm128(cipher) => seal_gcm(&**cipher, name, plain),
            Self::Gcm192(cipher) => seal_gcm(&**cipher, name, plain),
            Self::Gcm256(cipher) => seal_gcm(&**cipher, name, plain),
            Self::Cbc(key) => seal_cbc(key, plain),
            Self::Secretbox(cipher) => {
                use crypto_secretbox::aead::Aead;
                let nonce: [u8; SECRETBOX_NONCE_BYTES] = rand::random();
                let sealed = cipher.encrypt(&nonce.into(), plain).map_err(|e| e.to_string())?;
                Ok([&nonce[..], &sealed].concat())
            }
        }
    }

    /// The error is upstream's.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Gcm128(cipher) => open_gcm(&**cipher, name, sealed),
            Self::Gcm192(cipher) => open_gcm(&**cipher, name, sealed),
            Self::Gcm256(cipher) => open_gcm(&**cipher, name, sealed),
            Self::Cbc(key) => open_cbc(key, sealed),
            Self::Secretbox(cipher) => {
                use crypto_secretbox::aead::Aead;
                let (nonce, rest) = sealed.split_first_chunk::<SECRETBOX_NONCE_BYTES>().ok_or(SHORT)?;
                if rest.len() < SECRETBOX_TAG_BYTES {
                    return Err(SHORT.to_owned());
                }
                let opened = cipher.decrypt(&(*nonce).into(), rest);
                opened.map_err(|_| "output array was not large enough for encryption".to_owned())
            }
        }
    }
}

fn seal_gcm<C: Aead<NonceSize = U12>>(cipher: &C, name: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
    let nonce: [u8; GCM_NONCE_BYTES] = rand::random();
    let sealed = cipher.encrypt(&nonce.into(), Payload { msg: plain, aad: name.as_bytes() });
    Ok([&nonce[..], &sealed.map_err(|e| e.to_string())?].concat())
}

fn open_gcm<C: Aead<NonceSize = U12>>(cipher: &C, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (nonce, rest) = sealed.split_first_chunk::<GCM_NONCE_BYTES>().ok_or(SHORT)?;
    if rest.len() < GCM_TAG_BYTES {
        return Err(FORGED.to_owned());
    }
    let opened = cipher.decrypt(&(*nonce).into(), Payload { msg: rest, aad: name.as_bytes() });
    opened.map_err(|_| FORGED.to_owned())
}

fn seal_cbc(key: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
    let iv: [u8; CBC_BLOCK_BYTES] = rand::random();
    let sealed = match key.len() {
        16 => cbc::Encryptor::<aes::Aes128>::new_from_slices(key, &iv).map(|c| c.encrypt_padded_vec::<Pkcs7>(plain)),
        24 => cbc::Encryptor::<aes::Aes192>::new_from_slices(key, &iv).map(|c| c.encrypt_padded_vec::<Pkcs7>(plain)),
        _ => cbc::Encryptor::<aes::Aes256>::new_from_slices(key, &iv).map(|c| c.encrypt_padded_vec::<Pkcs7>(plain)),
    };
    Ok([&iv[..], &sealed.map_err(|e| e.to_string())?].concat())
}

fn open_cbc(key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, String> {
    let (iv, rest) = sealed.split_first_chunk::<CBC_BLOCK_BYTES>().ok_or(SHORT)?;
    if !rest.len().is_multiple_of(CBC_BLOCK_BYTES) {
        return Err("the stored data is not a multiple of the block size".to_owned());
    }
    if rest.is_empty() {
        return Err("invalid PKCS7 data (empty or not padded)".to_owned());
    }
    let opened = match key.len() {
        16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(key, iv).map(|c| c.decrypt_padded_vec::<Pkcs7>(rest)),
        24 => cbc::Decryptor::<aes::Aes192>::new_from_slices(key, iv).map(|c| c.decrypt_padded_vec::<Pkcs7>(rest)),
        _ => cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv).map(|c| c.decrypt_padded_vec::<Pkcs7>(rest)),
    };
    opened.map_err(|e| e.to_string())?.map_err(|_| "invalid padding on input".to_owned())
}
