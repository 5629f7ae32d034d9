//! What is kept, what is believed of it after a restart, and what is not.

use weft_identity::{Ca, KeyAndCsr};
use weft_snapshot::{Service, SigningKey, Snapshot};
use weft_types::{SpiffeId, TrustDomain};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    dir: tempfile::TempDir,
    ca: Ca,
    now: SystemTime,
}

impl Bench {
    fn new() -> Self {
        let domain: TrustDomain = "corp.example".parse().unwrap();
        let now = SystemTime::now();
        Self { dir: tempfile::tempdir().unwrap(), ca: Ca::create(&domain, now).unwrap().ca, now }
    }

    fn open(&self) -> Mesh {
        Mesh::open(self.dir.path()).unwrap()
    }

    fn svid(&self, id: &str) -> Svid {
        let id: SpiffeId = id.parse().unwrap();
        let key = KeyAndCsr::generate().unwrap();
        let chain = self.ca.sign(key.csr(), &id, self.now, HOUR).unwrap().chain;
        key.into_svid(chain).unwrap()
    }

    fn membership(&self) -> Membership {
        Membership { bundle: Arc::new(self.ca.bundle().unwrap()), snapshot_keys: vec![("k".into(), [7; 32])] }
    }
}

const ORDERS: &str = "spiffe://corp.example/ns/shop/sa/orders";

fn orders() -> ServiceRef {
    "shop/orders".parse().unwrap()
}

fn index(revision: u64, kind: ServiceKind) -> Arc<Index> {
    let service = Service {
        id: ServiceId(4),
        name: orders(),
        kind,
        title: String::new(),
        owner: "team".parse().unwrap(),
        capability: String::new(),
        lifecycle: "production".into(),
        identity: ORDERS.parse().unwrap(),
        vip: None,
        consumers: Vec::new(),
        ports: Vec::new(),
        externals: Vec::new(),
        declared_at: "orders.yaml:1".into(),
    };
    Arc::new(Index::new(Arc::new(Snapshot {
        revision: Revision(revision),
        mesh: "corp".into(),
        trust_domain: "corp.example".parse().unwrap(),
        services: vec![service],
        endpoints: Vec::new(),
        grants: Vec::new(),
        pending: Vec::new(),
        teams: Vec::new(),
        gateway: None,
    })))
}

fn envelope() -> Envelope {
    SigningKey::generate().unwrap().0.sign(Revision(1), Vec::new())
}

