//! What is exposed, compiled: weft's own services and their rules, routes, and who vouches for people.
//!
//! The rules are built in: an exposure lets the gateway reach that port, an identity provider of the mesh lets it reach the provider, the local provider
//! reaches the gateway's back channel, and nothing else does. Nobody declares them, and no declaration gives anybody else the same.

use std::collections::BTreeMap;

use weft_catalog::{Catalog, Exposure};
use weft_snapshot::{
    Access, Bookmark, Branding, Claims, Cors, Gateway, Grant, IdentityProvider, Logo, LogoKind, Port, PortalEntry, Route, Service, ServiceKind, Shown,
    Upstream, Via,
};
use weft_types::{HostName, Protocol, ServiceId, ServiceRef, SpiffeId, TeamName, builtin};

use crate::{Ids, compile::GrantKey};

/// How the local provider is called where the catalog names none.
const LOCAL: &str = "local";
/// What the gateway is at the local provider.
const LOCAL_CLIENT: &str = "weft-gateway";

/// Services that the catalog declares, with their numbers.
pub(crate) type Numbers<'a> = BTreeMap<&'a ServiceRef, (ServiceId, &'a weft_catalog::Service)>;

/// What is there because something is exposed.
pub(crate) struct Opened {
    pub(crate) services: Vec<Service>,
    pub(crate) gateway: Gateway,
}

/// `None`: there is nothing for a gateway to do.
pub(crate) fn open(catalog: &Catalog, numbers: &Numbers<'_>, ids: &mut dyn Ids, grants: &mut BTreeMap<GrantKey, Grant>) -> Option<Opened> {
    let mesh = &catalog.mesh;
    let base = mesh.base_domain.clone().filter(|_| catalog.has_gateway())?;
    let backchannel =
        Port { name: builtin::backchannel_port(), port: builtin::BACKCHANNEL_PORT, target_port: builtin::BACKCHANNEL_TARGET_PORT, protocol: Protocol::Tcp };
    let own = own_service(catalog, &builtin::gateway(), "Gateway", vec![backchannel], ids);
    let mut gateway = Gateway {
        service: own.id,
        base_domain: base,
        public_port: mesh.public_port,
        listen_port: mesh.listen_port,
        redirect_port: mesh.redirect_port,
        branding: branding(&mesh.portal),
        routes: vec![],
        providers: vec![],
        bookmarks: mesh.bookmarks.iter().map(bookmark).collect(),
    };
    let mut services = vec![own];
    let mut between = |(source, from): (ServiceId, ServiceRef), destination: ServiceId, name: &ServiceRef, port: u16, at: &str, ids: &mut dyn Ids| {
        let protocol = Protocol::Tcp;
        let rule = ids.rule_id(&format!("{from} -> {name}:{port}/{protocol}"));
        let one = Grant { rule, source, destination, port, protocol, needs_l7: false, declared_at: at.to_owned() };
        grants.entry((source, destination, port, protocol)).or_insert(one);
    };
    let own_id = gateway.service;
    let mut grant = |destination: ServiceId, name: &ServiceRef, port: u16, at: &str, ids: &mut dyn Ids| {
        between((own_id, builtin::gateway()), destination, name, port, at, ids);
    };
    for &(id, service) in numbers.values() {
        for exposure in &service.expose {
            grant(id, &service.name, exposure.port, &exposure.at.to_string(), ids);
            gateway.routes.push(route(id, service, exposure, ids));
        }
    }
    for p in &mesh.identity_providers {
        let via = p.client.as_ref().and_then(|c| c.via.as_ref()).and_then(|via| {
            let &(service, declared) = numbers.get(&via.service)?;
            let port = declared.ports_meant(via.port.as_ref()).into_iter().find(|(_, protocol)| *protocol == Protocol::Tcp)?.0;
            grant(service, &via.service, port, &p.at.to_string(), ids);
            Some(Via { service, port })
        });
        gateway.providers.push(provider(p, via));
    }
    if catalog.has_local_provider() {
        let port = Port { name: builtin::provider_port(), port: builtin::PROVIDER_PORT, target_port: builtin::PROVIDER_TARGET_PORT, protocol: Protocol::Tcp };
        let bridge = own_service(catalog, &builtin::bridge(), "Local identity provider", vec![port], ids);
        grant(bridge.id, &bridge.name, builtin::PROVIDER_PORT, &mesh.at.to_string(), ids);
        between((bridge.id, builtin::bridge()), own_id, &builtin::gateway(), builtin::BACKCHANNEL_PORT, &mesh.at.to_string(), ids);
        local(&mut gateway, Via { service: bridge.id, port: builtin::PROVIDER_PORT }, &mesh.at.to_string());
        services.push(bridge);
    }
    Some(Opened { services, gateway })
}

/// The one that is declared, or the one that is there when none is.
fn local(gateway: &mut Gateway, via: Via, at: &str) {
    let host: Option<HostName> = gateway.provider_host().ok();
    let issuer = host.map(|h| gateway.origin(&h)).unwrap_or_default();
    if !gateway.providers.iter().any(|p| p.builtin) {
        gateway.providers.push(IdentityProvider {
            name: LOCAL.to_owned(),
            title: "Sign in".to_owned(),
            builtin: true,
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: String::new(),
            scopes: vec![],
            claims: Claims::default(),
            groups: vec![],
            api_audiences: vec![],
            via: None,
            declared_at: at.to_owned(),
        });
    }
    for p in gateway.providers.iter_mut().filter(|p| p.builtin) {
        p.issuer.clone_from(&issuer);
        p.client_id = LOCAL_CLIENT.to_owned();
        p.scopes = ["openid", "profile", "email", "groups"].map(str::to_owned).to_vec();
        p.via = Some(via.clone());
    }
}

fn own_service(catalog: &Catalog, name: &ServiceRef, title: &str, ports: Vec<Port>, ids: &mut dyn Ids) -> Service {
    Service {
        id: ids.service_id(name),
        name: name.clone(),
        kind: ServiceKind::Application,
        title: title.to_owned(),
        owner: builtin::OWNER.parse::<TeamName>().expect("a team's name"),
        capability: name.to_string(),
        lifecycle: weft_catalog::Lifecycle::Production.as_str().to_owned(),
        identity: SpiffeId::Workload { trust_domain: catalog.mesh.trust_domain.clone(), namespace: name.namespace.clone(), service_account: name.name.clone() },
        vip: ids.vip(name, catalog.mesh.service_range),
        ports,
        externals: vec![],
        consumers: vec![],
        declared_at: builtin::DECLARED_AT.to_owned(),
    }
}

fn route(id: ServiceId, service: &weft_catalog::Service, e: &Exposure, ids: &mut dyn Ids) -> Route {
    let access = match &e.access {
        weft_catalog::Access::Public => Access::Public,
        weft_catalog::Access::Authenticated => Access::Authenticated,
        weft_catalog::Access::Groups(groups) => Access::Groups(groups.clone()),
    };
    Route {
        rule: ids.rule_id(&rule_key(service, e)),
        service: id,
        port: e.port,
        upstream: match e.upstream {
            weft_catalog::Upstream::Http => Upstream::Http,
            weft_catalog::Upstream::H2c => Upstream::H2c,
            weft_catalog::Upstream::Grpc => Upstream::Grpc,
        },
        host: e.host.clone(),
        path: e.path.clone(),
        rewrite: e.rewrite.clone(),
        access,
        methods: e.methods.clone(),
        cors: e.cors.as_ref().map(|c| Cors {
            origins: c.origins.clone(),
            methods: c.methods.clone(),
            headers: c.headers.clone(),
            credentials: c.credentials,
            max_age_seconds: c.max_age_seconds,
        }),
        portal: tile(e.portal.as_ref()),
        declared_at: e.at.to_string(),
    }
}

fn tile(declared: Option<&weft_catalog::PortalTile>) -> PortalEntry {
    let Some(p) = declared else { return PortalEntry::default() };
    let shown = if p.hidden { Shown::Hidden } else { Shown::Own };
    PortalEntry { shown, title: p.title.clone(), icon: p.icon.clone(), category: p.category.clone() }
}

/// What makes a rule the same rule: where from, where to, and whose. Not where it is written, and not how the portal shows it.
fn rule_key(service: &weft_catalog::Service, e: &Exposure) -> String {
    let access = match &e.access {
        weft_catalog::Access::Public => "public".to_owned(),
        weft_catalog::Access::Authenticated => "authenticated".to_owned(),
        weft_catalog::Access::Groups(groups) => {
            let mut groups = groups.clone();
            groups.sort();
            format!("groups {groups:?}")
        }
    };
    let mut methods: Vec<&str> = e.methods.iter().map(weft_types::Method::as_str).collect();
    methods.sort_unstable();
    format!("route https://{}{} {access} {methods:?} -> {}:{}", e.host, e.path, service.name, e.port)
}

fn provider(p: &weft_catalog::IdentityProvider, via: Option<Via>) -> IdentityProvider {
    let client = p.client.as_ref();
    let text = |f: fn(&weft_catalog::Client) -> &String| client.map(f).cloned().unwrap_or_default();
    IdentityProvider {
        name: p.name.to_string(),
        title: p.title.clone(),
        builtin: client.is_none(),
        issuer: text(|c| &c.issuer),
        client_id: text(|c| &c.id),
        client_secret_file: text(|c| &c.secret_file),
        scopes: client.map(|c| c.scopes.clone()).unwrap_or_default(),
        claims: Claims { groups: p.claims.groups.clone(), username: p.claims.username.clone(), email: p.claims.email.clone(), name: p.claims.name.clone() },
        groups: p.groups.clone(),
        api_audiences: p.api_audiences.clone(),
        via,
        declared_at: p.at.to_string(),
    }
}

fn branding(b: &weft_catalog::Branding) -> Branding {
    let kind = |kind| match kind {
        weft_catalog::LogoKind::Svg => LogoKind::Svg,
        weft_catalog::LogoKind::Png => LogoKind::Png,
    };
    Branding {
        title: b.title.clone(),
        support: b.support.clone(),
        accent: b.accent.clone(),
        accent_dark: b.accent_dark.clone(),
        logo: b.logo.as_ref().map(|l| Logo { kind: kind(l.kind), bytes: l.bytes.clone() }),
    }
}

fn bookmark(b: &weft_catalog::Bookmark) -> Bookmark {
    Bookmark { title: b.title.clone(), url: b.url.clone(), icon: b.icon.clone(), category: b.category.clone(), groups: b.groups.clone() }
}
