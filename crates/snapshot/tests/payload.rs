//! Bytes to snapshot and back; what is not exactly that is refused, and nothing panics.

mod common;

use common::{full, route, service, with_gateway};
use proptest::prelude::*;
use weft_snapshot::{Access, Cors, DecodeError, Endpoint, Gateway, LogoKind, Route, ServiceKind, Snapshot, Team, Via, decode, encode, limits};
use weft_types::{PathPattern, Revision, RuleId, ServiceId};

/// `change` makes the full snapshot one that must be refused for a reason that begins with `expect`.
#[track_caller]
fn check_refused(change: impl FnOnce(&mut Snapshot), expect: &str) {
    let mut snapshot = full();
    change(&mut snapshot);
    let error = decode(&encode(&snapshot)).expect_err(expect).to_string();
    assert!(error.starts_with(expect), "wanted {expect}, got {error}");
}

#[test]
fn every_field_survives() {
    assert_eq!(decode(&encode(&full())), Ok(full()));
    assert_eq!(decode(&encode(&with_gateway())), Ok(with_gateway()));
    let empty = Snapshot {
        revision: Revision(0),
        mesh: String::new(),
        trust_domain: "a".parse().unwrap(),
        services: vec![],
        endpoints: vec![],
        grants: vec![],
        pending: vec![],
        teams: vec![],
        gateway: None,
    };
    assert_eq!(decode(&encode(&empty)), Ok(empty));
}

#[test]
fn equal_snapshots_have_equal_bytes() {
    let mut shuffled = full();
    shuffled.services.reverse();
    shuffled.endpoints.reverse();
    shuffled.grants.reverse();
    shuffled.pending.reverse();
    assert_ne!(shuffled, full());
    assert_eq!(encode(&shuffled), encode(&full()));
}

#[test]
fn what_contradicts_itself_is_refused() {
    check_refused(|s| s.services[0].id = ServiceId(0), "snapshot service shop/orders is invalid: its id is 0");
    check_refused(|s| s.services[1].id = ServiceId(1), "snapshot service shop/orders-db is invalid: its id, name or identity belongs");
    check_refused(|s| s.services[1].name = s.services[0].name.clone(), "snapshot service shop/orders is invalid: its id, name or identity belongs");
    check_refused(|s| s.services[1].identity = s.services[0].identity.clone(), "snapshot service shop/orders-db is invalid: its id, name or identity");
    check_refused(|s| s.services[1].vip = s.services[0].vip, "snapshot service shop/orders-db is invalid: its virtual IP");
    check_refused(|s| s.services[0].identity = "spiffe://corp.example/node/a".parse().unwrap(), "snapshot service shop/orders is invalid: its identity is not");
    check_refused(|s| s.trust_domain = "other.example".parse().unwrap(), "snapshot service shop/orders is invalid: its identity is of another");
    check_refused(|s| s.services[2].vip = Some([1, 2, 3, 4].into()), "snapshot service finance/cards is invalid: an interface has ranges only");
    check_refused(|s| s.services[0].externals = s.services[2].externals.clone(), "snapshot service shop/orders is invalid: an interface has ranges only");
    let same_range = |s: &mut Snapshot| s.services.push(service(4, "finance/more", ServiceKind::Interface));
    check_refused(same_range, "snapshot service finance/more is invalid: one of its ranges belongs to another");
    check_refused(|s| s.services[0].ports[0].port = 0, "snapshot port of shop/orders is invalid: it is not between 1 and 65535");
    check_refused(|s| s.endpoints[0].service = ServiceId(9), "snapshot endpoint orders-1 is invalid: no service has id 9");
    check_refused(|s| s.endpoints[1].node = s.endpoints[0].node.clone(), "snapshot endpoint orders-1 on a is invalid: it is listed twice");
    check_refused(|s| s.grants[0].source = ServiceId(9), "snapshot grant 1 is invalid: no service has id 9");
    check_refused(|s| s.grants[0].destination = ServiceId(9), "snapshot grant 1 is invalid: no service has id 9");
    check_refused(|s| s.grants[0].rule = RuleId(0), "snapshot grant 0 is invalid: rule 0");
    check_refused(|s| s.grants.push(s.grants[0].clone()), "snapshot grant 1 is invalid: another grant covers");
    check_refused(|s| s.pending[0].destination = ServiceId(9), "snapshot pending dependency db.yaml:4 is invalid");
    check_refused(|s| s.teams.push(s.teams[0].clone()), "snapshot team team-a is invalid: it is listed twice");
    check_refused(|s| s.mesh = "m".repeat(limits::TEXT_MAX_BYTES + 1), "snapshot mesh");
}

