//! One entry of `expose`: the door of an application to people.

use serde_saphyr::Spanned;
use weft_types::{HostName, Label, Method, PathPattern, PortRef, Protocol, ServiceRef, builtin, url_path};

use super::{cors, read::Reader};
use crate::{Access, Cors, Port, PortalTile, Position, Upstream, limits, raw, suggest};

/// An exposure as far as its own document tells. One with a fault is left out.
#[derive(Clone, Debug)]
pub(crate) struct Expose {
    pub(crate) port: u16,
    pub(crate) upstream: Upstream,
    pub(crate) host: (Host, Position),
    pub(crate) path: (PathPattern, Position),
    pub(crate) rewrite: Option<PathPattern>,
    pub(crate) access: Access,
    pub(crate) groups_at: Vec<Position>,
    pub(crate) methods: Vec<Method>,
    pub(crate) cors: Option<Cors>,
    pub(crate) portal: Option<PortalTile>,
    pub(crate) at: Position,
}

#[derive(Clone, Debug)]
pub(crate) enum Host {
    /// Below the Mesh's base domain.
    Relative(Label),
    Absolute(HostName),
}

impl Host {
    /// `None`: there is no base domain, or the whole is too long for a host.
    pub(crate) fn resolve(&self, base: Option<&HostName>) -> Option<HostName> {
        match self {
            Self::Relative(label) => base?.child(label.as_str()).ok(),
            Self::Absolute(host) => Some(host.clone()),
        }
    }
}

pub(crate) fn exposes(
    read: &mut Reader<'_, '_>,
    list: Option<Vec<Spanned<raw::Expose>>>,
    service: &ServiceRef,
    ports: &[Port],
    ports_incomplete: bool,
    at: &Position,
) -> Vec<Expose> {
    let list = read.list("expose", list, limits::EXPOSURES_MAX, at);
    let mut all = vec![];
    for entry in list {
        let at = read.document.position(entry.referenced);
        all.extend(expose(read, entry.value, service, &at, ports, ports_incomplete));
    }
    all
}

fn expose(read: &mut Reader<'_, '_>, e: raw::Expose, service: &ServiceRef, at: &Position, ports: &[Port], ports_incomplete: bool) -> Option<Expose> {
    let port = port(read, e.port.as_ref(), at, ports, ports_incomplete);
    let host = host(read, e.host.as_ref(), service, at);
    let path = path(read, &e, at);
    let rewrite = match (&e.rewrite, &path) {
        (Some(_), _) if e.path.is_some() => {
            read.refuse(at, "exposure rewrites a path that is exact", Some("rewrite replaces what pathPrefix took: give a pathPrefix, or no rewrite"));
            None
        }
        (Some(text), _) => Some(pattern(read, "rewrite", text, PathPattern::prefix)),
        (None, _) => Some(None),
    };
    let access = access(read, e.access, at);
    let methods = methods(read, e.methods);
    let cors = cors::cors(read, e.cors);
    let portal = e.portal.map(|p| PortalTile {
        title: read.text(p.title).unwrap_or_default(),
        icon: read.text(p.icon).unwrap_or_default(),
        category: read.text(p.category).unwrap_or_default(),
        hidden: p.hidden.unwrap_or_default(),
    });
    let (port, upstream) = port?;
    let (access, groups_at) = access?;
    let rewrite = match (rewrite?, &e.rewrite) {
        (None, Some(_)) => return None,
        (rewrite, _) => rewrite,
    };
    Some(Expose { port, upstream, host: host?, path: path?, rewrite, access, groups_at, methods: methods?, cors: cors?, portal, at: at.clone() })
}

