//! What a node gets from a bridge, and what not; each refusal beside a control that differs in one thing.

use crate::support::{Node, World, hello};
use tonic::Code;
use weft_api::bridge::v1::{Hello, ListNodesRequest, RemoveNodeRequest, RenewRequest, node_client::NodeClient};
use weft_identity::{KeyAndCsr, join_client_config};

#[tokio::test]
async fn a_node_gets_svids_for_exactly_what_it_may_run_and_does_run() {
    let world = World::new().await;
    let node = world.join("a", &["shop/orders"]).await;
    assert_eq!(node.svid.id.to_string(), "spiffe://corp.example/node/a");
    let mut stream = node.stream().await;
    let denied = node.issue("shop/orders").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    assert!(denied.message().contains("has reported no workload of shop/orders"), "{denied:?}");

    let refused = stream.report(&[("w1", "shop/orders", "10.1.0.1"), ("w2", "shop/stock", "10.1.0.2")]).await;
    assert_eq!(refused.len(), 1);
    assert!(refused[0].uid == "w2" && refused[0].reason.contains("may not run shop/stock: its join token names shop/orders"), "{refused:?}");

    let (key, issued) = node.issue("shop/orders").await.unwrap();
    let svid = key.into_svid(issued.certificate_chain.into_iter().map(Into::into).collect()).unwrap();
    assert_eq!(svid.id.to_string(), "spiffe://corp.example/ns/shop/sa/orders");
    let life = svid.not_after.duration_since(std::time::SystemTime::now()).unwrap();
    assert!(life.as_secs() <= 60, "{life:?}");
    for (service, words) in [("shop/stock", "may not run shop/stock"), ("weft-system/iam-bridge", "may not run"), ("orders", "namespace")] {
        let denied = node.issue(service).await.unwrap_err();
        assert!(denied.code() == Code::PermissionDenied && denied.message().contains(words), "{service}: {denied:?}");
    }
    // What is not reported any more is not issued any more.
    stream.report(&[]).await;
    assert_eq!(node.issue("shop/orders").await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_token_lets_in_one_node_and_shows_itself_only_to_its_mesh() {
    let (world, other) = (World::new().await, World::new().await);
    let token = world.token("a", &["shop/*"]).await;
    world.try_join(&token, "a").await.unwrap();
    world.try_join(&token, "a").await.expect("the same node may use it again");
    let refused = world.try_join(&token, "b").await.err().unwrap();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("for another node than b"), "{refused:?}");

    // One changed letter in the secret.
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let first = if parts[2].starts_with('A') { "B" } else { "A" };
    parts[2].replace_range(..1, first);
    let refused = world.try_join(&parts.join("."), "a").await.err().unwrap();
    assert!(refused.code() == Code::PermissionDenied && refused.message().contains("not known here"), "{refused:?}");

    // A node never shows a token to a bridge with another CA.
    let config = join_client_config(weft_identity::JoinToken::parse(&token).unwrap().ca_sha256, &[b"h2"]);
    assert!(other.channel(config.clone()).await.is_err());
    assert!(world.channel(config).await.is_ok());
}

#[tokio::test]
async fn without_a_members_certificate_there_is_nothing_but_join() {
    let (world, other) = (World::new().await, World::new().await);
    let node = world.join("a", &["shop/*"]).await;
    let hash = weft_identity::JoinToken::parse(&world.token("b", &[]).await).unwrap().ca_sha256;
    let mut anonymous = NodeClient::new(world.channel(join_client_config(hash, &[b"h2"])).await.unwrap());
    let csr = KeyAndCsr::generate().unwrap().csr().to_vec();
    let denied = anonymous.renew(RenewRequest { csr: csr.clone() }).await.unwrap_err();
    assert!(denied.code() == Code::Unauthenticated && denied.message().contains("join first"), "{denied:?}");

    // The same name, another mesh: the handshake itself fails, at the latest with the first request (TLS 1.3 clients are done before the server is).
    let stranger = other.join("a", &["shop/*"]).await;
    let outcome = match Node::client(&world, &stranger.svid, &node.bundle).await {
        Err(_) => true,
        Ok(mut client) => client.renew(RenewRequest { csr: csr.clone() }).await.is_err(),
    };
    assert!(outcome);
    // A workload's SVID is no node's certificate.
    let mut stream = node.stream().await;
    stream.report(&[("w", "shop/orders", "10.1.0.1")]).await;
    let (key, issued) = node.issue("shop/orders").await.unwrap();
    let workload = key.into_svid(issued.certificate_chain.into_iter().map(Into::into).collect()).unwrap();
    let outcome = match Node::client(&world, &workload, &node.bundle).await {
        Err(_) => true,
        Ok(mut client) => client.renew(RenewRequest { csr: csr.clone() }).await.is_err(),
    };
    assert!(outcome);

    let renewed = node.client.clone().renew(RenewRequest { csr }).await.unwrap().into_inner();
    assert_eq!(renewed.spiffe_id, "spiffe://corp.example/node/a");
    world.admin().await.remove_node(RemoveNodeRequest { node: "a".into() }).await.unwrap();
    assert_eq!(stream.end().await.code(), Code::Unauthenticated);
    let denied = node.issue("shop/orders").await.unwrap_err();
    assert!(denied.code() == Code::Unauthenticated && denied.message().contains("not a member"), "{denied:?}");
}

#[tokio::test]
async fn another_version_is_refused_in_words() {
    let world = World::new().await;
    let node = world.join("a", &[]).await;
    for (hello, words) in [
        (Hello { protocol_version: 2, ..hello() }, "protocol version 2, this bridge speaks 1: upgrade the bridge"),
        (Hello { protocol_version: 0, ..hello() }, "upgrade the agent"),
        (Hello { schema_version: 0, ..hello() }, "reads snapshots of version 0, this bridge writes 1"),
    ] {
        let ended = node.stream_with(hello).await.end().await;
        assert!(ended.code() == Code::FailedPrecondition && ended.message().contains(words), "{ended:?}");
    }
    assert!(node.stream().await.next().await.is_ok());
}

#[tokio::test]
async fn acks_and_nacks_are_shown_and_a_second_stream_replaces_the_first() {
    let world = World::new().await;
    let node = world.join("a", &["shop/*"]).await;
    let mut first = node.stream().await;
    let revision = first.snapshot().await.revision.0;
    let mut second = node.stream().await;
    assert_eq!(first.end().await.code(), Code::Aborted);
    second.ack(revision, "").await;
    second.ack(revision + 1, "cannot: the kernel is full").await;
    second.report(&[("w", "shop/orders", "10.1.0.1")]).await;
    let shown = world.admin().await.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!(shown.len(), 1);
    let a = &shown[0];
    assert!(a.connected && a.agent_version == "test" && a.acked_revision == revision, "{a:?}");
    assert_eq!((a.error.as_str(), a.workloads.len(), a.may_run.clone()), ("cannot: the kernel is full", 1, vec!["shop/*".to_owned()]));
    second.ack(revision + 1, "").await;
    second.report(&[]).await;
    let shown = world.admin().await.list_nodes(ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((shown[0].error.as_str(), shown[0].acked_revision), ("", revision + 1));
}
