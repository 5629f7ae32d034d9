//! The judges that rustls asks: chain to the bundle's roots, exactly one SPIFFE ID, and that ID one that is welcome here.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use weft_types::{SpiffeId, TrustDomain};

use crate::{PeerError, TrustBundle, ca, is_bridge, limits, peer_id, provider};

/// Whom a verifier lets in, once the chain holds.
#[derive(Clone, Debug)]
pub(crate) enum Welcome {
    /// Exactly this one.
    Only(SpiffeId),
    /// Any workload of the trust domain: a tunnel's accepting end. Policy judges it later.
    Workloads(TrustDomain),
    /// Any node of the trust domain: the bridge.
    Nodes(TrustDomain),
    /// The IAM bridge of whatever trust domain the pinned root has: a node that joins.
    Bridge,
}

/// Where the roots come from.
#[derive(Clone, Debug)]
enum Roots {
    Bundle(Arc<[TrustAnchor<'static>]>),
    /// The certificate that the peer sends along, if it has this SHA-256.
    Pinned([u8; 32]),
}

#[derive(Debug)]
pub(crate) struct Verifier {
    roots: Roots,
    welcome: Welcome,
    /// As a server: a client without a certificate is refused.
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(crate) fn new(bundle: &TrustBundle, welcome: Welcome, mandatory: bool) -> Arc<Self> {
        Arc::new(Self { roots: Roots::Bundle(bundle.anchors().clone()), welcome, mandatory, algorithms: provider().signature_verification_algorithms })
    }

    pub(crate) fn pinned(root_sha256: [u8; 32]) -> Arc<Self> {
        let algorithms = provider().signature_verification_algorithms;
        Arc::new(Self { roots: Roots::Pinned(root_sha256), welcome: Welcome::Bridge, mandatory: true, algorithms })
    }

    fn judge(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime, usage: KeyUsage) -> Result<(), PeerError> {
        if rest.len() > limits::CHAIN_MAX || leaf.len() > limits::CERTIFICATE_MAX_BYTES {
            return Err(PeerError::Unreadable);
        }
        let id = peer_id(std::slice::from_ref(leaf))?;
        match &self.roots {
            Roots::Bundle(anchors) => self.verify_chain(leaf, rest, anchors, now, usage, &id)?,
            Roots::Pinned(hash) => {
                let root = rest.iter().find(|c| ca::fingerprint(c) == *hash).ok_or(PeerError::Fingerprint)?;
                let anchor = webpki::anchor_from_trusted_cert(root).map_err(|_| PeerError::Unreadable)?;
                self.verify_chain(leaf, rest, &[anchor], now, usage, &id)?;
            }
        }
        self.welcome.check(id)
    }

    fn verify_chain(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        anchors: &[TrustAnchor<'_>],
        now: UnixTime,
        usage: KeyUsage,
        id: &SpiffeId,
    ) -> Result<(), PeerError> {
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| PeerError::Unreadable)?;
        let verified = leaf.verify_for_usage(self.algorithms.all, anchors, rest, now, usage, None, None);
        verified.map(drop).map_err(|source| PeerError::Chain { id: Box::new(id.clone()), source })
    }
}

impl Welcome {
    fn check(&self, id: SpiffeId) -> Result<(), PeerError> {
        let own = |domain: &TrustDomain, id: SpiffeId| {
            if id.trust_domain() == domain { Ok(()) } else { Err(PeerError::Foreign { id: Box::new(id), own: domain.clone() }) }
        };
        match self {
            Self::Only(expected) if id == *expected => Ok(()),
            Self::Only(expected) => Err(PeerError::Unexpected { expected: Box::new(expected.clone()), presented: Box::new(id) }),
            Self::Workloads(_) if !id.is_workload() => Err(PeerError::NodeShape(id)),
            Self::Nodes(_) if id.is_workload() => Err(PeerError::WorkloadShape(id)),
            Self::Workloads(domain) | Self::Nodes(domain) => own(domain, id),
            Self::Bridge if is_bridge(&id) => Ok(()),
            Self::Bridge => Err(PeerError::NotTheBridge(id)),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(leaf, rest, now, KeyUsage::server_auth()).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: a client has one SVID to present, and names of roots only make the handshake longer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<ClientCertVerified, rustls::Error> {
        self.judge(leaf, rest, now, KeyUsage::client_auth()).map_err(refuse)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn refuse(error: PeerError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}
