//! The gateway's part of a payload: messages to domain, every text parsed, every list bounded.

use std::collections::HashSet;

use weft_types::{ClaimPath, HostName, PathPattern, RuleId, ServiceId, builtin, url_path};

use super::{Access, Bookmark, Branding, Claims, Cors, Gateway, IdentityProvider, Logo, LogoKind, PortalEntry, Route, Shown, Upstream, Via, wire};
use crate::{
    DecodeError, Snapshot,
    decode::{invalid, parse, port_number, text, within},
    limits,
};

/// Without its lists, which are fields of their own.
pub(crate) fn settings(w: wire::Gateway) -> Result<Gateway, DecodeError> {
    let subject = &w.base_domain;
    if w.logo.len() > limits::LOGO_MAX_BYTES {
        return Err(DecodeError::TooLarge { size: w.logo.len(), max: limits::LOGO_MAX_BYTES });
    }
    let logo = match (w.logo_kind, w.logo.is_empty()) {
        (0, true) => None,
        (1, false) => Some(Logo { kind: LogoKind::Svg, bytes: w.logo }),
        (2, false) => Some(Logo { kind: LogoKind::Png, bytes: w.logo }),
        _ => return Err(invalid("gateway", subject, "its logo is of no known kind")),
    };
    let gateway = Gateway {
        service: ServiceId(w.service),
        base_domain: parse("gateway", subject, subject)?,
        public_port: port_number("gateway", w.public_port)?,
        listen_port: open_port(subject, w.listen_port)?,
        redirect_port: match w.redirect_port {
            0 => None,
            port => Some(open_port(subject, port)?),
        },
        branding: Branding {
            title: text("gateway", &w.title)?,
            support: text("gateway", &w.support)?,
            accent: colour(&w.accent)?,
            accent_dark: colour(&w.accent_dark)?,
            logo,
        },
        routes: vec![],
        providers: vec![],
        bookmarks: vec![],
    };
    if gateway.redirect_port == Some(gateway.listen_port) {
        return Err(invalid("gateway", subject, "it redirects from where it listens"));
    }
    match (gateway.portal_host(), gateway.provider_host()) {
        (Ok(_), Ok(_)) => Ok(gateway),
        _ => Err(invalid("gateway", subject, "its base domain is too long")),
    }
}

/// Everybody may connect there, so it is none that the mesh itself is spoken to at.
fn open_port(subject: &str, port: u32) -> Result<u16, DecodeError> {
    let port = port_number("gateway", port)?;
    if builtin::OWN_PORTS.contains(&port) {
        return Err(invalid("gateway", subject, "one of weft's own ports would be open to everybody"));
    }
    Ok(port)
}

pub(crate) fn route(w: wire::Route) -> Result<Route, DecodeError> {
    let subject = format!("{}{}", w.host, w.path);
    let bad = |why: &str| invalid("route", &subject, why);
    if w.rule == 0 {
        return Err(bad("rule 0 stands for no rule"));
    }
    let pattern = |kind: u32, path: &str| match kind {
        1 => PathPattern::exact(path).map_err(|e| bad(&e.to_string())),
        2 => PathPattern::prefix(path).map_err(|e| bad(&e.to_string())),
        _ => Err(bad("its path is of no known kind")),
    };
    let rewrite = if w.rewrite.is_empty() { None } else { Some(pattern(2, &w.rewrite)?) };
    if rewrite.is_some() && w.path_kind != 2 {
        return Err(bad("only a prefix is rewritten"));
    }
    within("methods of one route", w.methods.len(), limits::METHODS_MAX)?;
    Ok(Route {
        rule: RuleId(w.rule),
        service: ServiceId(w.service),
        port: port_number(&subject, w.port)?,
        upstream: match w.upstream {
            1 => Upstream::Http,
            2 => Upstream::H2c,
            3 => Upstream::Grpc,
            _ => return Err(bad("its application speaks no known protocol")),
        },
        host: parse("route", &subject, &w.host)?,
        path: pattern(w.path_kind, &w.path)?,
        rewrite,
        access: access(&subject, w.access, w.groups)?,
        methods: w.methods.iter().map(|m| parse("route", &subject, m)).collect::<Result<_, _>>()?,
        cors: w.cors.map(|c| cors(&subject, c)).transpose()?,
        portal: PortalEntry {
            shown: match w.shown {
                0 => Shown::Default,
                1 => Shown::Own,
                2 => Shown::Hidden,
                _ => return Err(bad("how the portal shows it is unknown")),
            },
            title: text("route", &w.title)?,
            icon: text("route", &w.icon)?,
            category: text("route", &w.category)?,
        },
        declared_at: text("route", &w.declared_at)?,
    })
}

/// What is not known opens nothing.
fn access(subject: &str, kind: u32, groups: Vec<String>) -> Result<Access, DecodeError> {
    let groups = texts("route", "groups of one route", limits::GROUPS_MAX, groups)?;
    match (kind, groups.is_empty()) {
        (1, true) => Ok(Access::Public),
        (2, true) => Ok(Access::Authenticated),
        (3, false) => Ok(Access::Groups(groups)),
        _ => Err(invalid("route", subject, "who may open it is unknown")),
    }
}

