//! A denial in words: the closest thing that would have matched, and the smallest change that would allow it.

use std::collections::BTreeSet;

use weft_snapshot::{Service, ServiceKind};
use weft_types::{Protocol, Reason, builtin};

use crate::{
    Destination, Index, Query, ResolvedKind,
    decide::{Judgement, TUNNEL_PORT},
    patch,
};

/// Ports or services listed in one sentence.
const LISTED_MAX: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explanation {
    pub(crate) nearest_miss: Option<String>,
    pub(crate) patch: Option<String>,
}

impl Explanation {
    fn miss(text: String) -> Self {
        Self { nearest_miss: Some(text), patch: None }
    }
}

pub(crate) fn explain(index: &Index, query: &Query, judgement: &Judgement<'_>) -> Explanation {
    let destination = judgement.resolved.and_then(|r| index.service(r.service));
    let Some(source) = index.service(query.source) else {
        return match judgement.reason.verdict() {
            weft_types::Verdict::Allow => Explanation::default(),
            weft_types::Verdict::Deny => Explanation::miss(format!("no service of this revision has id {}, which the caller carries", query.source)),
        };
    };
    match (judgement.reason, destination) {
        (Reason::Protocol, _) => {
            Explanation::miss(format!("{} is not carried to interfaces by this version, whoever declares it: only TCP is", query.protocol))
        }
        (Reason::OtherNode, Some(to)) => Explanation::miss(other_node(index, source, to)),
        (Reason::TunnelPort, _) => Explanation::miss(format!("port {TUNNEL_PORT} belongs to the agents on every address of the mesh")),
        (Reason::NoSnapshot, _) => Explanation::miss("the node has received nothing from the IAM bridge yet".to_owned()),
        (Reason::UnknownDestination, _) => unknown_destination(index, query, source),
        (Reason::UnknownPort, Some(to)) => Explanation::miss(unknown_port(index, query, judgement, to)),
        (Reason::NeedsL7, Some(to)) => Explanation::miss(format!(
            "the dependency at {} lets {} reach {} for certain HTTP requests only, and no L7 judge exists in this version",
            judgement.grant.map_or("", |g| &g.declared_at),
            source.name,
            to.name
        )),
        (Reason::Pending, Some(to)) => Explanation {
            nearest_miss: Some(format!(
                "{} declares the dependency at {}, but {} ({}) does not name it among its consumers",
                source.name,
                index.pending(source.id, to.id).next().map_or("", |p| &p.declared_at),
                to.name,
                to.declared_at
            )),
            patch: Some(patch::consent(source, to)),
        },
        (Reason::NoGrant, Some(to)) => no_grant(index, query, judgement, source, to),
        _ => Explanation::default(),
    }
}

fn other_node(index: &Index, source: &Service, to: &Service) -> String {
    let nodes = |s: &Service| {
        let all: BTreeSet<_> = index.endpoints(s.id).iter().map(|e| &e.node).collect();
        list(all.into_iter(), ToString::to_string)
    };
    format!("it is granted, but datagrams stay on a node: {} runs on {}, {} on {}", source.name, nodes(source), to.name, nodes(to))
}

fn unknown_destination(index: &Index, query: &Query, source: &Service) -> Explanation {
    let (addr, port) = match query.destination {
        Destination::Service { id, .. } => return Explanation::miss(format!("no service of this revision has id {id}")),
        Destination::Address { addr, port } => (addr.to_canonical(), port),
    };
    let disputed = index.disputed(addr);
    if !disputed.is_empty() {
        let names = list(disputed.iter().filter_map(|id| index.service(*id)), |s| s.name.to_string());
        return Explanation::miss(format!("workloads of {names} all claim {addr}, so it counts as nobody's until one of them lets go"));
    }
    let own = builtin::is_builtin(&source.name);
    Explanation {
        nearest_miss: Some(format!("no service has {addr} as virtual IP or endpoint, and no declared interface holds it")),
        patch: (!own).then(|| patch::interface(index, source, addr, port)),
    }
}

