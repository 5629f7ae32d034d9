//! One snapshot that uses every field.

use weft_snapshot::{
    Access, Bookmark, Branding, Claims, Cors, Endpoint, External, Gateway, Grant, IdentityProvider, Logo, LogoKind, Pending, Port, PortalEntry, Route, Service,
    ServiceKind, Shown, Snapshot, Team, Upstream, Via,
};
use weft_types::{PathPattern, Protocol, Revision, RuleId, ServiceId};

pub(crate) fn service(id: u32, name: &str, kind: ServiceKind) -> Service {
    let interface = kind == ServiceKind::Interface;
    let (namespace, short) = name.split_once('/').unwrap();
    let port = |name: &str, port, target_port, protocol| Port { name: name.parse().unwrap(), port, target_port, protocol };
    let external = |cidr: &str, port| External { cidr: cidr.parse().unwrap(), port, protocol: Protocol::Tcp };
    Service {
        id: ServiceId(id),
        name: name.parse().unwrap(),
        kind,
        title: format!("The {name}"),
        owner: "team-a".parse().unwrap(),
        capability: short.to_owned(),
        lifecycle: "production".to_owned(),
        identity: format!("spiffe://corp.example/ns/{namespace}/sa/{short}").parse().unwrap(),
        vip: (!interface).then(|| [100, 64, 0, u8::try_from(id).unwrap()].into()),
        ports: if interface { vec![] } else { vec![port("web", 80, 8080, Protocol::Tcp), port("dns", 53, 53, Protocol::Udp)] },
        externals: if interface { vec![external("203.0.113.0/24", 443), external("2001:db8::/32", 443)] } else { vec![] },
        consumers: vec!["billing/*".parse().unwrap(), "shop/orders".parse().unwrap()],
        declared_at: format!("{short}.yaml:3"),
    }
}

pub(crate) fn full() -> Snapshot {
    let endpoint = |service, node: &str, uid: &str, addresses: &[&str]| Endpoint {
        service: ServiceId(service),
        node: node.parse().unwrap(),
        uid: uid.parse().unwrap(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
    };
    let grant = |rule, source, destination, port, needs_l7| Grant {
        rule: RuleId(rule),
        source: ServiceId(source),
        destination: ServiceId(destination),
        port,
        protocol: Protocol::Tcp,
        needs_l7,
        declared_at: "orders.yaml:9".to_owned(),
    };
    Snapshot {
        revision: Revision(7),
        mesh: "corp".to_owned(),
        trust_domain: "corp.example".parse().unwrap(),
        services: vec![
            service(1, "shop/orders", ServiceKind::Application),
            service(2, "shop/orders-db", ServiceKind::Resource),
            service(3, "finance/cards", ServiceKind::Interface),
        ],
        endpoints: vec![endpoint(1, "a", "orders-1", &["10.0.0.1", "fd00::1"]), endpoint(1, "b", "orders-1", &["10.0.1.1"]), endpoint(2, "a", "db", &[])],
        grants: vec![grant(1, 1, 2, 80, false), grant(2, 1, 3, 443, true)],
        pending: vec![
            Pending { source: ServiceId(2), destination: ServiceId(3), port: None, declared_at: "db.yaml:4".to_owned() },
            Pending { source: ServiceId(2), destination: ServiceId(3), port: Some(443), declared_at: "db.yaml:5".to_owned() },
        ],
        teams: vec![Team { name: "team-a".parse().unwrap(), lead: "alice@corp.example".to_owned(), contact: "#a".to_owned(), groups: vec![] }],
        gateway: None,
    }
}

/// The same with a gateway that uses every field of its own.
pub(crate) fn with_gateway() -> Snapshot {
    let mut snapshot = full();
    snapshot.services.push(Service { ports: vec![], ..service(4, "weft/gateway", ServiceKind::Application) });
    snapshot.teams[0].groups = vec!["sales".to_owned()];
    snapshot.gateway = Some(gateway());
    snapshot
}

pub(crate) fn route(rule: u32, path: PathPattern, access: Access) -> Route {
    Route {
        rule: RuleId(rule),
        service: ServiceId(1),
        port: 80,
        upstream: Upstream::Http,
        host: "shop.corp.example".parse().unwrap(),
        path,
        rewrite: None,
        access,
        methods: vec![],
        cors: None,
        portal: PortalEntry::default(),
        declared_at: "orders.yaml:20".to_owned(),
    }
}

fn gateway() -> Gateway {
    let groups = |all: &[&str]| all.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>();
    let cors = Cors {
        origins: vec!["https://other.example".to_owned()],
        methods: vec!["PUT".parse().unwrap()],
        headers: vec!["x-asked".to_owned()],
        credentials: true,
        max_age_seconds: 600,
    };
    let full = Route {
        upstream: Upstream::Grpc,
        rewrite: Some(PathPattern::prefix("/api").unwrap()),
        methods: vec!["GET".parse().unwrap(), "POST".parse().unwrap()],
        cors: Some(cors),
        portal: PortalEntry { shown: Shown::Own, title: "Orders".to_owned(), icon: "cart".to_owned(), category: "Sales".to_owned() },
        ..route(13, PathPattern::prefix("/orders").unwrap(), Access::Groups(groups(&["sales", "support"])))
    };
    let claim = |c: &str| c.parse().unwrap();
    let provider = IdentityProvider {
        name: "corp".to_owned(),
        title: "Corp".to_owned(),
        builtin: false,
        issuer: "https://login.example/realms/corp".to_owned(),
        client_id: "weft".to_owned(),
        client_secret_file: "/etc/weft/secret".to_owned(),
        scopes: groups(&["openid", "email"]),
        claims: Claims { groups: vec![claim("realm_access.roles"), claim("/https:~1~1corp.example~1groups")], ..Claims::default() },
        groups: groups(&["sales"]),
        api_audiences: groups(&["api"]),
        via: Some(Via { service: ServiceId(2), port: 80 }),
        declared_at: "mesh.yaml:9".to_owned(),
    };
    let local = IdentityProvider { name: "local".to_owned(), builtin: true, issuer: String::new(), client_id: String::new(), via: None, ..provider.clone() };
    Gateway {
        service: ServiceId(4),
        base_domain: "corp.example".parse().unwrap(),
        public_port: 443,
        listen_port: 8443,
        redirect_port: Some(8080),
        branding: Branding {
            title: "Corp".to_owned(),
            support: "help@corp.example".to_owned(),
            accent: "#00aa11".to_owned(),
            accent_dark: "#ffffff".to_owned(),
            logo: Some(Logo { kind: LogoKind::Svg, bytes: b"<svg/>".to_vec() }),
        },
        routes: vec![
            route(11, PathPattern::exact("/hook").unwrap(), Access::Public),
            route(12, PathPattern::exact("/items/{id}").unwrap(), Access::Authenticated),
            full,
        ],
        providers: vec![provider, local],
        bookmarks: vec![Bookmark {
            title: "Wiki".to_owned(),
            url: "https://wiki.example/".to_owned(),
            icon: "book".to_owned(),
            category: "Outside".to_owned(),
            groups: groups(&["sales"]),
        }],
    }
}
