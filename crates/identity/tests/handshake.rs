//! Handshakes in memory: who is let in, who is not, and with which key exchange. Every refusal stands beside a control that differs in one thing.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ServerConfig, ServerConnection, pki_types::ServerName};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use weft_identity::{
    Ca, FixedSvid, KeyAndCsr, NewCa, PeerError, Svid, TrustBundle, bridge_id, bridge_server_config, client_config, join_client_config, peer_error, peer_id,
    server_config,
};
use weft_types::{SpiffeId, TrustDomain};

const ALPN: &[&[u8]] = &[b"weft/1"];
const DAY: Duration = Duration::from_secs(86_400);

/// One mesh with its CA.
struct Mesh {
    new: NewCa,
    bundle: TrustBundle,
}

impl Mesh {
    fn new(domain: &str) -> Self {
        let domain: TrustDomain = domain.parse().unwrap();
        let new = Ca::create(&domain, SystemTime::now() - 2 * DAY).unwrap();
        let bundle = new.ca.bundle().unwrap();
        Self { new, bundle }
    }

    fn svid(&self, path: &str) -> Svid {
        self.svid_at(path, SystemTime::now())
    }

    fn svid_at(&self, path: &str, now: SystemTime) -> Svid {
        let key = KeyAndCsr::generate().unwrap();
        let signed = self.new.ca.sign(key.csr(), &self.id(path), now, DAY / 24).unwrap();
        key.into_svid(signed.chain).unwrap()
    }

    fn id(&self, path: &str) -> SpiffeId {
        format!("spiffe://{}/{path}", self.new.ca.trust_domain()).parse().unwrap()
    }

    /// The chain with the root, as the bridge presents it.
    fn bridge(&self) -> Svid {
        let key = KeyAndCsr::generate().unwrap();
        let mut chain = self.new.ca.sign(key.csr(), &bridge_id(self.new.ca.trust_domain()), SystemTime::now(), DAY).unwrap().chain;
        chain.push(self.new.ca.certificate().clone());
        key.into_svid(chain).unwrap()
    }

    /// What our own CA code never makes, as TLS key material: a leaf with these URIs.
    fn forged(&self, uris: &[String]) -> FixedSvid {
        let issuer_key = KeyPair::try_from(self.new.pkcs8.as_slice()).unwrap();
        let issuer = Issuer::from_ca_cert_der(self.new.ca.certificate(), issuer_key).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|u| SanType::URI(u.clone().try_into().unwrap())).collect();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = vec![params.signed_by(&key, &issuer).unwrap().der().clone()];
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        FixedSvid(Arc::new(rustls::sign::CertifiedKey::from_der(chain, der, &weft_identity::provider()).unwrap()))
    }
}

/// What both ends know after a handshake.
#[derive(Debug)]
struct Met {
    group: NamedGroup,
    suite: rustls::CipherSuite,
    server: SpiffeId,
    client: Option<SpiffeId>,
    resumed: bool,
}

