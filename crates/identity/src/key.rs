//! A fresh private key and the request to have it signed.

use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Svid, SvidError};

/// The key never leaves the process but as part of the [`Svid`] it becomes.
pub struct KeyAndCsr {
    pkcs8: Zeroizing<Vec<u8>>,
    csr: Vec<u8>,
}

#[derive(Debug, Error)]
#[error("no key can be made")]
pub struct KeyError(#[from] rcgen::Error);

impl KeyAndCsr {
    pub fn generate() -> Result<Self, KeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        // Whoever signs decides the names.
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { pkcs8: Zeroizing::new(key.serialize_der()), csr })
    }

    /// PKCS#10, DER.
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// PKCS#8, DER, for a caller that keeps the key on disk.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// Joins the key with the chain that was signed for it; refuses a chain for another key.
    pub fn into_svid(self, chain: Vec<CertificateDer<'static>>) -> Result<Svid, SvidError> {
        Svid::new(chain, PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec())))
    }
}

impl fmt::Debug for KeyAndCsr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyAndCsr").finish_non_exhaustive()
    }
}