#[test]
fn membership_and_keys_survive_a_restart() {
    use std::os::unix::fs::MetadataExt as _;
    let b = Bench::new();
    let mesh = b.open();
    mesh.set_membership(b.membership());
    mesh.set_node(b.svid("spiffe://corp.example/node/a"));
    mesh.set_svid(&orders(), b.svid(ORDERS));
    let again = b.open();
    assert_eq!(again.membership(), Some(b.membership()));
    assert_eq!(again.node().unwrap().svid.serial, mesh.node().unwrap().svid.serial);
    assert_eq!(again.svid(&orders()).unwrap().svid.chain, mesh.svid(&orders()).unwrap().svid.chain);
    let identity = b.dir.path().join("identity");
    for file in ["node.pem", "mesh.json", "svids/shop.orders.pem"] {
        assert_eq!(std::fs::metadata(identity.join(file)).unwrap().mode() & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(identity).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_damaged_svid_is_left_out_and_the_others_are_used() {
    let b = Bench::new();
    let mesh = b.open();
    mesh.set_svid(&orders(), b.svid(ORDERS));
    let stock = "shop/stock".parse().unwrap();
    mesh.set_svid(&stock, b.svid("spiffe://corp.example/ns/shop/sa/stock"));
    std::fs::write(b.dir.path().join("identity/svids/shop.stock.pem"), "nonsense").unwrap();
    let again = b.open();
    assert!(again.svid(&orders()).is_some() && again.svid(&stock).is_none());
}

#[test]
fn another_mesh_takes_the_former_svids_away_and_a_rolled_root_does_not() {
    let (b, other) = (Bench::new(), Bench::new());
    let mesh = b.open();
    mesh.set_membership(b.membership());
    mesh.set_svid(&orders(), b.svid(ORDERS));
    let both = [b.ca.certificate().clone(), other.ca.certificate().clone()].to_vec();
    mesh.set_membership(Membership { bundle: Arc::new(TrustBundle::new("corp.example".parse().unwrap(), both).unwrap()), ..b.membership() });
    assert!(mesh.svid(&orders()).is_some());
    mesh.set_membership(other.membership());
    assert!(mesh.svid(&orders()).is_some(), "the new root was in the bundle before");
    mesh.set_membership(Bench::new().membership());
    assert!(mesh.svid(&orders()).is_none() && b.open().svid(&orders()).is_none());
}

#[test]
fn only_a_live_svid_of_the_right_identity_admits() {
    let b = Bench::new();
    let mesh = b.open();
    let check = |mesh: &Mesh, at: SystemTime, expect: &str| match mesh.admit(&orders(), at) {
        Ok(id) => assert_eq!(id.to_string(), expect),
        Err(e) => assert!(e.contains(expect), "{e}"),
    };
    check(&mesh, b.now, "no snapshot");
    mesh.set_snapshot(index(1, ServiceKind::Application), envelope().into());
    check(&mesh, b.now, "no SVID yet");
    mesh.set_problem(&orders(), "the bridge is away".into());
    check(&mesh, b.now, "no SVID yet: the bridge is away");
    mesh.set_svid(&orders(), b.svid("spiffe://corp.example/ns/shop/sa/stock"));
    check(&mesh, b.now, "not spiffe://corp.example/ns/shop/sa/orders");
    assert!(mesh.svid_of(ServiceId(4)).is_none());
    mesh.set_svid(&orders(), b.svid(ORDERS));
    check(&mesh, b.now, "4");
    assert!(mesh.svid_of(ServiceId(4)).is_some());
    check(&mesh, b.now + 2 * HOUR, "expired");
    assert!(mesh.drop_expired(b.now + 2 * HOUR) && !mesh.drop_expired(b.now + 2 * HOUR));
    assert!(b.open().svid(&orders()).is_none());
    mesh.set_snapshot(index(2, ServiceKind::Interface), envelope().into());
    check(&mesh, b.now, "interface");
    assert_eq!(mesh.index_at(Revision(1)).unwrap().snapshot().revision, Revision(1));
    assert_eq!(mesh.index_at(Revision(2)).unwrap().snapshot().revision, Revision(2));
}

#[test]
fn renewal_is_near_half_life() {
    let b = Bench::new();
    for _ in 0..20 {
        let issued = Issued::new(b.svid(ORDERS));
        let life = issued.svid.not_after.duration_since(issued.svid.not_before).unwrap();
        let passed = issued.renew_at.duration_since(issued.svid.not_before).unwrap();
        assert!(passed >= life.mul_f64(0.39) && passed <= life.mul_f64(0.61), "{passed:?} of {life:?}");
    }
}

#[test]
fn who_follows_hears_of_a_revision_when_the_kernel_judges_by_it() {
    let mesh = Bench::new().open();
    let mut followed = mesh.follow();
    let envelope: Arc<Envelope> = envelope().into();
    let before = mesh.set_snapshot(index(1, ServiceKind::Application), envelope.clone());
    assert!(!followed.has_changed().unwrap(), "the kernel may still refuse it");
    mesh.restore_snapshot(before);
    assert!(!followed.has_changed().unwrap() && followed.borrow_and_update().is_none());
    mesh.set_snapshot(index(1, ServiceKind::Application), envelope.clone());
    mesh.announce(envelope.clone());
    assert!(followed.has_changed().unwrap());
    assert_eq!(followed.borrow_and_update().as_ref(), Some(&envelope));
}