fn port(read: &mut Reader<'_, '_>, text: Option<&raw::Text>, at: &Position, ports: &[Port], ports_incomplete: bool) -> Option<(u16, Upstream)> {
    let Some(text) = text else {
        read.refuse(at, "exposure names no port", Some("add `port: NAME`"));
        return None;
    };
    let place = read.at(text);
    let wanted = read.port_ref(text)?;
    let mut meant = ports.iter().filter(|p| match &wanted {
        PortRef::Number(n) => p.port == *n,
        PortRef::Name(name) => p.name == *name,
    });
    let Some(port) = meant.clone().find(|p| p.protocol == Protocol::Tcp).or_else(|| meant.next()) else {
        if !ports_incomplete {
            let close = suggest::closest(&text.value, ports.iter().map(|p| p.name.as_str()));
            let help = close.map(|c| format!("did you mean {c}?"));
            read.refuse(&place, format!("exposure names port {}, which the service does not declare", text.value), help.as_deref());
        }
        return None;
    };
    if port.protocol != Protocol::Tcp {
        read.refuse(&place, format!("exposure names port {}, which is {}", port.name, port.protocol), Some("the gateway speaks HTTP over TCP"));
        return None;
    }
    match upstream(port.app_protocol.as_deref()) {
        Ok(upstream) => Some((port.port, upstream)),
        Err(help) => {
            let message = format!("exposure names port {}, whose appProtocol is {}", port.name, port.app_protocol.as_deref().unwrap_or_default());
            read.refuse(&place, message, Some(help));
            None
        }
    }
}

/// As Kubernetes writes them too (KEP-3726); what says nothing speaks HTTP.
fn upstream(app_protocol: Option<&str>) -> Result<Upstream, &'static str> {
    match app_protocol {
        None | Some("http" | "http/1.1" | "ws" | "kubernetes.io/ws") => Ok(Upstream::Http),
        Some("h2c" | "http2" | "kubernetes.io/h2c") => Ok(Upstream::H2c),
        Some("grpc") => Ok(Upstream::Grpc),
        Some("https" | "wss" | "kubernetes.io/wss" | "tls" | "ssl") => Err("the mesh encrypts already: expose a port that speaks plain HTTP"),
        Some(_) => Err("the gateway reaches http, h2c and grpc: name another port, or correct its appProtocol"),
    }
}

/// Without a dot it is below the base domain, with one it is meant as it stands.
fn host(read: &mut Reader<'_, '_>, text: Option<&raw::Text>, service: &ServiceRef, at: &Position) -> Option<(Host, Position)> {
    let Some(text) = text else { return Some((Host::Relative(service.name.clone()), at.clone())) };
    let place = read.at(text);
    let parsed = match text.value.contains('.') {
        true => text.value.parse().map(Host::Absolute),
        false => text.value.parse().map(Host::Relative),
    };
    if parsed.is_err() {
        let lower = text.value.to_ascii_lowercase();
        let help = if text.value.contains('*') {
            "a host stands for itself: name each one".to_owned()
        } else if text.value.contains("://") || text.value.contains(['/', ':']) {
            "a host is a name only: paths stand in path or pathPrefix, the port in the Mesh's publicPort".to_owned()
        } else if lower != text.value && lower.parse::<HostName>().is_ok() {
            format!("write it in lower case: {lower}")
        } else {
            "it is a label below the Mesh's baseDomain, or with a dot a whole DNS name".to_owned()
        };
        read.refuse(&place, format!("host {:?} is no name that a browser could ask for", text.value), Some(&help));
    }
    Some((parsed.ok()?, place))
}

fn path(read: &mut Reader<'_, '_>, e: &raw::Expose, at: &Position) -> Option<(PathPattern, Position)> {
    let (pattern, place) = match (&e.path, &e.path_prefix) {
        (Some(_), Some(_)) => {
            read.refuse(at, "exposure has both path and pathPrefix", Some("give two exposures"));
            return None;
        }
        (None, None) => return Some((PathPattern::prefix("/").expect("a path"), at.clone())),
        (Some(text), None) => (pattern(read, "path", text, PathPattern::exact)?, read.at(text)),
        (None, Some(text)) => (pattern(read, "pathPrefix", text, PathPattern::prefix)?, read.at(text)),
    };
    if url_path::is_own(pattern.as_str()) {
        let help = format!("{}/ holds sign-on, sessions and the portal's own pages on every host: choose another path", builtin::OWN_PATHS);
        read.refuse(&place, format!("path {} is the gateway's own", pattern.as_str()), Some(&help));
        return None;
    }
    Some((pattern, place))
}

