//! Bytes to domain: everything is parsed into its newtype, every reference resolves, every list is bounded, or nothing is taken.
//!
//! The outer message is walked here and its elements are decoded one at a time, so that a hostile payload never makes more memory
//! than its own size times a small constant. Unknown fields are refused: a field that an old agent skips might be a restriction.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use prost::Message;
use thiserror::Error;
use weft_types::{Protocol, Revision, RuleId, ServiceId, ServiceRef, SpiffeId, TrustDomain};

use crate::{
    Bookmark, Endpoint, External, Gateway, Grant, IdentityProvider, Pending, Port, Route, Service, ServiceKind, Snapshot, Team, encode,
    gateway::decode as gateway,
    limits,
    walk::{Value, Walk},
    wire::{self, field},
};

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("snapshot payload has {size} bytes, at most {max} are allowed")]
    TooLarge { size: usize, max: usize },
    #[error("snapshot has more than {max} {what}")]
    TooMany { what: &'static str, max: usize },
    #[error("snapshot payload is no message of this schema: {0}")]
    Malformed(String),
    #[error("snapshot {what} {subject} is invalid: {why}")]
    Invalid { what: &'static str, subject: String, why: String },
    #[error("snapshot payload is not in canonical form: it holds unknown fields, or its lists are not sorted")]
    NotCanonical,
}

/// Reads what [`encode()`] wrote. The caller has verified the signature ([`crate::Keyring::open`]).
pub fn decode(payload: &[u8]) -> Result<Snapshot, DecodeError> {
    if payload.len() > limits::PAYLOAD_MAX_BYTES {
        return Err(DecodeError::TooLarge { size: payload.len(), max: limits::PAYLOAD_MAX_BYTES });
    }
    let snapshot = Elements::read(payload)?.into_snapshot()?;
    if encode(&snapshot) != payload {
        return Err(DecodeError::NotCanonical);
    }
    Ok(snapshot)
}

/// What a payload, or a part of one, is made of.
#[derive(Debug, Default)]
pub(crate) struct Elements {
    pub(crate) revision: u64,
    pub(crate) mesh: String,
    pub(crate) trust_domain: Option<TrustDomain>,
    pub(crate) services: Vec<Service>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) grants: Vec<Grant>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) teams: Vec<Team>,
    /// Its lists are the next ones.
    pub(crate) gateway: Option<Gateway>,
    pub(crate) routes: Vec<Route>,
    pub(crate) providers: Vec<IdentityProvider>,
    pub(crate) bookmarks: Vec<Bookmark>,
}

