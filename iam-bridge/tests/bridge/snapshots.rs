//! What changes the snapshot, what does not, and what a restart leaves.

use crate::support::{Stream, World, hello, service};
use weft_api::bridge::v1::Hello;
use weft_policy::{Destination, Index, Query};
use weft_snapshot::Snapshot;
use weft_types::{Protocol, Verdict};

fn endpoints(snapshot: &Snapshot) -> Vec<String> {
    snapshot.endpoints.iter().map(|e| format!("{}/{}", e.node, e.uid)).collect()
}

#[tokio::test]
async fn a_report_becomes_an_endpoint_on_every_node() {
    let world = World::new().await;
    let (a, b) = (world.join("a", &["shop/*"]).await, world.join("b", &["shop/*"]).await);
    let (mut to_a, mut to_b) = (a.stream().await, b.stream().await);
    let before = to_b.snapshot().await;
    assert_eq!(endpoints(&before), [""; 0]);
    to_a.report(&[("w", "shop/stock", "10.1.0.1")]).await;
    let after = to_b.snapshot().await;
    assert_eq!(endpoints(&after), ["a/w"]);
    assert_eq!(after.revision.0, before.revision.0 + 1);
    // The same report again is no change; one address for two workloads is refused where it comes second.
    to_a.report(&[("w", "shop/stock", "10.1.0.1")]).await;
    let refused = to_b.report(&[("v", "shop/stock", "10.1.0.1"), ("u", "shop/stock", "100.64.0.9")]).await;
    assert!(refused[0].reason.contains("virtual IPs") && refused[1].reason.contains("workload w on node a"), "{refused:?}");
    assert_eq!(world.status().await.revision, after.revision.0);
    // A node that goes keeps its workloads; a complete report replaces them.
    drop(to_a);
    let mut to_a = a.stream().await;
    assert_eq!(endpoints(&to_a.snapshot().await), ["a/w"]);
    to_a.report(&[]).await;
    assert_eq!(endpoints(&to_b.snapshot_when(|s| !endpoints(s).contains(&"a/w".to_owned())).await), ["b/v"]);
}

#[tokio::test]
async fn a_catalog_change_is_a_revision_and_a_broken_one_is_not() {
    let world = World::new().await;
    let node = world.join("a", &["shop/*"]).await;
    let mut stream = node.stream().await;
    let first = stream.snapshot().await;
    let verdict = |snapshot: &Snapshot| {
        let index = Index::new(snapshot.clone().into());
        let id = |name: &str| index.by_ref(&name.parse().unwrap()).unwrap().id;
        let destination = Destination::Service { id: id("shop/orders"), port: 80 };
        index.decide(&Query { source: id("shop/stock"), destination, protocol: Protocol::Tcp }).verdict
    };
    assert_eq!(verdict(&first), Verdict::Deny);

    world.write("stock.yaml", "kind: [");
    let broken = world.until("an error is shown", |s| !s.catalog_errors.is_empty()).await;
    assert!(broken.catalog_errors[0].contains("stock.yaml:1"), "{:?}", broken.catalog_errors);
    assert_eq!(broken.revision, first.revision.0);

    world.write("stock.yaml", &service("shop/stock", "  dependsOn: [ { service: orders } ]\n"));
    let second = stream.snapshot().await;
    assert_eq!(second.revision.0, first.revision.0 + 1);
    assert_eq!(verdict(&second), Verdict::Allow);
    assert!(world.status().await.catalog_errors.is_empty());

    // A comment says nothing.
    world.write("mesh.yaml", &format!("{}# said\n", crate::support::MESH));
    world.write("other.yaml", &service("shop/billing", ""));
    let third = stream.snapshot().await;
    assert_eq!((third.revision.0, third.services.len()), (second.revision.0 + 1, 3));
    // Numbers and virtual IPs stay.
    for service in &first.services {
        let now = third.services.iter().find(|s| s.name == service.name).unwrap();
        assert_eq!((now.id, now.vip), (service.id, service.vip));
    }
}