fn cors(subject: &str, w: wire::Cors) -> Result<Cors, DecodeError> {
    within("methods of one route", w.methods.len(), limits::METHODS_MAX)?;
    let cors = Cors {
        origins: texts("route", "origins of one route", limits::ORIGINS_MAX, w.origins)?,
        methods: w.methods.iter().map(|m| parse("route", subject, m)).collect::<Result<_, _>>()?,
        headers: texts("route", "headers of one route", limits::HEADERS_MAX, w.headers)?,
        credentials: w.credentials,
        max_age_seconds: w.max_age_seconds,
    };
    let any = cors.origins.iter().any(|o| o == "*");
    if cors.origins.is_empty() || any && (cors.credentials || cors.origins.len() > 1) {
        return Err(invalid("route", subject, "its origins are none, or every one with credentials"));
    }
    Ok(cors)
}

pub(crate) fn provider(w: wire::IdentityProvider) -> Result<IdentityProvider, DecodeError> {
    let (what, subject) = ("identity provider", w.name.clone());
    let claim = |c: &str| parse::<ClaimPath>(what, &subject, c);
    within("group claims of one identity provider", w.groups_claims.len(), limits::CLAIMS_MAX)?;
    let via = match (w.via_service, w.via_port) {
        (0, 0) => None,
        (service, port) => Some(Via { service: ServiceId(service), port: port_number(&subject, port)? }),
    };
    if w.name.is_empty() || !w.builtin && (w.issuer.is_empty() || w.client_id.is_empty()) {
        return Err(invalid(what, &subject, "its name, issuer or client is absent"));
    }
    Ok(IdentityProvider {
        claims: Claims {
            groups: w.groups_claims.iter().map(|c| claim(c)).collect::<Result<_, _>>()?,
            username: claim(&w.username_claim)?,
            email: claim(&w.email_claim)?,
            name: claim(&w.name_claim)?,
        },
        name: text(what, &w.name)?,
        title: text(what, &w.title)?,
        builtin: w.builtin,
        issuer: text(what, &w.issuer)?,
        client_id: text(what, &w.client_id)?,
        client_secret_file: text(what, &w.client_secret_file)?,
        scopes: texts(what, "scopes of one identity provider", limits::SCOPES_MAX, w.scopes)?,
        groups: texts(what, "groups of one identity provider", limits::PROVIDER_GROUPS_MAX, w.groups)?,
        api_audiences: texts(what, "audiences of one identity provider", limits::AUDIENCES_MAX, w.api_audiences)?,
        via,
        declared_at: text(what, &w.declared_at)?,
    })
}

pub(crate) fn bookmark(w: wire::Bookmark) -> Result<Bookmark, DecodeError> {
    // What else an anchor may lead to could be a script.
    if !w.url.starts_with("https://") && !w.url.starts_with("http://") {
        return Err(invalid("bookmark", &w.title, "its URL is neither https nor http"));
    }
    Ok(Bookmark {
        title: text("bookmark", &w.title)?,
        url: text("bookmark", &w.url)?,
        icon: text("bookmark", &w.icon)?,
        category: text("bookmark", &w.category)?,
        groups: texts("bookmark", "groups of one bookmark", limits::GROUPS_MAX, w.groups)?,
    })
}

/// What it names is there, and no two routes take the same paths.
pub(crate) fn references(s: &Snapshot) -> Result<(), DecodeError> {
    let Some(gateway) = &s.gateway else {
        return match s.teams.iter().find(|t| !t.groups.is_empty()) {
            Some(team) => Err(invalid("team", team.name.as_str(), "it has groups, which say nothing without a gateway")),
            None => Ok(()),
        };
    };
    let service = |id: ServiceId| s.services.iter().find(|service| service.id == id);
    match service(gateway.service) {
        None => return Err(invalid("gateway", gateway.base_domain.as_str(), "no service has its id")),
        // Its ports are open to everybody: nobody else has such.
        Some(other) if other.name != builtin::gateway() => {
            return Err(invalid("gateway", gateway.base_domain.as_str(), "its service is another than weft/gateway"));
        }
        Some(_) => {}
    }
    let ports: HashSet<(ServiceId, u16)> = s.services.iter().flat_map(|s| s.ports.iter().map(|p| (s.id, p.port))).collect();
    let own: Vec<HostName> = [gateway.portal_host(), gateway.provider_host()].into_iter().flatten().collect();
    let mut patterns = HashSet::new();
    for r in &gateway.routes {
        let bad = |why: &str| invalid("route", &format!("{}{}", r.host, r.path), why);
        if !ports.contains(&(r.service, r.port)) {
            return Err(bad("no service has that id and port"));
        }
        if own.contains(&r.host) || url_path::is_own(r.path.as_str()) {
            return Err(bad("host or path are the gateway's own"));
        }
        if !patterns.insert((&r.host, r.path.shape())) {
            return Err(bad("another route takes the same paths"));
        }
    }
    let mut names = HashSet::new();
    for p in &gateway.providers {
        let bad = |why: &str| invalid("identity provider", &p.name, why);
        if p.via.as_ref().is_some_and(|v| service(v.service).is_none()) {
            return Err(bad("no service has the id by which it is reached"));
        }
        if !names.insert(&p.name) {
            return Err(bad("it is listed twice"));
        }
    }
    Ok(())
}

pub(crate) fn texts(what: &'static str, list: &'static str, max: usize, all: Vec<String>) -> Result<Vec<String>, DecodeError> {
    within(list, all.len(), max)?;
    all.iter().map(|t| text(what, t)).collect()
}

/// It goes into a style sheet.
fn colour(s: &str) -> Result<String, DecodeError> {
    let digits = s.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    if s.is_empty() || digits.is_some() { Ok(s.to_owned()) } else { Err(invalid("colour", s, "it is not written as #rrggbb")) }
}