impl Elements {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut all = Self::default();
        for item in Walk::new(bytes) {
            match item.map_err(|why| DecodeError::Malformed(why.to_owned()))? {
                (field::REVISION, Value::Number(n)) => all.revision = n,
                (field::MESH, Value::Bytes(b)) => all.mesh = text("mesh", &utf8(b)?)?,
                (field::TRUST_DOMAIN, Value::Bytes(b)) => {
                    let name = utf8(b)?;
                    all.trust_domain = Some(parse("trust domain", &name, &name)?);
                }
                (field::SERVICES, Value::Bytes(b)) => push(&mut all.services, "services", limits::SERVICES_MAX, service(message(b)?)?)?,
                (field::ENDPOINTS, Value::Bytes(b)) => push(&mut all.endpoints, "endpoints", limits::ENDPOINTS_MAX, endpoint(message(b)?)?)?,
                (field::GRANTS, Value::Bytes(b)) => push(&mut all.grants, "grants", limits::GRANTS_MAX, grant(message(b)?)?)?,
                (field::PENDING, Value::Bytes(b)) => push(&mut all.pending, "pending dependencies", limits::PENDING_MAX, pending(message(b)?)?)?,
                (field::TEAMS, Value::Bytes(b)) => push(&mut all.teams, "teams", limits::TEAMS_MAX, team(message(b)?)?)?,
                (field::GATEWAY, Value::Bytes(b)) => all.gateway = Some(gateway::settings(message(b)?)?),
                (field::ROUTES, Value::Bytes(b)) => push(&mut all.routes, "routes", limits::ROUTES_MAX, gateway::route(message(b)?)?)?,
                (field::PROVIDERS, Value::Bytes(b)) => {
                    push(&mut all.providers, "identity providers", limits::PROVIDERS_MAX, gateway::provider(message(b)?)?)?;
                }
                (field::BOOKMARKS, Value::Bytes(b)) => push(&mut all.bookmarks, "bookmarks", limits::BOOKMARKS_MAX, gateway::bookmark(message(b)?)?)?,
                (number, _) => return Err(DecodeError::Malformed(format!("field {number} is unknown or has another type"))),
            }
        }
        Ok(all)
    }

    pub(crate) fn bounded(&self) -> Result<(), DecodeError> {
        within("services", self.services.len(), limits::SERVICES_MAX)?;
        within("endpoints", self.endpoints.len(), limits::ENDPOINTS_MAX)?;
        within("grants", self.grants.len(), limits::GRANTS_MAX)?;
        within("pending dependencies", self.pending.len(), limits::PENDING_MAX)?;
        within("teams", self.teams.len(), limits::TEAMS_MAX)?;
        within("routes", self.routes.len(), limits::ROUTES_MAX)?;
        within("identity providers", self.providers.len(), limits::PROVIDERS_MAX)?;
        within("bookmarks", self.bookmarks.len(), limits::BOOKMARKS_MAX)
    }

    /// Whole in itself, or nothing.
    pub(crate) fn into_snapshot(self) -> Result<Snapshot, DecodeError> {
        let Self { revision, mesh, trust_domain, services, endpoints, grants, pending, teams, gateway, routes, providers, bookmarks } = self;
        let alone = routes.is_empty() && providers.is_empty() && bookmarks.is_empty();
        let gateway = match gateway {
            Some(settings) => Some(Gateway { routes, providers, bookmarks, ..settings }),
            None if alone => None,
            None => return Err(DecodeError::Malformed("it has routes, identity providers or bookmarks, but no gateway".to_owned())),
        };
        let trust_domain = trust_domain.ok_or_else(|| DecodeError::Malformed("the trust domain is absent".to_owned()))?;
        let snapshot = Snapshot { revision: Revision(revision), mesh, trust_domain, services, endpoints, grants, pending, teams, gateway };
        references(&snapshot)?;
        Ok(snapshot)
    }
}

fn service(w: wire::Service) -> Result<Service, DecodeError> {
    let subject = format!("{}/{}", w.namespace, w.name);
    let bad = |why: &str| invalid("service", &subject, why);
    if w.id == 0 {
        return Err(bad("its id is 0"));
    }
    let kind = match w.kind {
        1 => ServiceKind::Application,
        2 => ServiceKind::Resource,
        3 => ServiceKind::Interface,
        _ => return Err(bad("its kind is unknown")),
    };
    let identity: SpiffeId = parse("service", &subject, &w.identity)?;
    if !identity.is_workload() {
        return Err(bad("its identity is not a workload's"));
    }
    within("ports of one service", w.ports.len(), limits::PORTS_MAX)?;
    within("ranges of one interface", w.externals.len(), limits::EXTERNALS_MAX)?;
    within("consumers of one service", w.consumers.len(), limits::CONSUMERS_MAX)?;
    let interface = kind == ServiceKind::Interface;
    if interface && (w.vip.is_some() || !w.ports.is_empty()) || !interface && !w.externals.is_empty() {
        return Err(bad("an interface has ranges only, any other service a virtual IP and ports only"));
    }
    Ok(Service {
        id: ServiceId(w.id),
        name: ServiceRef { namespace: parse("service", &subject, &w.namespace)?, name: parse("service", &subject, &w.name)? },
        kind,
        title: text("service", &w.title)?,
        owner: parse("service", &subject, &w.owner)?,
        capability: text("service", &w.capability)?,
        lifecycle: text("service", &w.lifecycle)?,
        identity,
        vip: w.vip.map(Into::into),
        ports: w.ports.iter().map(|p| port(&subject, p)).collect::<Result<_, _>>()?,
        externals: w.externals.iter().map(|e| external(&subject, e)).collect::<Result<_, _>>()?,
        consumers: w.consumers.iter().map(|c| parse("service", &subject, c)).collect::<Result<_, _>>()?,
        declared_at: text("service", &w.declared_at)?,
    })
}