fn unknown_port(index: &Index, query: &Query, judgement: &Judgement<'_>, to: &Service) -> String {
    let dialled = judgement.port;
    let mut miss = match list(to.ports.iter(), |p| format!("{} ({}/{})", p.name, p.port, p.protocol)) {
        none if none.is_empty() => format!("{} declares no ports", to.name),
        ports => format!("{} declares {ports}", to.name),
    };
    let kind = judgement.resolved.map(|r| r.kind);
    let other_side = to.ports.iter().filter(|p| p.protocol == query.protocol).find_map(|p| match kind {
        Some(ResolvedKind::Vip) if p.target_port == dialled => {
            Some(format!("{dialled} is where {} listens on its workloads; the service's port is {}", p.name, p.port))
        }
        Some(ResolvedKind::Endpoint) if p.port == dialled => {
            Some(format!("{dialled} is the service's port; at a workload's own address {} listens on {}", p.name, p.target_port))
        }
        _ => None,
    });
    let public = index.public_ports(to.id).contains(&dialled).then(|| format!("{dialled} is where people come in from outside, and no way for workloads"));
    if let Some(hint) = other_side.or(public) {
        miss = format!("{miss}; {hint}");
    }
    miss
}

fn no_grant(index: &Index, query: &Query, judgement: &Judgement<'_>, source: &Service, to: &Service) -> Explanation {
    let port = judgement.port;
    if to.kind == ServiceKind::Interface && !index.ports(to.id).contains(&(port, query.protocol)) {
        let ports = list(index.ports(to.id).iter(), |(n, protocol)| format!("{n}/{protocol}"));
        return Explanation::miss(format!("the interface {} ({}) has {ports}, not {port}", to.name, to.declared_at));
    }
    if builtin::is_builtin(&source.name) || builtin::is_builtin(&to.name) {
        return own_rules(query, source, to, port);
    }
    let patch = Some(patch::dependency(source, to, port, query.protocol));
    let place = port_words(to, port, query.protocol);
    let ports = index.ports(to.id);
    let mut covered = ports.iter().filter_map(|(n, protocol)| index.declared(source.id, to.id, *n, *protocol)).peekable();
    if let Some(first) = covered.peek() {
        let declared_at = &first.declared_at;
        let covers = list(covered, |g| port_words(to, g.port, g.protocol));
        let miss = format!("the dependency of {} on {} ({declared_at}) covers {covers}, not {place}", source.name, to.name);
        return Explanation { nearest_miss: Some(miss), patch };
    }
    if let Some(waiting) = index.pending(source.id, to.id).next() {
        let miss = format!("{} declares a dependency on another port of {} at {}, which waits for consent", source.name, to.name, waiting.declared_at);
        return Explanation { nearest_miss: Some(miss), patch };
    }
    let others = match list(index.admitted(to.id, port, query.protocol), |s| s.name.to_string()) {
        nobody if nobody.is_empty() => format!("nobody may reach its port {place}"),
        others => format!("its port {place} is open to {others}"),
    };
    let miss = format!("{} ({}) declares no dependency on {}; {others}", source.name, source.declared_at, to.name);
    Explanation { nearest_miss: Some(miss), patch }
}

/// Weft's own services declare nothing: what they reach is exposed or vouches for people, and who reaches them is fixed.
fn own_rules(query: &Query, source: &Service, to: &Service, port: u16) -> Explanation {
    if source.name != builtin::gateway() {
        let words = match builtin::is_builtin(&source.name) {
            true => format!("{} is weft's own, and reaches {} only, at its port {}", source.name, builtin::gateway(), builtin::backchannel_port()),
            false if to.name == builtin::gateway() => {
                format!("{} is weft's own, and only {} reaches its port {}", to.name, builtin::bridge(), port_words(to, port, query.protocol))
            }
            false => format!("{} is weft's own, and only {} reaches it", to.name, builtin::gateway()),
        };
        return Explanation::miss(words);
    }
    let place = port_words(to, port, query.protocol);
    let miss = format!("the gateway reaches what is exposed, and {} ({}) does not expose its port {place}", to.name, to.declared_at);
    let can_be = to.kind == ServiceKind::Application && query.protocol == Protocol::Tcp && !builtin::is_builtin(&to.name);
    Explanation { nearest_miss: Some(miss), patch: can_be.then(|| patch::exposure(to, port)) }
}

fn port_words(to: &Service, port: u16, protocol: Protocol) -> String {
    let name = to.ports.iter().find(|p| p.port == port && p.protocol == protocol);
    name.map_or_else(|| port.to_string(), |p| format!("{} ({port})", p.name))
}

/// `a, b and 3 more`; those beyond the bound are only counted.
pub(crate) fn list<T>(mut items: impl Iterator<Item = T>, show: impl Fn(T) -> String) -> String {
    let shown = items.by_ref().take(LISTED_MAX).map(show).collect::<Vec<_>>().join(", ");
    match items.count() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
