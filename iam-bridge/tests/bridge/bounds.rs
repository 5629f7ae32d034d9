//! What happens at the bounds, and with what no honest node sends.

use tokio::io::AsyncReadExt as _;
use tonic::Code;
use weft_api::bridge::v1::{
    CreateJoinTokenRequest, JoinRequest, NodeMessage, RenewRequest, Workload, WorkloadReport, node_client::NodeClient, node_message::Message as Say,
};
use weft_iam_bridge::limits;
use weft_identity::{JoinToken, KeyAndCsr, join_client_config};

use crate::support::{Node, World, hello};

fn workloads(count: usize, padding: usize) -> Say {
    let workload = |i| Workload { uid: format!("w{i}"), service: "shop/orders".into(), addresses: vec!["x".repeat(padding)] };
    Say::Workloads(WorkloadReport { workloads: (0..count).map(workload).collect() })
}

#[tokio::test]
async fn a_report_beyond_its_bounds_ends_the_stream_and_changes_nothing() {
    let world = World::new().await;
    let node = world.join("a", &["shop/*"]).await;
    let mut stream = node.stream().await;
    stream.report(&[("w", "shop/orders", "10.1.0.1")]).await;
    let before = world.status().await.revision;
    for (report, code) in
        [(workloads(limits::WORKLOADS_MAX + 1, 1), Code::ResourceExhausted), (workloads(3, limits::NODE_MESSAGE_MAX_BYTES / 3), Code::OutOfRange)]
    {
        let mut stream = node.stream().await;
        stream.send(report).await;
        let ended = stream.end().await;
        assert_eq!(ended.code(), code, "{ended:?}");
    }
    assert_eq!(world.status().await.revision, before);
    let mut stream = node.stream().await;
    stream.send(workloads(limits::WORKLOADS_MAX, 1)).await;
    assert_eq!(stream.refusals().await.len(), limits::WORKLOADS_MAX, "each has an address that is none");
}

#[tokio::test]
async fn a_stream_starts_with_one_hello() {
    let world = World::new().await;
    let node = world.join("a", &[]).await;
    let mut silent = node.stream_of(NodeMessage { message: Some(workloads(0, 0)) }).await;
    assert!(silent.end().await.message().contains("starts with a hello"));
    let mut empty = node.stream_of(NodeMessage { message: None }).await;
    assert!(empty.end().await.message().contains("starts with a hello"));
    let mut twice = node.stream().await;
    twice.send(Say::Hello(hello())).await;
    assert!(twice.end().await.message().contains("one hello"));
    let mut unknown = node.stream().await;
    unknown.say.send(NodeMessage { message: None }).await.unwrap();
    assert!(unknown.end().await.message().contains("does not know"));
}