fn port(subject: &str, w: &wire::Port) -> Result<Port, DecodeError> {
    Ok(Port {
        name: parse("port of", subject, &w.name)?,
        port: port_number(subject, w.port)?,
        target_port: port_number(subject, w.target_port)?,
        protocol: protocol(subject, w.protocol)?,
    })
}

fn external(subject: &str, w: &wire::External) -> Result<External, DecodeError> {
    let bits = u8::try_from(w.prefix_bits).ok();
    let cidr = bits.and_then(|bits| IpNet::new(address(&w.network)?, bits).ok()).filter(|net| net.trunc() == *net);
    let cidr = cidr.ok_or_else(|| invalid("range of", subject, "it is no network prefix"))?;
    Ok(External { cidr, port: port_number(subject, w.port)?, protocol: protocol(subject, w.protocol)? })
}

fn endpoint(w: wire::Endpoint) -> Result<Endpoint, DecodeError> {
    let subject = format!("{} on {}", w.uid, w.node);
    within("addresses of one endpoint", w.addresses.len(), limits::ADDRESSES_MAX)?;
    let addresses = w.addresses.iter().map(|a| address(a).ok_or_else(|| invalid("endpoint", &subject, "an address has neither 4 nor 16 bytes")));
    Ok(Endpoint {
        service: ServiceId(w.service),
        node: parse("endpoint", &subject, &w.node)?,
        uid: parse("endpoint", &subject, &w.uid)?,
        addresses: addresses.collect::<Result<_, _>>()?,
    })
}

fn grant(w: wire::Grant) -> Result<Grant, DecodeError> {
    let subject = w.rule.to_string();
    if w.rule == 0 {
        return Err(invalid("grant", &subject, "rule 0 stands for no rule"));
    }
    Ok(Grant {
        rule: RuleId(w.rule),
        source: ServiceId(w.source),
        destination: ServiceId(w.destination),
        port: port_number(&subject, w.port)?,
        protocol: protocol(&subject, w.protocol)?,
        needs_l7: w.needs_l7,
        declared_at: text("grant", &w.declared_at)?,
    })
}

fn pending(w: wire::Pending) -> Result<Pending, DecodeError> {
    let port = match w.port {
        0 => None,
        n => Some(port_number("pending dependency", n)?),
    };
    Ok(Pending { source: ServiceId(w.source), destination: ServiceId(w.destination), port, declared_at: text("pending dependency", &w.declared_at)? })
}

fn team(w: wire::Team) -> Result<Team, DecodeError> {
    let groups = gateway::texts("team", "groups of one team", limits::GROUPS_MAX, w.groups)?;
    Ok(Team { name: parse("team", &w.name, &w.name)?, lead: text("team", &w.lead)?, contact: text("team", &w.contact)?, groups })
}