#[track_caller]
fn check_gateway_refused(change: impl FnOnce(&mut Gateway), expect: &str) {
    let mut snapshot = with_gateway();
    change(snapshot.gateway.as_mut().unwrap());
    let error = decode(&encode(&snapshot)).expect_err(expect).to_string();
    assert!(error.starts_with(expect), "wanted {expect}, got {error}");
}

#[test]
fn a_gateway_that_contradicts_itself_is_refused() {
    check_gateway_refused(|g| g.service = ServiceId(9), "snapshot gateway corp.example is invalid: no service has its id");
    check_gateway_refused(|g| g.service = ServiceId(1), "snapshot gateway corp.example is invalid: its service is another than weft/gateway");
    check_gateway_refused(|g| g.listen_port = 0, "snapshot");
    check_gateway_refused(|g| g.redirect_port = Some(g.listen_port), "snapshot gateway corp.example is invalid: it redirects from where it listens");
    for own in [15008, 15009, 15014, 15021] {
        check_gateway_refused(|g| g.listen_port = own, "snapshot gateway corp.example is invalid: one of weft's own ports");
        check_gateway_refused(|g| g.redirect_port = Some(own), "snapshot gateway corp.example is invalid: one of weft's own ports");
    }
    check_gateway_refused(|g| g.base_domain = format!("{0}.{0}.{0}.{0}", "a".repeat(62)).parse().unwrap(), "snapshot gateway");
    check_gateway_refused(|g| g.branding.accent = "red;}".into(), "snapshot colour red;} is invalid");
    check_gateway_refused(|g| g.branding.logo.as_mut().unwrap().bytes.clear(), "snapshot gateway corp.example is invalid: its logo");
    check_gateway_refused(|g| g.routes[0].rule = RuleId(0), "snapshot route shop.corp.example/hook is invalid: rule 0");
    check_gateway_refused(|g| g.routes[0].service = ServiceId(9), "snapshot route shop.corp.example/hook is invalid: no service has that id and port");
    check_gateway_refused(|g| g.routes[0].port = 81, "snapshot route shop.corp.example/hook is invalid: no service has that id and port");
    check_gateway_refused(|g| g.routes[0].host = "portal.corp.example".parse().unwrap(), "snapshot route portal.corp.example/hook is invalid: host or path");
    check_gateway_refused(|g| g.routes[0].host = "id.corp.example".parse().unwrap(), "snapshot route id.corp.example/hook is invalid: host or path");
    check_gateway_refused(|g| g.routes[0].path = PathPattern::exact("/.weft/x").unwrap(), "snapshot route shop.corp.example/.weft/x is invalid: host or path");
    check_gateway_refused(|g| g.routes[0].rewrite = g.routes[2].rewrite.clone(), "snapshot route shop.corp.example/hook is invalid: only a prefix");
    check_gateway_refused(|g| g.routes[0].access = Access::Groups(vec![]), "snapshot route shop.corp.example/hook is invalid: who may open it");
    let twin = PathPattern::exact("/items/{name}").unwrap();
    check_gateway_refused(|g| g.routes.push(route(14, twin, Access::Public)), "snapshot route shop.corp.example/items/{name} is invalid: another route");
    let cors = |origins: &[&str], credentials| {
        let origins = origins.iter().map(|o| (*o).to_owned()).collect();
        move |g: &mut Gateway| g.routes[2].cors = Some(Cors { origins, credentials, ..Cors::default() })
    };
    check_gateway_refused(cors(&["*"], true), "snapshot route shop.corp.example/orders is invalid: its origins");
    check_gateway_refused(cors(&["*", "https://a.example"], false), "snapshot route shop.corp.example/orders is invalid: its origins");
    check_gateway_refused(cors(&[], false), "snapshot route shop.corp.example/orders is invalid: its origins");
    check_gateway_refused(|g| g.providers[0].issuer.clear(), "snapshot identity provider corp is invalid: its name, issuer or client");
    check_gateway_refused(|g| g.providers[0].via = Some(Via { service: ServiceId(9), port: 1 }), "snapshot identity provider corp is invalid: no service");
    check_gateway_refused(|g| g.providers[1].name = "corp".into(), "snapshot identity provider corp is invalid: it is listed twice");
    check_gateway_refused(|g| g.bookmarks[0].url = "javascript:alert(1)".into(), "snapshot bookmark Wiki is invalid: its URL");
}

