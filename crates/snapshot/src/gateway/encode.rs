//! The gateway's part of a payload: domain to messages.

use weft_types::{Method, PathKind};

use super::{Access, Bookmark, Cors, Gateway, IdentityProvider, LogoKind, Route, Shown, Upstream, wire};

/// Without its lists, which are fields of their own.
pub(crate) fn settings(g: &Gateway) -> wire::Gateway {
    wire::Gateway {
        service: g.service.0,
        base_domain: g.base_domain.to_string(),
        public_port: g.public_port.into(),
        title: g.branding.title.clone(),
        support: g.branding.support.clone(),
        accent: g.branding.accent.clone(),
        accent_dark: g.branding.accent_dark.clone(),
        logo_kind: match g.branding.logo.as_ref().map(|l| l.kind) {
            None => 0,
            Some(LogoKind::Svg) => 1,
            Some(LogoKind::Png) => 2,
        },
        logo: g.branding.logo.as_ref().map(|l| l.bytes.clone()).unwrap_or_default(),
        listen_port: g.listen_port.into(),
        redirect_port: g.redirect_port.map_or(0, u32::from),
    }
}

pub(crate) fn route(r: &Route) -> wire::Route {
    let (access, groups) = match &r.access {
        Access::Public => (1, vec![]),
        Access::Authenticated => (2, vec![]),
        Access::Groups(groups) => (3, groups.clone()),
    };
    wire::Route {
        rule: r.rule.0,
        service: r.service.0,
        port: r.port.into(),
        upstream: match r.upstream {
            Upstream::Http => 1,
            Upstream::H2c => 2,
            Upstream::Grpc => 3,
        },
        host: r.host.to_string(),
        path_kind: if r.path.kind() == PathKind::Prefix { 2 } else { 1 },
        path: r.path.as_str().to_owned(),
        rewrite: r.rewrite.as_ref().map(|p| p.as_str().to_owned()).unwrap_or_default(),
        access,
        groups,
        methods: words(&r.methods),
        cors: r.cors.as_ref().map(cors),
        shown: match r.portal.shown {
            Shown::Default => 0,
            Shown::Own => 1,
            Shown::Hidden => 2,
        },
        title: r.portal.title.clone(),
        icon: r.portal.icon.clone(),
        category: r.portal.category.clone(),
        declared_at: r.declared_at.clone(),
    }
}

fn cors(c: &Cors) -> wire::Cors {
    wire::Cors {
        origins: c.origins.clone(),
        methods: words(&c.methods),
        headers: c.headers.clone(),
        credentials: c.credentials,
        max_age_seconds: c.max_age_seconds,
    }
}

pub(crate) fn provider(p: &IdentityProvider) -> wire::IdentityProvider {
    wire::IdentityProvider {
        name: p.name.clone(),
        title: p.title.clone(),
        builtin: p.builtin,
        issuer: p.issuer.clone(),
        client_id: p.client_id.clone(),
        client_secret_file: p.client_secret_file.clone(),
        scopes: p.scopes.clone(),
        groups_claims: p.claims.groups.iter().map(ToString::to_string).collect(),
        username_claim: p.claims.username.to_string(),
        email_claim: p.claims.email.to_string(),
        name_claim: p.claims.name.to_string(),
        groups: p.groups.clone(),
        api_audiences: p.api_audiences.clone(),
        via_service: p.via.as_ref().map_or(0, |v| v.service.0),
        via_port: p.via.as_ref().map_or(0, |v| v.port.into()),
        declared_at: p.declared_at.clone(),
    }
}

pub(crate) fn bookmark(b: &Bookmark) -> wire::Bookmark {
    wire::Bookmark { title: b.title.clone(), url: b.url.clone(), icon: b.icon.clone(), category: b.category.clone(), groups: b.groups.clone() }
}

fn words(methods: &[Method]) -> Vec<String> {
    methods.iter().map(ToString::to_string).collect()
}