/// Every id that is used is declared, and what must be unique is.
fn references(s: &Snapshot) -> Result<(), DecodeError> {
    let ids: HashSet<ServiceId> = s.services.iter().map(|s| s.id).collect();
    unique_services(s)?;
    let known = |what, subject: &dyn ToString, id: ServiceId| {
        if ids.contains(&id) { Ok(()) } else { Err(invalid(what, &subject.to_string(), &format!("no service has id {id}"))) }
    };
    let mut workloads = HashSet::new();
    for e in &s.endpoints {
        known("endpoint", &e.uid, e.service)?;
        if !workloads.insert((&e.node, &e.uid)) {
            return Err(invalid("endpoint", &format!("{} on {}", e.uid, e.node), "it is listed twice"));
        }
    }
    let mut grants = HashSet::new();
    for g in &s.grants {
        known("grant", &g.rule, g.source)?;
        known("grant", &g.rule, g.destination)?;
        if !grants.insert((g.source, g.destination, g.port, g.protocol)) {
            return Err(invalid("grant", &g.rule.to_string(), "another grant covers the same source, destination and port"));
        }
    }
    for p in &s.pending {
        known("pending dependency", &p.declared_at, p.source)?;
        known("pending dependency", &p.declared_at, p.destination)?;
    }
    let mut teams = HashSet::new();
    match s.teams.iter().find(|t| !teams.insert(&t.name)) {
        Some(twice) => Err(invalid("team", twice.name.as_str(), "it is listed twice")),
        None => gateway::references(s),
    }
}

fn unique_services(s: &Snapshot) -> Result<(), DecodeError> {
    let (mut ids, mut names, mut identities, mut vips) = (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
    let mut ranges: HashMap<IpNet, ServiceId> = HashMap::new();
    for service in &s.services {
        let bad = |why| invalid("service", &service.name.to_string(), why);
        if *service.identity.trust_domain() != s.trust_domain {
            return Err(bad("its identity is of another trust domain"));
        }
        if !ids.insert(service.id) || !names.insert(&service.name) || !identities.insert(&service.identity) {
            return Err(bad("its id, name or identity belongs to another service too"));
        }
        if service.vip.is_some_and(|vip| !vips.insert(vip)) {
            return Err(bad("its virtual IP belongs to another service too"));
        }
        if service.externals.iter().any(|e| *ranges.entry(e.cidr).or_insert(service.id) != service.id) {
            return Err(bad("one of its ranges belongs to another interface too"));
        }
    }
    Ok(())
}

fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, DecodeError> {
    if bytes.len() > limits::ELEMENT_MAX_BYTES {
        return Err(DecodeError::TooLarge { size: bytes.len(), max: limits::ELEMENT_MAX_BYTES });
    }
    M::decode(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))
}

fn push<T>(list: &mut Vec<T>, what: &'static str, max: usize, item: T) -> Result<(), DecodeError> {
    within(what, list.len() + 1, max)?;
    list.push(item);
    Ok(())
}

pub(crate) fn within(what: &'static str, count: usize, max: usize) -> Result<(), DecodeError> {
    if count > max { Err(DecodeError::TooMany { what, max }) } else { Ok(()) }
}

pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(what: &'static str, subject: &str, s: &str) -> Result<T, DecodeError> {
    s.parse().map_err(|e: T::Err| invalid(what, subject, &e.to_string()))
}

pub(crate) fn text(what: &'static str, s: &str) -> Result<String, DecodeError> {
    if s.len() > limits::TEXT_MAX_BYTES {
        return Err(invalid(what, s, &format!("a text is longer than {} bytes", limits::TEXT_MAX_BYTES)));
    }
    Ok(s.to_owned())
}

fn utf8(bytes: &[u8]) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|e| DecodeError::Malformed(e.to_string()))
}

pub(crate) fn port_number(subject: &str, n: u32) -> Result<u16, DecodeError> {
    u16::try_from(n).ok().filter(|n| *n != 0).ok_or_else(|| invalid("port of", subject, "it is not between 1 and 65535"))
}

fn protocol(subject: &str, n: u32) -> Result<Protocol, DecodeError> {
    u8::try_from(n).ok().and_then(Protocol::from_number).ok_or_else(|| invalid("protocol of", subject, "it is neither TCP nor UDP"))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

pub(crate) fn invalid(what: &'static str, subject: &str, why: &str) -> DecodeError {
    DecodeError::Invalid { what, subject: subject.chars().take(160).collect(), why: why.to_owned() }
}
