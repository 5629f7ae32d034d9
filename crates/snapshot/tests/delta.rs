//! A change applied to its base is the next snapshot to the last byte, and fits nowhere else.

mod common;

use common::{full, with_gateway};
use proptest::prelude::*;
use weft_snapshot::{
    DELTA_SCHEMA_VERSION, Endpoint, Envelope, GATEWAY_DELTA_SCHEMA_VERSION, GATEWAY_SCHEMA_VERSION, Gateway, Grant, Keyring, OpenError, SCHEMA_VERSION,
    Service, ServiceKind, SigningKey, Snapshot, decode, encode,
};
use weft_types::{Protocol, Revision, RuleId, ServiceId};

struct Bench {
    key: SigningKey,
    ring: Keyring,
}

impl Bench {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap().0;
        let ring = Keyring::new(vec![(key.id().to_owned(), key.public_key())]);
        Self { key, ring }
    }

    fn whole(&self, snapshot: &Snapshot) -> Envelope {
        self.key.sign(snapshot.revision, encode(snapshot))
    }
}

/// So many services that each may reach each, which a change to one makes little of.
fn mesh(revision: u64, services: u32) -> Snapshot {
    let service = |id| Service { vip: None, ..common::service(id, &format!("shop/s{id}"), ServiceKind::Application) };
    let grant = |source, destination| Grant {
        rule: RuleId(source * services + destination + 1),
        source: ServiceId(source),
        destination: ServiceId(destination),
        port: 80,
        protocol: Protocol::Tcp,
        needs_l7: false,
        declared_at: format!("s{source}.yaml:{destination}"),
    };
    Snapshot {
        revision: Revision(revision),
        services: (1..=services).map(service).collect(),
        endpoints: vec![],
        grants: (1..=services).flat_map(|s| (1..=services).filter(move |d| *d != s).map(move |d| grant(s, d))).collect(),
        pending: vec![],
        ..full()
    }
}

#[test]
fn a_change_is_small_and_gives_the_signed_whole() {
    let bench = Bench::new();
    let (old, mut new) = (mesh(1, 20), mesh(2, 20));
    new.grants.remove(17);
    let (base, whole) = (bench.whole(&old), bench.whole(&new));
    let delta = bench.key.sign_delta(&base, &whole).unwrap();
    assert!(delta.payload.len() < 200 && whole.payload.len() > 5_000, "{} of {}", delta.payload.len(), whole.payload.len());
    assert_eq!(bench.ring.open_delta(&delta, &base, &old), Ok((whole, new)));
    assert_eq!(bench.ring.open(&delta), Err(OpenError::Schema(delta.schema_version)));
}

#[test]
fn a_change_fits_its_base_only() {
    let bench = Bench::new();
    let (old, mut new, mut third) = (mesh(1, 20), mesh(2, 20), mesh(3, 20));
    new.grants.remove(17);
    third.grants.truncate(30);
    let (base, whole, last) = (bench.whole(&old), bench.whole(&new), bench.whole(&third));
    let (first, second) = (bench.key.sign_delta(&base, &whole).unwrap(), bench.key.sign_delta(&whole, &last).unwrap());
    let refused = |change: &Envelope, base: &Envelope, held: &Snapshot| bench.ring.open_delta(change, base, held).unwrap_err();
    // Left out, or out of order.
    assert_eq!(refused(&second, &base, &old), OpenError::Base { revision: Revision(3), base: Revision(2), held: Revision(1) });
    // Again.
    assert_eq!(refused(&first, &whole, &new), OpenError::Base { revision: Revision(2), base: Revision(1), held: Revision(2) });
    // The same number, but another content: a bridge that was restored from a backup gave it twice.
    let mut twin = mesh(1, 20);
    twin.grants.remove(3);
    assert_eq!(refused(&first, &bench.whole(&twin), &twin), OpenError::Base { revision: Revision(2), base: Revision(1), held: Revision(1) });
    // Spliced: the change of one under the numbers of another.
    let spliced = Envelope { payload: second.payload.clone(), ..first.clone() };
    assert_eq!(refused(&spliced, &base, &old), OpenError::Signature(Revision(2)));
    let renumbered = Envelope { base_revision: Revision(2), ..first.clone() };
    assert_eq!(refused(&renumbered, &whole, &new), OpenError::Signature(Revision(2)));
    let as_whole = Envelope { schema_version: SCHEMA_VERSION, ..first.clone() };
    assert_eq!(bench.ring.open(&as_whole), Err(OpenError::Signature(Revision(2))));
    // A signer that says another result than it signed.
    let lying = bench.key.sign_delta(&base, &Envelope { signature: last.signature.clone(), ..whole }).unwrap();
    assert_eq!(refused(&lying, &base, &old), OpenError::Signature(Revision(2)));
    assert!(bench.ring.open_delta(&first, &base, &old).is_ok());
}

/// The mesh with a gateway, which has the service of the highest id.
fn exposed(revision: u64, services: u32) -> Snapshot {
    let mut s = mesh(revision, services);
    let other = with_gateway();
    let (mut own, id) = (other.services.into_iter().find(|s| s.name.namespace.as_str() == "weft").unwrap(), ServiceId(services + 1));
    (own.id, own.vip) = (id, None);
    s.services.push(own);
    s.teams = other.teams;
    s.gateway = other.gateway.map(|g| Gateway { service: id, ..g });
    s
}

