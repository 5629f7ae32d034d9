//! rustls configurations: TLS 1.3 alone, hybrid post-quantum key exchange first, both ends known by their SVIDs, nothing resumed.

use std::sync::Arc;

use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite, kx_group},
    },
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};
use weft_types::{SpiffeId, TrustDomain};

use crate::{
    Svid, TrustBundle,
    verify::{Verifier, Welcome},
};

const BRIDGE_NAMESPACE: &str = "weft-system";
const BRIDGE_ACCOUNT: &str = "iam-bridge";

/// The one cryptography of weft. AES-128 first: it is a tenth faster than AES-256 and no weaker link than P-256; X25519 alone stays for peers without
/// the hybrid group, which TLS 1.3 protects against a downgrade.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}

/// The bridge's own identity in a trust domain.
pub fn bridge_id(trust_domain: &TrustDomain) -> SpiffeId {
    SpiffeId::Workload {
        trust_domain: trust_domain.clone(),
        namespace: BRIDGE_NAMESPACE.parse().expect("a label"),
        service_account: BRIDGE_ACCOUNT.parse().expect("a label"),
    }
}

/// Is this the bridge of its trust domain?
pub fn is_bridge(id: &SpiffeId) -> bool {
    *id == bridge_id(id.trust_domain())
}

/// Presents `svid` and accepts a server that is exactly `expected`.
pub fn client_config(svid: &Svid, bundle: &TrustBundle, expected: &SpiffeId, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let verifier = Verifier::new(bundle, Welcome::Only(expected.clone()), true);
    finish_client(client(verifier).with_client_cert_resolver(Arc::new(FixedSvid(svid.certified_key()))), alpn)
}

/// For a node that joins: presents nothing and accepts the bridge whose CA has this SHA-256, which the join token carries.
pub fn join_client_config(ca_sha256: [u8; 32], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    finish_client(client(Verifier::pinned(ca_sha256)).with_no_client_auth(), alpn)
}

/// The accepting end of a tunnel: `resolver` chooses the SVID by server name, the client must be a workload of the bundle's trust domain.
pub fn server_config(resolver: Arc<dyn ResolvesServerCert>, bundle: &TrustBundle, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    server(Verifier::new(bundle, Welcome::Workloads(bundle.trust_domain().clone()), true), resolver, alpn)
}

/// The bridge's end: a client is a node of the bundle's trust domain, or presents nothing, which is enough to join and for nothing else.
pub fn bridge_server_config(resolver: Arc<dyn ResolvesServerCert>, bundle: &TrustBundle, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    server(Verifier::new(bundle, Welcome::Nodes(bundle.trust_domain().clone()), false), resolver, alpn)
}

/// A resolver with one SVID, whatever the server name.
#[derive(Debug)]
pub struct FixedSvid(pub Arc<CertifiedKey>);

impl ResolvesServerCert for FixedSvid {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

impl ResolvesClientCert for FixedSvid {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn client(verifier: Arc<Verifier>) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites and groups")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
}

fn finish_client(mut config: ClientConfig, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    // A resumed session would skip the verifier, and so outlive the SVID it was made with.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn server(verifier: Arc<Verifier>, resolver: Arc<dyn ResolvesServerCert>, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites and groups")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}
