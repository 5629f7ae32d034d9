//! The two keys of the mesh that last: its CA's and the one that snapshots are signed with. Made on first start, kept as PEM in the state directory.

use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use tracing::info;
use weft_identity::{Ca, NewCa};
use weft_snapshot::SigningKey;
use weft_types::TrustDomain;
use zeroize::Zeroizing;

use crate::files::StateDir;

/// Key and certificate in one file, so that no crash leaves one without the other.
const CA: &str = "ca.pem";
const SNAPSHOT: &str = "snapshot-key.pem";

/// Loads the mesh CA, or makes it.
pub(crate) fn ca(state: &StateDir, trust_domain: &TrustDomain, now: SystemTime) -> Result<Ca> {
    let path = state.file(CA);
    if let Some(pem) = state.read_secret(CA)? {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).with_context(|| format!("{} holds no private key", path.display()))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).with_context(|| format!("{} holds no certificate", path.display()))?;
        let ca = Ca::load(trust_domain, certificate, key.secret_pkcs8_der())
            .with_context(|| format!("{} is not usable for the trust domain of the catalog's Mesh document", path.display()))?;
        if ca.not_after() <= now {
            bail!("the mesh CA {} has expired: move it away to make a new one, and let every node join again", path.display());
        }
        return Ok(ca);
    }
    let NewCa { ca, pkcs8 } = Ca::create(trust_domain, now)?;
    let file = Zeroizing::new([pem("PRIVATE KEY", &pkcs8).as_str(), pem("CERTIFICATE", ca.certificate()).as_str()].concat());
    state.write_secret(CA, file.as_bytes())?;
    info!(file = %path.display(), %trust_domain, "made a new mesh CA");
    Ok(ca)
}

/// Loads the key that snapshots are signed with, or makes it.
pub(crate) fn snapshot_key(state: &StateDir) -> Result<SigningKey> {
    let path = state.file(SNAPSHOT);
    if let Some(pem) = state.read_secret(SNAPSHOT)? {
        let key = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).with_context(|| format!("{} holds no private key", path.display()))?;
        return SigningKey::from_pkcs8(key.secret_pkcs8_der()).with_context(|| format!("{} is not usable", path.display()));
    }
    let (key, pkcs8) = SigningKey::generate()?;
    let pkcs8 = Zeroizing::new(pkcs8);
    state.write_secret(SNAPSHOT, pem("PRIVATE KEY", &pkcs8).as_bytes())?;
    info!(file = %path.display(), id = key.id(), "made a new key for snapshots");
    Ok(key)
}

/// RFC 7468.
pub(crate) fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|b| *b as char));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let (domain, now) = ("corp.example".parse().unwrap(), SystemTime::now());
        let first = (ca(&state, &domain, now).unwrap().fingerprint(), snapshot_key(&state).unwrap().id().to_owned());
        let second = (ca(&state, &domain, now).unwrap().fingerprint(), snapshot_key(&state).unwrap().id().to_owned());
        assert_eq!(first, second);
        let error = format!("{:#}", ca(&state, &"other.example".parse().unwrap(), now).unwrap_err());
        assert!(error.contains("trust domain"), "{error}");
        let error = format!("{:#}", ca(&state, &domain, now + weft_identity::limits::CA_TTL).unwrap_err());
        assert!(error.contains("expired"), "{error}");
    }
}