#[tokio::test]
async fn a_mesh_keeps_its_trust_domain() {
    let world = World::new().await;
    let before = world.status().await.revision;
    world.write("mesh.yaml", &crate::support::MESH.replace("trustDomain: corp.example", "trustDomain: other.example"));
    let after = world.until("an error is shown", |s| !s.catalog_errors.is_empty()).await;
    assert!(after.catalog_errors[0].contains("trust domain other.example"), "{:?}", after.catalog_errors);
    assert_eq!((after.revision, after.trust_domain.as_str()), (before, "corp.example"));
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let mut world = World::new().await;
    let node = world.join("a", &["shop/*"]).await;
    let mut stream = node.stream().await;
    stream.report(&[("w", "shop/stock", "10.1.0.1")]).await;
    let before = world.status().await;
    world.restart().await;
    assert_eq!(stream.end().await.code(), tonic::Code::Unavailable);
    let after = world.status().await;
    assert_eq!((after.revision, &after.ca_fingerprint), (before.revision, &before.ca_fingerprint));
    let again = crate::support::Node::client(&world, &node.svid, &node.bundle).await.unwrap();
    let node = crate::support::Node { client: again, ..node };
    let snapshot = node.stream().await.snapshot().await;
    assert_eq!((snapshot.revision.0, endpoints(&snapshot)), (before.revision, vec!["a/w".to_owned()]));
    assert!(node.issue("shop/stock").await.is_ok());
}

#[tokio::test]
async fn a_bridge_that_starts_with_a_broken_catalog_serves_the_last_good_one() {
    let mut world = World::new().await;
    let before = world.status().await;
    world.bridge.take().unwrap().stop().await;
    let whole = std::fs::read_to_string(world.write("stock.yaml", "")).unwrap() + &service("shop/stock", "");
    world.write("stock.yaml", "nonsense: true\n");
    world.start().await;
    let after = world.status().await;
    assert_eq!(after.revision, before.revision);
    assert!(!after.catalog_errors.is_empty());
    world.write("stock.yaml", &whole);
    world.until("the errors are gone", |s| s.catalog_errors.is_empty()).await;
    assert_eq!(world.status().await.revision, before.revision);
}

#[tokio::test]
async fn a_node_that_saw_newer_revisions_makes_the_bridge_catch_up() {
    let world = World::new().await;
    let node = world.join("a", &[]).await;
    let own = world.status().await.revision;
    let mut stream = node.stream_with(Hello { revision: own + 40, ..hello() }).await;
    assert_eq!(stream.snapshot().await.revision.0, own + 41);
    let absurd = node.stream_with(Hello { revision: u64::MAX, ..hello() }).await.snapshot().await;
    assert_eq!(absurd.revision.0, own + 41);
}

#[tokio::test]
async fn a_node_gets_changes_and_a_whole_when_it_cannot_use_one() {
    let world = World::new().await;
    let node = world.join("a", &[]).await;
    // Enough that a change is much smaller than the whole.
    let more: Vec<_> = (0..20).map(|i| service(&format!("shop/more{i}"), "")).collect();
    world.write("more.yaml", &more.join("---\n"));
    world.until("the services are there", |s| s.revision > 1).await;
    let mut stream = node.stream_with(Hello { schema_version: weft_snapshot::DELTA_SCHEMA_VERSION, ..hello() }).await;
    let base = stream.envelope().await;
    let held = node.keyring.open(&base).unwrap();
    assert_eq!(held.services.len(), 22);

    world.write("stock.yaml", &service("shop/stock", "  dependsOn: [ { service: orders } ]\n"));
    let change = stream.envelope().await;
    assert!(change.base_revision == base.revision && change.payload.len() * 4 < base.payload.len(), "{change:?}");
    let (whole, snapshot) = node.keyring.open_delta(&change, &base, &held).unwrap();
    assert_eq!(snapshot.grants.len(), held.grants.len() + 1);

    // It says that it cannot use it: the very same revision comes whole, and is the base of the next change.
    stream.ack(change.revision.0, "no").await;
    assert_eq!(stream.envelope().await, whole);
    world.write("stock.yaml", &service("shop/stock", ""));
    let next = stream.envelope().await;
    assert!(node.keyring.open_delta(&next, &whole, &snapshot).is_ok());
    // A whole that is refused too is not sent for ever; what comes next is whole.
    stream.ack(next.revision.0, "no").await;
    let again = stream.envelope().await;
    stream.ack(again.revision.0, "no").await;
    world.write("stock.yaml", &service("shop/stock", "  dependsOn: [ { service: orders } ]\n"));
    let last = stream.envelope().await;
    assert_eq!((last.base_revision.0, last.revision.0), (0, again.revision.0 + 1));
}

/// What a node holds, brought forward by whatever envelope comes.
struct Follower {
    stream: Stream,
    keyring: weft_snapshot::Keyring,
    held: Option<(weft_snapshot::Envelope, weft_snapshot::Snapshot)>,
}

