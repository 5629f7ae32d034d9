//! DER to PEM and back (RFC 7468). A file holds a PKCS#8 key, then its chain.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use weft_identity::{Svid, TrustBundle};
use zeroize::Zeroizing;

/// Certificates alone, leaf first.
pub fn chain<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    certificates.into_iter().map(|c| block("CERTIFICATE", c)).collect()
}

/// Key and chain. The text is a secret.
pub(super) fn svid(svid: &Svid) -> Zeroizing<String> {
    let mut text = Zeroizing::new(block("PRIVATE KEY", svid.key.secret_der()));
    text.push_str(&chain(&svid.chain));
    text
}

pub(super) fn bundle(bundle: &TrustBundle) -> String {
    chain(bundle.certificates())
}

#[derive(Debug, thiserror::Error)]
pub enum PemError {
    #[error("is no PEM")]
    Syntax(#[source] rustls_pki_types::pem::Error),
    #[error("does not belong together")]
    Svid(#[from] weft_identity::SvidError),
}

pub(super) fn read_svid(text: &[u8]) -> Result<Svid, PemError> {
    let key = PrivateKeyDer::from_pem_slice(text).map_err(PemError::Syntax)?;
    Ok(Svid::new(read_chain(text)?, key)?)
}

pub(super) fn read_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(PemError::Syntax)
}

fn block(label: &str, der: &[u8]) -> String {
    let encoded = Zeroizing::new(STANDARD.encode(der));
    // Reserved whole, so that no half of a key stays behind in a buffer that grew.
    let mut text = String::with_capacity(encoded.len() + encoded.len() / 64 + 2 * label.len() + 40);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest: &str = &encoded;
    while !rest.is_empty() {
        let (line, next) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = next;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
