//! Certificates for an etcd of a test, and for those who call it.
#![allow(dead_code)] // not every test needs everything

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

/// The PEM files of an authority, and of one certificate that it has signed: for servers on loopback and for clients.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut both = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        // etcd calls itself with its server's certificate.
        both.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let both = both.signed_by(&key, &authority).unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        write("ca.crt", authority.pem());
        write("both.crt", both.pem());
        write("both.key", key.serialize_pem());
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }

    pub fn authority(&self) -> PathBuf {
        self.file("ca.crt")
    }

    pub fn certificate(&self) -> PathBuf {
        self.file("both.crt")
    }

    pub fn key(&self) -> PathBuf {
        self.file("both.key")
    }

    /// What an etcd is started with that talks to nobody without a certificate of this authority.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            format!("--cert-file={}", self.certificate().display()),
            format!("--key-file={}", self.key().display()),
            format!("--trusted-ca-file={}", self.authority().display()),
            "--client-cert-auth".to_owned(),
        ]
    }
}
