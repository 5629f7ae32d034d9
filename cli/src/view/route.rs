//! What is exposed, as a snapshot holds it.

use serde::Serialize;
use weft_snapshot::{Access, Gateway, Route, Service, Shown, Snapshot};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// As people reach it; ends in `/*` where everything below belongs to it.
    pub url: String,
    pub host: String,
    /// exact, template, prefix
    pub path_kind: String,
    pub path: String,
    /// What stands for the prefix on the way to the application.
    pub rewrite: Option<String>,
    pub service: String,
    pub port: u16,
    pub port_name: Option<String>,
    /// http, h2c, grpc
    pub upstream: String,
    /// public, authenticated, groups
    pub access: String,
    /// Any of them.
    pub groups: Vec<String>,
    /// Empty: every one.
    pub methods: Vec<String>,
    pub cors: Option<CorsView>,
    pub portal: TileView,
    pub owner: String,
    pub rule: u32,
    pub declared_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorsView {
    pub origins: Vec<String>,
    pub methods: Vec<String>,
    pub headers: Vec<String>,
    pub credentials: bool,
    pub max_age_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TileView {
    /// default, own, hidden
    pub shown: Shown,
    pub title: String,
    pub icon: String,
    pub category: String,
}

impl RouteView {
    /// In the order of hosts and paths.
    pub fn all(snapshot: &Snapshot) -> Vec<Self> {
        let routes = snapshot.gateway.iter().flat_map(|g| g.routes.iter().map(move |r| (g, r)));
        routes.map(|(g, r)| Self::one(g, r, snapshot.services.iter().find(|s| s.id == r.service))).collect()
    }

    fn one(gateway: &Gateway, r: &Route, service: Option<&Service>) -> Self {
        let (access, groups) = match &r.access {
            Access::Public => ("public", vec![]),
            Access::Authenticated => ("authenticated", vec![]),
            Access::Groups(groups) => ("groups", groups.clone()),
        };
        let kind = match r.path.kind() {
            weft_types::PathKind::Exact => "exact",
            weft_types::PathKind::Template => "template",
            weft_types::PathKind::Prefix => "prefix",
        };
        let words = |methods: &[weft_types::Method]| methods.iter().map(ToString::to_string).collect::<Vec<_>>();
        Self {
            url: format!("{}{}", gateway.origin(&r.host), r.path),
            host: r.host.to_string(),
            path_kind: kind.to_owned(),
            path: r.path.as_str().to_owned(),
            rewrite: r.rewrite.as_ref().map(|p| p.as_str().to_owned()),
            service: service.map_or_else(|| format!("service {}", r.service), |s| s.name.to_string()),
            port: r.port,
            port_name: service.and_then(|s| s.ports.iter().find(|p| p.port == r.port)).map(|p| p.name.to_string()),
            upstream: r.upstream.as_str().to_owned(),
            access: access.to_owned(),
            groups,
            methods: words(&r.methods),
            cors: r.cors.as_ref().map(|c| CorsView {
                origins: c.origins.clone(),
                methods: words(&c.methods),
                headers: c.headers.clone(),
                credentials: c.credentials,
                max_age_seconds: c.max_age_seconds,
            }),
            portal: TileView { shown: r.portal.shown, title: r.portal.title.clone(), icon: r.portal.icon.clone(), category: r.portal.category.clone() },
            owner: service.map(|s| s.owner.to_string()).unwrap_or_default(),
            rule: r.rule.0,
            declared_at: r.declared_at.clone(),
        }
    }
}
