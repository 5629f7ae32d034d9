//! An identity as its holder has it, and the roots it is judged by.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use thiserror::Error;
use weft_types::{SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::{PeerError, ca, limits, peer_id, provider};

/// One X.509-SVID with its key: of a workload or of a node. Made by [`Svid::new`], which checks that its parts belong together.
#[non_exhaustive]
pub struct Svid {
    pub id: SpiffeId,
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Zeroizing<PrivateKeyDer<'static>>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Hex.
    pub serial: String,
    certified: Arc<CertifiedKey>,
}

#[derive(Debug, Error)]
pub enum SvidError {
    #[error("certificate chain is empty, or longer than {max} certificates of {bytes} bytes", max = limits::CHAIN_MAX, bytes = limits::CERTIFICATE_MAX_BYTES)]
    Size,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("certificate and key do not belong together")]
    Key(#[source] rustls::Error),
}

impl Svid {
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, SvidError> {
        if chain.is_empty() || chain.len() > limits::CHAIN_MAX || chain.iter().any(|c| c.len() > limits::CERTIFICATE_MAX_BYTES) {
            return Err(SvidError::Size);
        }
        let id = peer_id(&chain)?;
        let (_, parsed) = X509Certificate::from_der(&chain[0]).map_err(|_| PeerError::Unreadable)?;
        let (not_before, not_after) = (parsed.validity().not_before.to_datetime().into(), parsed.validity().not_after.to_datetime().into());
        let serial = ca::hex(parsed.raw_serial());
        let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()).map_err(SvidError::Key)?;
        Ok(Self { id, chain, key: Zeroizing::new(key), not_before, not_after, serial, certified: Arc::new(certified) })
    }

    /// Serial number (hex) and end of a certificate that somebody else holds.
    pub fn describe(certificate: &CertificateDer<'_>) -> Result<(String, SystemTime), PeerError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Unreadable)?;
        Ok((ca::hex(parsed.raw_serial()), parsed.validity().not_after.to_datetime().into()))
    }

    /// For a resolver that presents this SVID.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Svid").field("id", &self.id.to_string()).field("serial", &self.serial).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The roots of one trust domain.
#[derive(Clone, Debug)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    certificates: Vec<CertificateDer<'static>>,
    anchors: Arc<[TrustAnchor<'static>]>,
}

#[derive(Debug, Error)]
pub enum BundleError {
    #[error("trust bundle of {0} holds no root")]
    Empty(TrustDomain),
    #[error("trust bundle of {0} holds more than {max} roots", max = limits::BUNDLE_MAX)]
    TooMany(TrustDomain),
    #[error("trust bundle of {trust_domain}: root {index} is no certificate")]
    Root { trust_domain: TrustDomain, index: usize, source: webpki::Error },
}

impl TrustBundle {
    pub fn new(trust_domain: TrustDomain, certificates: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        match certificates.len() {
            0 => return Err(BundleError::Empty(trust_domain)),
            n if n > limits::BUNDLE_MAX => return Err(BundleError::TooMany(trust_domain)),
            _ => {}
        }
        let mut anchors = Vec::with_capacity(certificates.len());
        for (index, certificate) in certificates.iter().enumerate() {
            match webpki::anchor_from_trusted_cert(certificate) {
                Ok(anchor) => anchors.push(anchor.to_owned()),
                Err(source) => return Err(BundleError::Root { trust_domain, index, source }),
            }
        }
        Ok(Self { trust_domain, certificates, anchors: anchors.into() })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(crate) fn anchors(&self) -> &Arc<[TrustAnchor<'static>]> {
        &self.anchors
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && self.certificates == other.certificates
    }
}

impl Eq for TrustBundle {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Ca, KeyAndCsr};

    #[test]
    fn a_chain_for_another_key_is_refused_and_no_key_is_printed() {
        let domain: TrustDomain = "corp.example".parse().unwrap();
        let now = SystemTime::now();
        let ca = Ca::create(&domain, now).unwrap().ca;
        let id: SpiffeId = "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap();
        let (mine, other) = (KeyAndCsr::generate().unwrap(), KeyAndCsr::generate().unwrap());
        let chain = ca.sign(mine.csr(), &id, now, Duration::from_secs(3600)).unwrap().chain;
        assert!(matches!(other.into_svid(chain.clone()), Err(SvidError::Key(_))));
        let svid = mine.into_svid(chain).unwrap();
        assert_eq!(svid.id, id);
        let printed = format!("{svid:?}");
        assert!(printed.contains("shop/sa/orders") && !printed.to_lowercase().contains("key"), "{printed}");
    }

    #[test]
    fn a_bundle_needs_readable_roots() {
        let domain: TrustDomain = "corp.example".parse().unwrap();
        assert!(matches!(TrustBundle::new(domain.clone(), vec![]), Err(BundleError::Empty(_))));
        assert!(matches!(TrustBundle::new(domain.clone(), vec![vec![1, 2, 3].into()]), Err(BundleError::Root { index: 0, .. })));
        let root = Ca::create(&domain, SystemTime::now()).unwrap().ca.certificate().clone();
        assert!(matches!(TrustBundle::new(domain.clone(), vec![root.clone(); limits::BUNDLE_MAX + 1]), Err(BundleError::TooMany(_))));
        assert!(TrustBundle::new(domain, vec![root]).is_ok());
    }
}