#[test]
fn without_a_gateway_there_is_nothing_of_it() {
    let lists = [|g: &mut Gateway| g.routes.clear(), |g: &mut Gateway| g.providers.clear(), |g: &mut Gateway| g.bookmarks.clear()];
    for clear in lists {
        let mut snapshot = with_gateway();
        clear(snapshot.gateway.as_mut().unwrap());
        assert!(decode(&encode(&snapshot)).is_ok());
    }
    check_refused(|s| s.teams[0].groups = vec!["sales".into()], "snapshot team team-a is invalid: it has groups");
    // The settings cut out of the bytes, while the lists stay.
    let whole = encode(&with_gateway());
    let at = whole.windows(4).position(|w| w[0] == 0x4a && w[2..] == [0x08, 4]).unwrap();
    let cut = [&whole[..at], &whole[at + 2 + usize::from(whole[at + 1])..]].concat();
    assert_eq!(decode(&cut), Err(DecodeError::Malformed("it has routes, identity providers or bookmarks, but no gateway".into())));
    let plain = with_gateway().without_gateway();
    assert_eq!((plain.gateway.as_ref(), plain.services.len(), plain.grants), (None, 4, with_gateway().grants));
    assert!(plain.teams.iter().all(|t| t.groups.is_empty()));
}

#[test]
fn bounds_of_a_gateway_and_of_whom_it_believes_hold() {
    let many = |n: usize| vec!["g".to_owned(); n];
    check_gateway_refused(
        |g| g.branding.logo.as_mut().unwrap().bytes = vec![b'a'; limits::LOGO_MAX_BYTES + 1],
        "snapshot payload has 32769 bytes, at most 32768",
    );
    check_gateway_refused(|g| g.routes[0].access = Access::Groups(many(limits::GROUPS_MAX + 1)), "snapshot has more than 256 groups of one route");
    check_gateway_refused(|g| g.routes[0].methods = vec!["GET".parse().unwrap(); limits::METHODS_MAX + 1], "snapshot has more than 32 methods");
    check_gateway_refused(|g| g.routes[2].cors.as_mut().unwrap().origins = many(limits::ORIGINS_MAX + 1), "snapshot has more than 64 origins");
    check_gateway_refused(|g| g.routes[2].cors.as_mut().unwrap().headers = many(limits::HEADERS_MAX + 1), "snapshot has more than 64 headers");
    check_gateway_refused(|g| g.providers[0].api_audiences = many(limits::AUDIENCES_MAX + 1), "snapshot has more than 16 audiences");
    check_gateway_refused(|g| g.providers[0].scopes = many(limits::SCOPES_MAX + 1), "snapshot has more than 32 scopes");
    check_gateway_refused(|g| g.providers[0].groups = many(limits::PROVIDER_GROUPS_MAX + 1), "snapshot has more than 1024 groups of one identity provider");
    check_gateway_refused(|g| g.providers[0].claims.groups = vec!["a".parse().unwrap(); limits::CLAIMS_MAX + 1], "snapshot has more than 8 group claims");
    check_gateway_refused(|g| g.bookmarks[0].groups = many(limits::GROUPS_MAX + 1), "snapshot has more than 256 groups of one bookmark");
    let route = |i: usize| Route { path: PathPattern::exact(&format!("/{i}")).unwrap(), ..with_gateway().gateway.unwrap().routes.remove(0) };
    check_gateway_refused(|g| g.routes = (0..=limits::ROUTES_MAX).map(route).collect(), "snapshot has more than 16384 routes");
    check_gateway_refused(|g| g.providers = vec![g.providers[1].clone(); limits::PROVIDERS_MAX + 1], "snapshot has more than 16 identity providers");
    check_gateway_refused(|g| g.bookmarks = vec![g.bookmarks[0].clone(); limits::BOOKMARKS_MAX + 1], "snapshot has more than 1024 bookmarks");
    assert_eq!(LogoKind::Svg.media_type(), "image/svg+xml");
    let mut provider = with_gateway().gateway.unwrap().providers.remove(0);
    assert!(provider.vouches_for("sales") && !provider.vouches_for("Sales") && !provider.vouches_for("ops"));
    provider.groups.clear();
    assert!(provider.vouches_for("ops"));
}

