//! The route that the index finds is the one that a slow look at all of them finds.

use std::{collections::HashSet, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::select};
use weft_policy::{Index, Who};
use weft_snapshot::{Access, Branding, Gateway, PortalEntry, Route, Service, ServiceKind, Snapshot, Upstream};
use weft_types::{
    PathKind, PathPattern, Revision, RuleId, Segment, ServiceId,
    url_path::{check_normal, is_own},
};

const HOSTS: [&str; 2] = ["a.example", "b.example"];

/// Written out: of those that take the path, the kind that says more; of templates the one that is plain first, of prefixes the longest.
fn reference<'a>(routes: &'a [Route], host: &str, path: &str) -> Option<&'a Route> {
    let plain: Vec<&str> = path.split('/').map(|s| s.split(';').next().unwrap()).collect();
    let (one, other) = (first_of(routes, host, path)?, first_of(routes, host, &plain.join("/"))?);
    (one.rule == other.rule).then_some(one)
}

fn first_of<'a>(routes: &'a [Route], host: &str, path: &str) -> Option<&'a Route> {
    if check_normal(path).is_err() || is_own(path) {
        return None;
    }
    let rank = |r: &Route| {
        let any: Vec<bool> = r.path.segments().map(|s| s == Segment::Any).collect();
        let plain = if r.path.kind() == PathKind::Template { any } else { vec![] };
        (r.path.kind(), plain, std::cmp::Reverse(r.path.as_str().trim_end_matches('/').len()))
    };
    routes.iter().filter(|r| r.host.as_str() == host && r.path.takes(path)).min_by_key(|r| rank(r))
}

/// Few words, so that patterns meet; one is the gateway's own.
fn step() -> impl Strategy<Value = String> {
    prop_oneof![4 => select(&["a", "b", "aa"][..]).prop_map(str::to_owned), 1 => Just(".weft".to_owned())]
}

fn pattern() -> impl Strategy<Value = PathPattern> {
    let exact = (vec(prop_oneof![3 => step(), 2 => Just("{x}".to_owned())], 0..4), any::<bool>()).prop_map(|(steps, slash)| {
        let end = if slash && !steps.is_empty() { "/" } else { "" };
        PathPattern::exact(&format!("/{}{end}", steps.join("/"))).unwrap()
    });
    let prefix = vec(step(), 0..4).prop_map(|steps| PathPattern::prefix(&format!("/{}", steps.join("/"))).unwrap());
    prop_oneof![2 => exact, 1 => prefix]
}

fn path() -> impl Strategy<Value = String> {
    let wild = select(&["", ".", "..", "%61", "a%2Fb", "A", "%", "a?b", "a;x", "b;", ";", "..;a"][..]).prop_map(str::to_owned);
    (vec(prop_oneof![12 => step(), 1 => wild], 0..5), any::<bool>()).prop_map(|(steps, slash)| format!("/{}{}", steps.join("/"), if slash { "/" } else { "" }))
}

fn access() -> impl Strategy<Value = Access> {
    let groups = vec(select(&["g", "h"][..]).prop_map(str::to_owned), 1..3);
    prop_oneof![Just(Access::Public), Just(Access::Authenticated), groups.prop_map(Access::Groups)]
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    vec((select(&HOSTS[..]), pattern(), access()), 0..24).prop_map(|all| {
        let mut seen = HashSet::new();
        let unique = all.into_iter().filter(|(host, path, _)| !is_own(path.as_str()) && seen.insert((*host, path.shape())));
        (1..)
            .zip(unique)
            .map(|(rule, (host, path, access))| Route {
                rule: RuleId(rule),
                service: ServiceId(1),
                port: 80,
                upstream: Upstream::Http,
                host: host.parse().unwrap(),
                path,
                rewrite: None,
                access,
                methods: vec![],
                cors: None,
                portal: PortalEntry::default(),
                declared_at: String::new(),
            })
            .collect()
    })
}

fn index(routes: Vec<Route>) -> Index {
    let service = Service {
        id: ServiceId(1),
        name: "n/s".parse().unwrap(),
        kind: ServiceKind::Application,
        title: String::new(),
        owner: "t".parse().unwrap(),
        capability: String::new(),
        lifecycle: String::new(),
        identity: "spiffe://d/ns/n/sa/s".parse().unwrap(),
        vip: None,
        ports: vec![],
        externals: vec![],
        consumers: vec![],
        declared_at: String::new(),
    };
    let gateway = Gateway {
        service: ServiceId(1),
        base_domain: "example".parse().unwrap(),
        public_port: 443,
        listen_port: 443,
        redirect_port: None,
        branding: Branding::default(),
        routes,
        providers: vec![],
        bookmarks: vec![],
    };
    Index::new(Arc::new(Snapshot {
        revision: Revision(1),
        mesh: String::new(),
        trust_domain: "d".parse().unwrap(),
        services: vec![service],
        endpoints: vec![],
        grants: vec![],
        pending: vec![],
        teams: vec![],
        gateway: Some(gateway),
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_index_and_a_slow_look_agree(routes in routes(), paths in vec(path(), 1..24)) {
        let index = index(routes.clone());
        for host in HOSTS.into_iter().chain(["c.example"]) {
            for path in &paths {
                let (found, wanted) = (index.route(host, path), reference(&routes, host, path));
                prop_assert_eq!(found.map(|r| r.rule), wanted.map(|r| r.rule), "{}{}: {:?}, not {:?}", host, path, found.map(|r| &r.path), wanted.map(|r| &r.path));
            }
        }
    }

    /// Nobody gets in anywhere that the route's own words do not say.
    #[test]
    fn whoever_is_let_in_fits_the_rule(routes in routes(), path in path(), groups in vec(select(&["g", "h", "i"][..]).prop_map(str::to_owned), 0..3)) {
        let index = index(routes);
        for host in HOSTS {
            let Some(route) = index.route(host, &path) else { continue };
            let person = index.admit(route, Who::Person { name: "x", groups: &groups }, "GET").is_allowed();
            let nobody = index.admit(route, Who::Anonymous, "GET").is_allowed();
            let (person_may, nobody_may) = match &route.access {
                Access::Public => (true, true),
                Access::Authenticated => (true, false),
                Access::Groups(any_of) => (any_of.iter().any(|g| groups.contains(g)), false),
            };
            prop_assert_eq!((person, nobody), (person_may, nobody_may));
        }
    }

    /// One more group opens more, never less.
    #[test]
    fn a_group_closes_nothing(routes in routes(), groups in vec(select(&["g", "h"][..]).prop_map(str::to_owned), 0..2), more in select(&["g", "h"][..])) {
        let index = index(routes);
        let with: Vec<String> = groups.iter().cloned().chain([more.to_owned()]).collect();
        let open = |groups: &[String]| -> HashSet<RuleId> {
            let all = &index.snapshot().gateway.as_ref().unwrap().routes;
            all.iter().filter(|r| index.admit(r, Who::Person { name: "x", groups }, "GET").is_allowed()).map(|r| r.rule).collect()
        };
        prop_assert!(open(&groups).is_subset(&open(&with)));
    }
}
