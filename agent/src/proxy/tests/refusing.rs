//! What is not carried: the application gets a reset, the record says why; each denial has a control in `carrying` or here.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::server::ResolvesServerCert;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use weft_ebpf_common::{Attestation, PATH_SAME_NODE, TUNNEL_PORT};
use weft_identity::{FixedSvid, Svid};
use weft_tunnel::{Answer, Header, ResetReason};
use weft_types::{FlowId, Reason, Verdict};

use super::{
    dial_in_vain, hear, say,
    world::{CLIENT, DEADLINE, OTHER, SERVER, VIP, World, captured, endpoint, until},
};
use crate::proxy::{Measure, Point, read_ahead::ReadAhead, tunnel::Tunnel};

async fn check_refused_out(w: &World, reason: Reason, detail: &str) {
    dial_in_vain(w).await;
    let record = w.a.finished().await;
    assert_eq!((record.verdict, record.reason, record.path), (Verdict::Deny, reason, None), "{}", record.detail);
    assert!(record.detail.contains(detail), "{:?} says nothing of {detail:?}", record.detail);
    assert_eq!(w.a.count(Measure::Refused { point: Point::Out, reason }), 1);
    assert!(timeout(Duration::from_millis(50), w.application.accept()).await.is_err(), "the application was reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_attested_is_refused() {
    let w = World::new().await;
    let good = w.a.attests.lock().unwrap().unwrap();
    let bad = [
        None,
        Some(Attestation { path: PATH_SAME_NODE, ..good }),
        Some(Attestation { netns: good.netns + 1, ..good }),
        Some(Attestation { source: OTHER.0, ..good }),
    ];
    for (i, attestation) in bad.into_iter().enumerate() {
        *w.a.attests.lock().unwrap() = attestation;
        dial_in_vain(&w).await;
        until(|| w.a.count(Measure::Refused { point: Point::Out, reason: Reason::Unattested }) == i + 1).await;
    }
    *w.a.attests.lock().unwrap() = Some(good);
    w.connected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calling_node_judges_again() {
    let w = World::new().await;
    w.a.set_index(&w.without_grant());
    check_refused_out(&w, Reason::NoGrant, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_called_node_judges_by_its_own_snapshot() {
    let w = World::new().await;
    w.b.set_index(&w.without_grant());
    check_refused_out(&w, Reason::PeerRefused, "no-grant").await;
    let record = w.b.finished().await;
    assert_eq!((record.verdict, record.reason, record.point), (Verdict::Deny, Reason::NoGrant, Point::In));
    assert_eq!(record.source.unwrap().identity, w.identity(CLIENT));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_needs_l7_is_refused_by_the_called_node() {
    let w = World::new().await;
    w.b.set_index(&w.revised(|s| s.grants[0].needs_l7 = true));
    check_refused_out(&w, Reason::PeerRefused, "needs-l7").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_no_service_claims_is_refused() {
    let w = World::new().await;
    w.b.set_index(&w.revised(|s| s.services[0].identity = "spiffe://corp.example/ns/shop/sa/renamed".parse().unwrap()));
    check_refused_out(&w, Reason::PeerRefused, "unknown-peer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_svid_decides_who_calls_not_the_attested_name() {
    let w = World::new().await;
    // The kernel says client, the certificate says other: the other node sees the certificate alone.
    w.a.svids.lock().unwrap().insert(CLIENT, w.svid(OTHER));
    check_refused_out(&w, Reason::PeerRefused, "no-grant").await;
    assert_eq!(w.b.finished().await.source.unwrap().identity, w.identity(OTHER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_is_refused() {
    let w = World::new().await;
    w.a.set_index(&w.revised(|s| s.endpoints.clear()));
    check_refused_out(&w, Reason::NoEndpoint, "shop/sa/server").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_application_resets_its_caller() {
    let w = World::new().await;
    let World { application, .. } = w;
    let w = World { application: TcpListener::bind("127.0.0.1:0").await.unwrap(), ..w };
    drop(application);
    check_refused_out(&w, Reason::UpstreamConnect, "upstream-connect").await;
    assert_eq!(w.b.finished().await.reason, Reason::UpstreamConnect);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_resets_its_caller() {
    let w = World::unserved().await;
    check_refused_out(&w, Reason::UpstreamConnect, "cannot be reached").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_endpoint_is_tried_when_one_is_dead() {
    let w = World::new().await;
    let spare = w.spare;
    w.a.set_index(&w.revised(|s| s.endpoints.insert(0, endpoint("server-0", spare))));
    for _ in 0..4 {
        let (mut client, mut server) = w.connected().await;
        say(&mut client, "whoever you are").await;
        hear(&mut server, "whoever you are").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_was_dialled_itself_has_no_substitute() {
    let w = World::new().await;
    // Documentation addresses: nobody is there, while the other endpoint of the service lives.
    let (dead, port) = (IpAddr::from([192, 0, 2, 7]), w.snapshot.services[1].ports[0].target_port);
    w.a.set_index(&w.revised(|s| s.endpoints.push(endpoint("server-0", dead))));
    *w.a.attests.lock().unwrap() = Some(captured(&w.client, SocketAddr::new(dead, port)));
    check_refused_out(&w, Reason::UpstreamConnect, "192.0.2.7:15008 cannot be reached").await;
}

/// Somebody who answers at the endpoint's address with a certificate of his own choice.
async fn impostor(w: &World, svid: Svid) {
    let listener = TcpListener::bind((w.server.addresses[0], TUNNEL_PORT)).await.unwrap();
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(FixedSvid(svid.certified_key()));
    let config = weft_identity::server_config(resolver, &w.ca.bundle().unwrap(), &[weft_tunnel::ALPN]);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = TlsAcceptor::from(config.clone()).accept(socket).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_with_another_workloads_identity_is_refused() {
    let w = World::unserved().await;
    impostor(&w, w.svid_of("spiffe://corp.example/ns/shop/sa/other")).await;
    check_refused_out(&w, Reason::PeerIdentity, "handshake").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_with_a_nodes_identity_is_refused() {
    let w = World::unserved().await;
    impostor(&w, w.svid_of("spiffe://corp.example/node/b")).await;
    check_refused_out(&w, Reason::PeerIdentity, "handshake").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_does_not_hold_the_expected_identity_does_not_answer_to_its_name() {
    let w = World::new().await;
    w.b.svids.lock().unwrap().insert(SERVER, w.svid(OTHER));
    check_refused_out(&w, Reason::PeerRefused, "handshake").await;
}

/// Calls the server's tunnel as `svid` would, with a header of one's own.
async fn call(w: &World, svid: &Svid, header: &[u8]) -> io::Result<Answer> {
    let expected = w.identity(SERVER);
    let config = weft_identity::client_config(svid, &w.ca.bundle().unwrap(), &expected, &[weft_tunnel::ALPN]);
    let socket = TcpStream::connect((w.server.addresses[0], TUNNEL_PORT)).await?;
    let stream = TlsConnector::from(config).connect(weft_identity::sni_for(&expected).unwrap(), ReadAhead::new(socket)).await?;
    let mut tunnel = Tunnel::new(tokio_rustls::TlsStream::Client(stream));
    tokio::io::AsyncWriteExt::write_all(&mut tunnel.stream, header).await?;
    timeout(DEADLINE, tunnel.answer()).await?.map_err(io::Error::other)
}

fn header(destination: SocketAddr, service_port: u16) -> Vec<u8> {
    Header { destination, caller: "10.0.0.1:40000".parse().unwrap(), flow: FlowId(5), service_port }.encode().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_called_node_takes_headers_for_its_own_workload_alone() {
    let w = World::new().await;
    let me = w.svid(CLIENT);
    let port = w.snapshot.services[1].ports[0].target_port;
    let own = w.server.addresses[0];
    let reason = async |header: Vec<u8>| match call(&w, &me, &header).await.unwrap() {
        Answer::Accepted => None,
        Answer::Refused { reason, .. } => Some(reason),
    };
    assert_eq!(reason(header(SocketAddr::new(VIP.into(), 80), 80)).await, None, "control");
    assert_eq!(reason(header(SocketAddr::new(own, port), 80)).await, None, "control: its own address");
    for elsewhere in ["100.64.0.3:80", "127.0.0.1:22", "192.0.2.1:80", "[::1]:80"] {
        assert_eq!(reason(header(elsewhere.parse().unwrap(), 80)).await, Some(Reason::WrongDestination), "{elsewhere}");
    }
    assert_eq!(reason(header(SocketAddr::new(own, 22), 80)).await, Some(Reason::UnknownPort), "no undeclared port of its own address");
    assert_eq!(reason(header(SocketAddr::new(VIP.into(), 81), 81)).await, Some(Reason::UnknownPort));
    assert_eq!(reason(header(SocketAddr::new(VIP.into(), 81), 80)).await, Some(Reason::UnknownPort), "judged as one port, dialled as another");
    assert_eq!(reason(b"GET / HTTP/1.1\r\n\r\n".to_vec()).await, Some(Reason::BadHeader));
    w.b.record_of(|r| r.reason == Reason::BadHeader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_crossed_the_last_fin_ends_the_tunnel_and_is_no_refusal() {
    let w = World::new().await;
    call(&w, &w.svid(CLIENT), &weft_tunnel::reset(ResetReason::Aborted)).await.unwrap_err();
    assert!(matches!(call(&w, &w.svid(CLIENT), b"GET / HTTP/1.1\r\n\r\n").await.unwrap(), Answer::Refused { reason: Reason::BadHeader, .. }), "control");
    let first = w.b.record_of(|_| true).await;
    assert!(first.detail.contains("another protocol"), "{first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_called_node_shakes_hands_with_workloads_alone() {
    let w = World::new().await;
    let good = header(SocketAddr::new(VIP.into(), 80), 80);
    assert_eq!(call(&w, &w.svid(CLIENT), &good).await.unwrap(), Answer::Accepted, "control");
    let stranger = World::unserved().await;
    for svid in [w.svid_of("spiffe://corp.example/node/a"), stranger.svid_of("spiffe://corp.example/ns/shop/sa/client")] {
        assert!(call(&w, &svid, &good).await.is_err(), "{}", svid.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_at_the_tunnels_port_gets_nothing() {
    let w = World::new().await;
    let mut socket = TcpStream::connect((w.server.addresses[0], TUNNEL_PORT)).await.unwrap();
    say(&mut socket, "GET / HTTP/1.1\r\nHost: server\r\n\r\n").await;
    let mut heard = Vec::new();
    let _ = timeout(DEADLINE, socket.read_to_end(&mut heard)).await.expect("it was kept open");
    // At most a TLS alert.
    assert!(heard.len() <= 7, "{heard:?}");
    assert!(timeout(Duration::from_millis(50), w.application.accept()).await.is_err());
}