fn shake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Result<Met, rustls::Error> {
    let name = ServerName::try_from("orders.shop.weft.internal").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let mut wire = Vec::new();
    // The client's refusal comes first where both refuse; a server's refusal comes after the client is done.
    for _ in 0..10 {
        wire.clear();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        feed(&mut |bytes| server.read_tls(bytes), &wire);
        let judged = server.process_new_packets();
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        feed(&mut |bytes| client.read_tls(bytes), &wire);
        let seen = client.process_new_packets();
        match (judged, seen) {
            (Err(rustls::Error::AlertReceived(_)), Err(mine)) | (Ok(_), Err(mine)) => return Err(mine),
            (Err(theirs), _) => return Err(theirs),
            (Ok(_), Ok(_)) => {}
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(server.negotiated_key_exchange_group().unwrap().name(), group);
    assert_eq!(client.alpn_protocol(), server.alpn_protocol());
    Ok(Met {
        group,
        suite: client.negotiated_cipher_suite().unwrap().suite(),
        server: peer_id(client.peer_certificates().unwrap()).unwrap(),
        client: server.peer_certificates().map(|c| peer_id(c).unwrap()),
        resumed: client.handshake_kind() == Some(HandshakeKind::Resumed),
    })
}

fn feed(read: &mut dyn FnMut(&mut dyn std::io::Read) -> std::io::Result<usize>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        read(&mut bytes).unwrap();
    }
}

fn refused(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> PeerError {
    let error = shake(client, server).unwrap_err();
    peer_error(&error).unwrap_or_else(|| panic!("refused for another reason: {error:?}")).clone()
}

fn accepting(svid: &Svid, bundle: &TrustBundle) -> Arc<ServerConfig> {
    server_config(Arc::new(FixedSvid(svid.certified_key())), bundle, ALPN)
}

#[test]
fn two_workloads_meet_over_the_hybrid_group() {
    let mesh = Mesh::new("corp.example");
    let (storefront, orders) = (mesh.svid("ns/shop/sa/storefront"), mesh.svid("ns/shop/sa/orders"));
    let client = client_config(&storefront, &mesh.bundle, &orders.id, ALPN);
    let server = accepting(&orders, &mesh.bundle);
    for _ in 0..2 {
        let met = shake(&client, &server).unwrap();
        assert_eq!(met.group, NamedGroup::X25519MLKEM768);
        assert_eq!(met.suite, rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!((met.server, met.client), (orders.id.clone(), Some(storefront.id.clone())));
        assert!(!met.resumed);
    }
}

#[test]
fn a_client_accepts_exactly_the_expected_server() {
    let mesh = Mesh::new("corp.example");
    let storefront = mesh.svid("ns/shop/sa/storefront");
    let server = accepting(&mesh.svid("ns/shop/sa/orders"), &mesh.bundle);
    let dial = |path: &str| client_config(&storefront, &mesh.bundle, &mesh.id(path), ALPN);
    assert!(shake(&dial("ns/shop/sa/orders"), &server).is_ok());
    for other in ["ns/shop/sa/order", "ns/shop2/sa/orders", "node/orders"] {
        assert!(matches!(refused(&dial(other), &server), PeerError::Unexpected { .. }), "{other}");
    }
}

#[test]
fn expired_and_early_certificates_are_refused_on_both_sides() {
    let mesh = Mesh::new("corp.example");
    let (now, id) = (SystemTime::now(), mesh.id("ns/shop/sa/orders"));
    let good = mesh.svid("ns/shop/sa/orders");
    let client = |svid: &Svid| client_config(svid, &mesh.bundle, &id, ALPN);
    assert!(shake(&client(&good), &accepting(&good, &mesh.bundle)).is_ok());
    for (bad, word) in [(mesh.svid_at("ns/shop/sa/orders", now - DAY), "expired"), (mesh.svid_at("ns/shop/sa/orders", now + DAY), "not valid yet")] {
        for error in [refused(&client(&bad), &accepting(&good, &mesh.bundle)), refused(&client(&good), &accepting(&bad, &mesh.bundle))] {
            assert!(matches!(error, PeerError::Chain { .. }) && error.to_string().contains(word), "{error}");
        }
    }
}

#[test]
fn another_ca_is_refused_on_both_sides() {
    let (mesh, other) = (Mesh::new("corp.example"), Mesh::new("corp.example"));
    let (good, bad) = (mesh.svid("ns/shop/sa/orders"), other.svid("ns/shop/sa/orders"));
    let client = |svid: &Svid| client_config(svid, &mesh.bundle, &good.id, ALPN);
    assert!(shake(&client(&good), &accepting(&good, &mesh.bundle)).is_ok());
    for error in [refused(&client(&bad), &accepting(&good, &mesh.bundle)), refused(&client(&good), &accepting(&bad, &mesh.bundle))] {
        assert!(error.to_string().contains("another CA"), "{error}");
    }
    // While a CA is rolled, both hold.
    let roots = [mesh.bundle.certificates(), other.bundle.certificates()].concat();
    let both = TrustBundle::new("corp.example".parse().unwrap(), roots).unwrap();
    assert!(shake(&client(&good), &accepting(&good, &both)).is_ok());
    assert!(shake(&client_config(&bad, &both, &good.id, ALPN), &accepting(&good, &both)).is_ok());
}

#[test]
fn an_svid_names_exactly_one_uri() {
    let mesh = Mesh::new("corp.example");
    let storefront = mesh.svid("ns/shop/sa/storefront");
    let id = mesh.id("ns/shop/sa/orders");
    let client = client_config(&storefront, &mesh.bundle, &id, ALPN);
    let server = |uris: &[&str]| {
        let uris: Vec<String> = uris.iter().map(|u| (*u).to_owned()).collect();
        server_config(Arc::new(mesh.forged(&uris)), &mesh.bundle, ALPN)
    };
    let own = id.to_string();
    assert!(shake(&client, &server(&[&own])).is_ok());
    assert_eq!(refused(&client, &server(&[&own, "spiffe://corp.example/ns/shop/sa/admin"])), PeerError::ManyUris(2));
    assert_eq!(refused(&client, &server(&[&own, "https://corp.example/"])), PeerError::ManyUris(2));
    assert_eq!(refused(&client, &server(&[])), PeerError::NoUri);
    assert!(matches!(refused(&client, &server(&["https://corp.example/"])), PeerError::Id(_)));
}

#[test]
fn a_tunnel_wants_a_workload_of_its_own_trust_domain() {
    let (mesh, other) = (Mesh::new("corp.example"), Mesh::new("evil.example"));
    let orders = mesh.svid("ns/shop/sa/orders");
    let server = accepting(&orders, &mesh.bundle);
    let dial = |svid: &Svid| client_config(svid, &mesh.bundle, &orders.id, ALPN);
    assert!(shake(&dial(&mesh.svid("ns/shop/sa/storefront")), &server).is_ok());
    assert!(matches!(refused(&dial(&mesh.svid("node/a")), &server), PeerError::NodeShape(_)));
    // The right CA with a foreign name: only a broken CA makes one.
    let foreign = mesh.forged(&["spiffe://evil.example/ns/shop/sa/storefront".to_owned()]);
    let mut config = ClientConfig::clone(&dial(&mesh.svid("ns/shop/sa/storefront")));
    config.client_auth_cert_resolver = Arc::new(foreign);
    assert!(matches!(refused(&Arc::new(config.clone()), &server), PeerError::Foreign { .. }));
    assert!(matches!(refused(&dial(&other.svid("ns/shop/sa/storefront")), &server), PeerError::Chain { .. }));
    // And nobody at all.
    config.client_auth_cert_resolver = Arc::new(Nothing);
    assert_eq!(shake(&Arc::new(config), &server).unwrap_err(), rustls::Error::NoCertificatesPresented);
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn the_bridge_serves_nodes_and_those_who_join() {
    let (mesh, other) = (Mesh::new("corp.example"), Mesh::new("corp.example"));
    let bridge = mesh.bridge();
    let server = bridge_server_config(Arc::new(FixedSvid(bridge.certified_key())), &mesh.bundle, &[b"h2"]);
    let dial = |svid: &Svid| client_config(svid, &mesh.bundle, &bridge.id, &[b"h2"]);
    let node = mesh.svid("node/a");
    assert_eq!(shake(&dial(&node), &server).unwrap().client, Some(node.id.clone()));
    assert!(matches!(refused(&dial(&mesh.svid("ns/shop/sa/orders")), &server), PeerError::WorkloadShape(_)));
    assert_eq!(shake(&join_client_config(mesh.new.ca.fingerprint(), &[b"h2"]), &server).unwrap().client, None);
    assert_eq!(refused(&join_client_config(other.new.ca.fingerprint(), &[b"h2"]), &server), PeerError::Fingerprint);
}

#[test]
fn a_join_is_told_only_to_the_bridge() {
    let mesh = Mesh::new("corp.example");
    let mut impostor = mesh.svid("ns/shop/sa/orders");
    impostor.chain.push(mesh.new.ca.certificate().clone());
    let impostor = Svid::new(impostor.chain, impostor.key.clone_key()).unwrap();
    let server = |svid: &Svid| bridge_server_config(Arc::new(FixedSvid(svid.certified_key())), &mesh.bundle, &[b"h2"]);
    let join = join_client_config(mesh.new.ca.fingerprint(), &[b"h2"]);
    assert!(shake(&join, &server(&mesh.bridge())).is_ok());
    assert!(matches!(refused(&join, &server(&impostor)), PeerError::NotTheBridge(_)));
}