impl Follower {
    async fn new(world: &World, name: &str, schema_version: u32) -> Self {
        let node = world.join(name, &[]).await;
        let stream = node.stream_with(Hello { schema_version, ..hello() }).await;
        Self { stream, keyring: node.keyring.clone(), held: None }
    }

    /// Schema version and snapshot of the first envelope that brings it to at least this revision.
    async fn until(&mut self, revision: u64) -> (u32, weft_snapshot::Snapshot) {
        loop {
            let envelope = self.stream.envelope().await;
            let held = match self.held.take().filter(|_| envelope.base_revision.0 != 0) {
                Some((base, snapshot)) => self.keyring.open_delta(&envelope, &base, &snapshot).unwrap(),
                None => (envelope.clone(), self.keyring.open(&envelope).unwrap()),
            };
            let snapshot = held.1.clone();
            self.held = Some(held);
            if snapshot.revision.0 >= revision {
                return (envelope.schema_version, snapshot);
            }
        }
    }
}

#[tokio::test]
async fn a_node_that_reads_of_no_gateway_gets_every_revision_without_it() {
    let world = World::new().await;
    let more: Vec<_> = (0..20).map(|i| service(&format!("shop/more{i}"), "")).collect();
    world.write("more.yaml", &more.join("---\n"));
    world.until("the services are there", |s| s.revision > 1).await;
    let first = world.status().await.revision;
    let mut all = vec![Follower::new(&world, "whole", 1).await, Follower::new(&world, "old", 2).await, Follower::new(&world, "new", 4).await];
    for follower in &mut all {
        assert_eq!(follower.until(first).await.0, 1, "as before there were gateways");
    }

    // Something is exposed, is open to others, and is exposed no more: who reads of it, and by what, is told by the versions.
    let expose = |groups: &str| format!("  expose: [ {{ port: web, access: {{ groups: [ {groups} ] }} }} ]\n");
    for (text, versions) in [(expose("sales"), [1, 2, 4]), (expose("support"), [1, 2, 4]), (String::new(), [1, 2, 2])] {
        let before = world.status().await.revision;
        world.write("stock.yaml", &service("shop/stock", &text));
        world.until("it is in force", |s| s.revision > before).await;
        let revision = world.status().await.revision;
        let mut said = vec![];
        for follower in &mut all {
            said.push(follower.until(revision).await);
        }
        assert_eq!(said.iter().map(|(version, _)| *version).collect::<Vec<_>>(), versions);
        let (whole, old, new) = (&said[0].1, &said[1].1, &said[2].1);
        assert_eq!(whole, old);
        assert_eq!((old, old.revision.0), (&new.without_gateway(), revision));
        assert!(old.gateway.is_none() && new.gateway.is_some() != text.is_empty());
        // What connections are judged by is the same for all.
        let own = new.grants.iter().filter(|g| new.services.iter().any(|s| s.id == g.source && s.name.to_string() == "weft/gateway"));
        assert_eq!((old.grants == new.grants, own.count()), (true, if text.is_empty() { 0 } else { 2 }));
    }

    // One that comes now gets what it reads, and the admin's socket has all.
    world.write("stock.yaml", &service("shop/stock", &expose("sales")));
    let revision = world.status().await.revision;
    world.until("it is in force", |s| s.revision > revision).await;
    assert_eq!(Follower::new(&world, "late", 2).await.until(revision + 1).await.0, 1);
    assert_eq!(Follower::new(&world, "late-new", 4).await.until(revision + 1).await.0, 3);
}

#[tokio::test]
async fn a_node_that_learns_of_gateways_gets_a_revision_that_is_newer() {
    let world = World::new().await;
    world.write("stock.yaml", &service("shop/stock", "  expose: [ { port: web, access: { public: true } } ]\n"));
    world.until("it is exposed", |s| s.revision > 1).await;
    let node = world.join("a", &[]).await;
    let of = |schema_version, revision| Hello { schema_version, revision, ..hello() };
    let plain = node.stream_with(of(2, 0)).await.snapshot().await;
    let held = plain.revision.0;
    assert!(plain.gateway.is_none());
    // The same agent again: nothing is new.
    assert_eq!(node.stream_with(of(2, held)).await.snapshot().await.revision.0, held);
    let learned = node.stream_with(of(4, held)).await.snapshot().await;
    assert_eq!((learned.revision.0, learned.gateway.is_some()), (held + 1, true));
    assert_eq!(learned.without_gateway(), Snapshot { revision: learned.revision, ..plain });
    // It has all now.
    assert_eq!(node.stream_with(of(4, held + 1)).await.snapshot().await, learned);
}