fn pattern(
    read: &mut Reader<'_, '_>,
    field: &str,
    text: &raw::Text,
    parse: impl FnOnce(&str) -> Result<PathPattern, weft_types::PathError>,
) -> Option<PathPattern> {
    let refused = |e: weft_types::PathError| match e.to_string().strip_prefix("path ") {
        Some(rest) => format!("{field} {rest}"),
        None => e.to_string(),
    };
    parse(&text.value).map_err(|e| read.refuse(&read.at(text), refused(e), None)).ok()
}

fn access(read: &mut Reader<'_, '_>, access: Option<raw::Access>, at: &Position) -> Option<(Access, Vec<Position>)> {
    const HELP: &str = "one of `access: { groups: [ … ] }`, `{ authenticated: true }`, `{ public: true }`";
    let access = access.unwrap_or_default();
    let (public, authenticated) = (access.public == Some(true), access.authenticated == Some(true));
    let given = access.groups.is_some();
    let groups = match access.groups {
        Some(list) if list.value.is_empty() => {
            read.refuse(&read.document.position(list.referenced), "groups is empty, which would let nobody in", Some(HELP));
            return None;
        }
        Some(list) => groups(read, Some(list.value), at),
        None => vec![],
    };
    match (public, authenticated, given) {
        (true, false, false) => Some((Access::Public, vec![])),
        (false, true, false) => Some((Access::Authenticated, vec![])),
        (false, false, true) if !groups.is_empty() => {
            let (groups, places) = groups.into_iter().unzip();
            Some((Access::Groups(groups), places))
        }
        (false, false, true) => None,
        (true, _, true) => {
            read.refuse(at, "exposure is public and for groups only at once", Some(HELP));
            None
        }
        _ => {
            read.refuse(at, "exposure does not say who may open it", Some(HELP));
            None
        }
    }
}

/// Names of groups as the identity provider says them. Empty when one of them cannot be read: the others alone would not be what was meant.
pub(super) fn groups(read: &mut Reader<'_, '_>, list: Option<Vec<raw::Text>>, at: &Position) -> Vec<(String, Position)> {
    let list = read.list("groups", list, limits::GROUPS_MAX, at);
    let count = list.len();
    let mut all: Vec<(String, Position)> = vec![];
    for text in list {
        let place = read.at(&text);
        let Some(group) = read.text(Some(text)) else { continue };
        if all.iter().any(|(other, _)| *other == group) {
            read.report.warning(&place, format!("group {group} is named twice"));
        }
        all.push((group, place));
    }
    if all.len() == count { all } else { vec![] }
}

fn methods(read: &mut Reader<'_, '_>, list: Option<Spanned<Vec<raw::Text>>>) -> Option<Vec<Method>> {
    let Some(list) = list else { return Some(vec![]) };
    let at = read.document.position(list.referenced);
    if list.value.is_empty() {
        read.refuse(&at, "methods is empty, which would allow no request", Some("remove it, or say which"));
        return None;
    }
    let list = read.list("methods", Some(list.value), limits::METHODS_MAX, &at);
    let all: Vec<Method> = list.iter().filter_map(|text| method(read, text)).collect();
    (all.len() == list.len() && !all.is_empty()).then_some(all)
}

pub(super) fn method(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<Method> {
    let method = read.parse::<Method>(text)?;
    if matches!(method.as_str(), "CONNECT" | "TRACE") {
        read.refuse(&read.at(text), format!("method {method} never passes the gateway"), Some("remove it"));
        return None;
    }
    Some(method)
}