#[tokio::test]
async fn requests_that_are_no_requests_are_refused_as_the_callers_fault() {
    let world = World::new().await;
    let node = world.join("a", &["shop/*"]).await;
    let csr = KeyAndCsr::generate().unwrap().csr().to_vec();
    assert!(node.client.clone().renew(RenewRequest { csr: csr.clone() }).await.is_ok());
    for bad in [vec![], vec![0; 100], vec![0; weft_identity::limits::CSR_MAX_BYTES + 1]] {
        assert_eq!(node.client.clone().renew(RenewRequest { csr: bad }).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let token = world.token("b", &[]).await;
    let config = join_client_config(JoinToken::parse(&token).unwrap().ca_sha256, &[b"h2"]);
    let mut client = NodeClient::new(world.channel(config).await.unwrap());
    let good = JoinRequest { token, node: "b".into(), csr, protocol_version: weft_api::PROTOCOL_VERSION };
    for (bad, code) in [
        (JoinRequest { token: "weft-join-v1.x".into(), ..good.clone() }, Code::InvalidArgument),
        (JoinRequest { node: "B".into(), ..good.clone() }, Code::InvalidArgument),
        (JoinRequest { csr: vec![1], ..good.clone() }, Code::InvalidArgument),
        (JoinRequest { protocol_version: 2, ..good.clone() }, Code::FailedPrecondition),
        (JoinRequest { node: "c".into(), ..good.clone() }, Code::PermissionDenied),
    ] {
        assert_eq!(client.join(bad.clone()).await.unwrap_err().code(), code, "{bad:?}");
    }
    assert!(client.join(good).await.is_ok());
}

#[tokio::test]
async fn tokens_are_bounded_in_time_and_breadth() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let good = CreateJoinTokenRequest { node: "a".into(), may_run: vec!["shop/*".into()], ttl_seconds: limits::TOKEN_TTL_MAX.as_secs() };
    assert!(admin.create_join_token(good.clone()).await.is_ok());
    for (bad, words) in [
        (CreateJoinTokenRequest { ttl_seconds: good.ttl_seconds + 1, ..good.clone() }, "at most 30 days"),
        (CreateJoinTokenRequest { ttl_seconds: u64::MAX, ..good.clone() }, "at most 30 days"),
        (CreateJoinTokenRequest { may_run: vec!["shop/*".into(); limits::MAY_RUN_MAX + 1], ..good.clone() }, "at most 256 patterns"),
        (CreateJoinTokenRequest { may_run: vec!["*".into()], ..good.clone() }, "neither NAMESPACE/NAME nor NAMESPACE/*"),
        (CreateJoinTokenRequest { may_run: vec!["*/*".into()], ..good.clone() }, "neither NAMESPACE/NAME nor NAMESPACE/*"),
        (CreateJoinTokenRequest { node: String::new(), ..good.clone() }, "node: a name is empty"),
    ] {
        let refused = admin.create_join_token(bad).await.unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains(words), "{refused:?}");
    }
}

#[tokio::test]
async fn an_expired_token_is_told_from_an_unknown_one_only_to_who_knows_its_secret() {
    let world = World::new().await;
    let request = CreateJoinTokenRequest { node: "a".into(), may_run: vec![], ttl_seconds: 1 };
    let token = world.admin().await.create_join_token(request).await.unwrap().into_inner().token;
    let refused = loop {
        match world.try_join(&token, "a").await {
            Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            Err(refused) => break refused,
        }
    };
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("has expired"), "{refused:?}");
}

#[tokio::test]
async fn certificates_of_a_node_are_few() {
    let world = World::new().await;
    let node = world.join("a", &["shop/*"]).await;
    let renew = || async {
        let csr = KeyAndCsr::generate().unwrap().csr().to_vec();
        node.client.clone().renew(RenewRequest { csr }).await
    };
    for _ in 1..limits::NODE_CERTS_MAX {
        renew().await.unwrap();
    }
    // The next renewal forgets the oldest, which is the one in use.
    renew().await.unwrap();
    assert_eq!(renew().await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn connections_without_a_certificate_leave_room_for_nodes() {
    let world = World::new().await;
    let node = world.join("a", &[]).await;
    let token = world.token("b", &[]).await;
    let config = join_client_config(JoinToken::parse(&token).unwrap().ca_sha256, &[b"h2"]);
    let dial = || async {
        let tcp = tokio::net::TcpStream::connect(world.running().nodes).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("x.invalid").unwrap();
        let mut tls = tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap();
        // A server that stays says its HTTP/2 settings at once.
        let heard = tls.read(&mut [0; 64]).await.unwrap_or(0);
        (heard > 0).then_some(tls)
    };
    // Those that joined above may still be there.
    let mut held = Vec::new();
    while let Some(connection) = dial().await {
        held.push(connection);
        assert!(held.len() <= limits::ANONYMOUS_MAX);
    }
    assert!(held.len() >= limits::ANONYMOUS_MAX - 2, "{}", held.len());
    let again = Node::client(&world, &node.svid, &node.bundle).await.unwrap();
    assert!(Node { client: again, ..node }.stream().await.next().await.is_ok());
    held.clear();
    let joined = async {
        while dial().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::DEADLINE, joined).await.unwrap();
}