#[test]
fn bounds_hold() {
    let many = |n: usize| move |s: &mut Snapshot| s.services[0].ports = vec![s.services[0].ports[0].clone(); n];
    check_refused(many(limits::PORTS_MAX + 1), "snapshot has more than 256 ports of one service");
    check_refused(|s| s.services[2].externals = vec![s.services[2].externals[0].clone(); limits::EXTERNALS_MAX + 1], "snapshot has more than 1024 ranges");
    check_refused(|s| s.services[0].consumers = vec!["a/*".parse().unwrap(); limits::CONSUMERS_MAX + 1], "snapshot has more than 1024 consumers");
    check_refused(|s| s.endpoints[0].addresses = vec![[0, 0, 0, 0].into(); limits::ADDRESSES_MAX + 1], "snapshot has more than 64 addresses");
    let team = |i: usize| Team { name: format!("t{i}").parse().unwrap(), lead: String::new(), contact: String::new(), groups: vec![] };
    check_refused(|s| s.teams = (0..=limits::TEAMS_MAX).map(team).collect(), "snapshot has more than 65536 teams");
    let endpoint = |i: usize| Endpoint { service: ServiceId(1), node: "a".parse().unwrap(), uid: format!("u{i}").parse().unwrap(), addresses: vec![] };
    check_refused(|s| s.endpoints = (0..=limits::ENDPOINTS_MAX).map(endpoint).collect(), "snapshot has more than 262144 endpoints");
    assert_eq!(
        decode(&vec![0; limits::PAYLOAD_MAX_BYTES + 1]),
        Err(DecodeError::TooLarge { size: limits::PAYLOAD_MAX_BYTES + 1, max: limits::PAYLOAD_MAX_BYTES })
    );
    // Two bytes for each of 32 million services: refused at the first, not after making them all.
    assert!(decode(&[0x22, 0].repeat(limits::PAYLOAD_MAX_BYTES / 2)).is_err());
    // One element with more than its share.
    let mut huge = vec![0x22, 0x80, 0x80, 0x08];
    huge.extend(vec![0; 0x2_0000]);
    assert_eq!(decode(&huge), Err(DecodeError::TooLarge { size: 0x2_0000, max: limits::ELEMENT_MAX_BYTES }));
}

#[test]
fn only_the_canonical_form_is_read() {
    let good = encode(&full());
    let with = |extra: &[u8]| decode(&[&good, extra].concat());
    // Field 9 may be a restriction that this program does not know.
    assert_eq!(with(&[0x48, 1]), Err(DecodeError::Malformed("field 9 is unknown or has another type".to_owned())));
    // A repeated scalar, where the last would win.
    assert_eq!(with(&[0x08, 7]), Err(DecodeError::NotCanonical));
    // An unknown field inside of a team.
    assert!(with(&[0x42, 6, 0x0a, 1, b'z', 0x48, 1, 0]).is_err());
    assert_eq!(with(&[0x42, 5, 0x0a, 1, b'z', 0x48, 1]), Err(DecodeError::NotCanonical));
    assert!(with(&[0x42, 3, 0x0a, 1, b'z']).is_ok());
    // Out of order.
    assert_eq!(with(&[0x42, 3, 0x0a, 1, b'a']), Err(DecodeError::NotCanonical));
}

#[test]
fn truncated_payloads_are_refused_or_whole() {
    let good = encode(&full());
    for cut in 0..good.len() {
        // A cut between two elements leaves a smaller snapshot, which is why the signature covers the length.
        if let Ok(part) = decode(&good[..cut]) {
            assert_eq!(encode(&part), &good[..cut]);
        }
    }
}

proptest! {
    #[test]
    fn hostile_payloads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn damaged_payloads_never_panic(gateway in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&if gateway { with_gateway() } else { full() });
        let i = at.index(bytes.len());
        bytes[i] = byte;
        bytes.truncate(bytes.len() - cut.index(8));
        if let Ok(snapshot) = decode(&bytes) {
            prop_assert_eq!(encode(&snapshot), bytes);
        }
    }
}