#[test]
fn a_gateway_comes_changes_and_goes_by_changes() {
    let bench = Bench::new();
    let (plain, whole) = (mesh(1, 20), exposed(2, 20));
    let mut fewer = exposed(3, 20);
    let gateway = fewer.gateway.as_mut().unwrap();
    gateway.routes.remove(1);
    gateway.bookmarks.clear();
    gateway.branding.title = "another".to_owned();
    let mut last = fewer.without_gateway();
    last.revision = Revision(4);
    let steps = [plain, whole, fewer, last];
    let versions = [
        (GATEWAY_SCHEMA_VERSION, GATEWAY_DELTA_SCHEMA_VERSION),
        (GATEWAY_SCHEMA_VERSION, GATEWAY_DELTA_SCHEMA_VERSION),
        (SCHEMA_VERSION, DELTA_SCHEMA_VERSION),
    ];
    for (pair, (whole_version, change_version)) in steps.windows(2).zip(versions) {
        let (base, result) = (bench.whole(&pair[0]), bench.whole(&pair[1]));
        let delta = bench.key.sign_delta(&base, &result).unwrap();
        assert_eq!((result.schema_version, delta.schema_version), (whole_version, change_version));
        assert_eq!(bench.ring.open(&result).as_ref(), Ok(&pair[1]));
        assert_eq!(bench.ring.open_delta(&delta, &base, &pair[0]), Ok((result, pair[1].clone())));
        let other = Envelope { schema_version: 6 - change_version, ..delta };
        assert_eq!(bench.ring.open_delta(&other, &base, &pair[0]), Err(OpenError::Signature(pair[1].revision)));
    }
}

#[test]
fn a_change_that_saves_nothing_is_none() {
    let bench = Bench::new();
    let mut other = mesh(2, 4);
    other.grants.iter_mut().for_each(|g| g.declared_at = "elsewhere.yaml:1".to_owned());
    other.services.iter_mut().for_each(|s| s.title = "another".to_owned());
    assert_eq!(bench.key.sign_delta(&bench.whole(&mesh(1, 4)), &bench.whole(&other)), None);
    assert_eq!(bench.key.sign_delta(&bench.whole(&other), &bench.whole(&mesh(1, 4))), None);
}

/// Some part of the mesh, with some of it told otherwise.
fn part() -> impl Strategy<Value = Snapshot> {
    let shape = (prop::collection::vec(any::<bool>(), 8), prop::collection::vec(0_u8..6, 56), prop::collection::vec((0_u32..8, 0_u8..4), 0..12), any::<bool>());
    let gateway = prop::option::of((prop::collection::vec(any::<bool>(), 3), any::<bool>(), "[a-b]{0,2}"));
    (shape, gateway).prop_map(|((mut services, grants, endpoints, team), gateway)| {
        let mut s = mesh(1, 8);
        if let Some((routes, bookmark, title)) = gateway {
            s = exposed(1, 8);
            let g = s.gateway.as_mut().unwrap();
            let mut told = routes.into_iter();
            g.routes.retain(|_| told.next().unwrap_or_default());
            g.bookmarks.retain(|_| bookmark);
            g.branding.title = title;
            // What routes and providers lead to, and the gateway's own service.
            (services[0], services[1]) = (true, true);
            services.push(true);
        }
        s.services.retain(|s| services[s.id.0 as usize - 1]);
        let mut told = grants.iter();
        s.grants.retain_mut(|g| match told.next() {
            Some(0) | None => false,
            Some(1) => {
                g.declared_at = "moved.yaml:7".to_owned();
                true
            }
            Some(_) => true,
        });
        let there = |id: ServiceId| services[id.0 as usize - 1];
        s.grants.retain(|g| there(g.source) && there(g.destination));
        let endpoints = endpoints.into_iter().enumerate().filter(|(_, (id, _))| there(ServiceId(id + 1)));
        s.endpoints = endpoints
            .map(|(i, (id, host))| Endpoint {
                service: ServiceId(id + 1),
                node: "a".parse().unwrap(),
                uid: format!("u{i}").parse().unwrap(),
                addresses: vec![[10, 0, 0, host].into()],
            })
            .collect();
        if team && s.gateway.is_none() {
            s.teams.clear();
        }
        s.sorted()
    })
}

proptest! {
    #[test]
    fn any_two_snapshots_are_one_change_apart(old in part(), new in part()) {
        let bench = Bench::new();
        let new = Snapshot { revision: Revision(2), ..new };
        let (base, whole) = (bench.whole(&old), bench.whole(&new));
        if let Some(delta) = bench.key.sign_delta(&base, &whole) {
            let (payload, snapshot) = bench.ring.open_delta(&delta, &base, &old).map(|(e, s)| (e.payload, s)).unwrap();
            prop_assert_eq!(&payload, &encode(&new));
            prop_assert_eq!(decode(&payload), Ok(snapshot));
        }
    }
}
