//! Who a certificate says it is, and why it is not believed.

use rustls::{CertificateError, OtherError};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use weft_types::{SpiffeError, SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a peer's certificate is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PeerError {
    #[error("peer presents no certificate")]
    None,
    #[error("peer presents something that is no certificate")]
    Unreadable,
    #[error("peer's certificate names no SPIFFE ID")]
    NoUri,
    #[error("peer's certificate names {0} URIs, an SVID names exactly one")]
    ManyUris(usize),
    #[error(transparent)]
    Id(#[from] SpiffeError),
    #[error("peer presents the node identity {0}, which no tunnel accepts")]
    NodeShape(SpiffeId),
    #[error("peer presents the workload identity {0} where only nodes are served")]
    WorkloadShape(SpiffeId),
    #[error("peer presents {id}, which is not of the trust domain {own}")]
    Foreign { id: Box<SpiffeId>, own: TrustDomain },
    #[error("peer presents {presented}, expected is {expected}")]
    Unexpected { expected: Box<SpiffeId>, presented: Box<SpiffeId> },
    #[error("peer presents {0}, which is not the IAM bridge: is the address the bridge's?")]
    NotTheBridge(SpiffeId),
    #[error("no certificate of the peer has the fingerprint of the join token: the address belongs to another mesh, or the bridge has a new CA")]
    Fingerprint,
    #[error("the certificate of {id} is refused: {}", explain(.source))]
    Chain { id: Box<SpiffeId>, source: webpki::Error },
}

/// The identity of a verified chain, leaf first. It checks names only: rustls has verified the chain by the time anybody can ask.
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, PeerError> {
    let leaf = chain.first().ok_or(PeerError::None)?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| PeerError::Unreadable)?;
    match uris(&parsed)[..] {
        [] => Err(PeerError::NoUri),
        [uri] => Ok(uri.parse()?),
        ref many => Err(PeerError::ManyUris(many.len())),
    }
}

/// Why one of this crate's verifiers refused, if `error` is of its making.
pub fn peer_error(error: &rustls::Error) -> Option<&PeerError> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => inner.downcast_ref(),
        _ => None,
    }
}

/// Every URI of the certificate, readable or not as an identity.
pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> Vec<&'a str> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uri = |name: &'a GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

fn explain(error: &webpki::Error) -> String {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => "it has expired: its renewal failed, or one of the two clocks is wrong".into(),
        E::CertNotValidYet { .. } => "it is not valid yet: one of the two clocks is wrong".into(),
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => "it was signed by another CA".into(),
        other => format!("{other:?}"),
    }
}
