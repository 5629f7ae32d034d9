//! `weft can`: the verdict on a connection that nobody has opened yet, from the same function that judges real ones.

use std::path::Path;

use anyhow::Result;
use thiserror::Error;
use weft_policy::{Destination, Index, Query};
use weft_snapshot::Service;
use weft_types::{PortRef, Protocol, ServiceId, Target};

use super::can_open;
use crate::{Context, Outcome, args::CanArgs, output, source, suggest::did_you_mean, view::AnswerView};

#[derive(Debug, Error)]
pub enum CanError {
    #[error("no service {name} in {place}{hint}")]
    UnknownService { name: String, place: String, hint: String },
    #[error("the source is who connects, so it takes no port: leave out \":{0}\"")]
    SourcePort(String),
    #[error("node {0} is no workload: name a service (NAMESPACE/NAME) or ip:ADDRESS")]
    Node(String),
    #[error("ip:{0} is the address of no workload, so nothing with an identity connects from there; name the service instead")]
    SourceAddress(String),
    #[error("ip:{0} belongs to no service and no declared interface, so its ports are not known: write ip:{0}:PORT")]
    AddressPort(String),
    #[error("{service} declares no port {port}; it has {ports}{hint}")]
    UnknownPort { service: String, port: String, ports: String, hint: String },
    #[error("{0} declares no port, so nothing can connect to it")]
    NoPorts(String),
    #[error("{0} is a person, and people come in through the gateway only: ask about https://HOST/PATH")]
    Person(String),
    #[error("an address https://… is what people and API clients ask for: write user:NAME, group:NAME or anonymous before it")]
    NotAPerson,
    #[error("{0} is where something leads, not who asks for it: write user:NAME, group:NAME or anonymous before it")]
    SourceUrl(String),
    #[error("--protocol is of connections, and {0} is an address for people: leave it out")]
    Protocol(String),
    #[error("--method is of requests to https://…, and this asks about a connection: leave it out")]
    Method,
}

pub(super) async fn run(ctx: &Context, args: CanArgs) -> Result<Outcome> {
    if matches!(args.destination, Target::Url(_)) || can_open::is_person(&args.source) {
        return can_open::run(ctx, args).await;
    }
    if args.method.is_some() {
        return Err(CanError::Method.into());
    }
    let snapshot = source::snapshot(ctx, args.catalog.as_deref()).await?;
    let index = Index::new(snapshot.into());
    let answers = decide(&index, &args.source, &args.destination, args.protocol)?;
    ctx.output.show(&answers, |style| output::answers(style, &answers))?;
    Ok(outcome(&answers))
}

/// 0 only when every port asked about is allowed.
pub fn outcome(answers: &[AnswerView]) -> Outcome {
    Outcome::findings_if(!answers.iter().all(AnswerView::allowed))
}

/// The same with a catalog directory, as `--catalog` does it.
pub fn decide_offline(dir: &Path, source: &Target, destination: &Target) -> Result<Vec<AnswerView>> {
    let index = Index::new(source::compile_catalog(dir)?.into());
    Ok(decide(&index, source, destination, None)?)
}

/// One answer for each port that `destination` covers; never none.
pub fn decide(index: &Index, source: &Target, destination: &Target, protocol: Option<Protocol>) -> Result<Vec<AnswerView>, CanError> {
    let source = resolve_source(index, source)?;
    let asked = resolve_destination(index, destination, protocol)?;
    let answer = |a: Asked| {
        let address = match &a.destination {
            Destination::Address { addr, .. } => Some(addr.to_string()),
            Destination::Service { .. } => None,
        };
        let decision = index.decide(&Query { source, destination: a.destination, protocol: a.protocol });
        AnswerView::new(decision, address, a.name)
    };
    Ok(asked.into_iter().map(answer).collect())
}

struct Asked {
    destination: Destination,
    protocol: Protocol,
    name: Option<String>,
}

fn resolve_source(index: &Index, source: &Target) -> Result<ServiceId, CanError> {
    match source {
        Target::Service { port: Some(port), .. } => Err(CanError::SourcePort(port.to_string())),
        Target::Ip { port: Some(port), .. } => Err(CanError::SourcePort(port.to_string())),
        Target::Service { service, port: None } => Ok(find(index, &service.to_string())?.id),
        Target::Node(name) => Err(CanError::Node(name.to_string())),
        Target::Url(url) => Err(CanError::SourceUrl(url.to_string())),
        Target::User { .. } | Target::Group(_) | Target::Anonymous => Err(CanError::Person(can_open::named(source))),
        Target::Ip { addr, port: None } => {
            let endpoint = index.snapshot().endpoints.iter().find(|e| e.addresses.contains(addr));
            endpoint.map(|e| e.service).ok_or_else(|| CanError::SourceAddress(addr.to_string()))
        }
    }
}

fn resolve_destination(index: &Index, destination: &Target, protocol: Option<Protocol>) -> Result<Vec<Asked>, CanError> {
    match destination {
        Target::Node(name) => Err(CanError::Node(name.to_string())),
        Target::Url(_) => Err(CanError::NotAPerson),
        Target::User { .. } | Target::Group(_) | Target::Anonymous => Err(CanError::Person(can_open::named(destination))),
        Target::Service { service, port } => ports_of(find(index, &service.to_string())?, port.as_ref(), protocol),
        Target::Ip { addr, port: Some(port) } => {
            let protocol = protocol.unwrap_or_default();
            Ok(vec![Asked { destination: Destination::Address { addr: *addr, port: *port }, protocol, name: None }])
        }
        Target::Ip { addr, port: None } => {
            let service = index.resolve(*addr).and_then(|r| index.service(r.service)).ok_or_else(|| CanError::AddressPort(addr.to_string()))?;
            ports_of(service, None, protocol)
        }
    }
}

/// What a service declares: ports, and of an interface the ports of its externals.
fn declared(service: &Service) -> Vec<(u16, Protocol, Option<String>)> {
    let ports = service.ports.iter().map(|p| (p.port, p.protocol, Some(p.name.to_string())));
    let mut all: Vec<_> = ports.chain(service.externals.iter().map(|e| (e.port, e.protocol, None))).collect();
    all.sort_by_key(|(port, protocol, name)| (*port, *protocol, name.is_none()));
    all.dedup_by_key(|(port, protocol, _)| (*port, *protocol));
    all
}

fn ports_of(service: &Service, port: Option<&PortRef>, protocol: Option<Protocol>) -> Result<Vec<Asked>, CanError> {
    let asked = |(port, protocol, name)| Asked { destination: Destination::Service { id: service.id, port }, protocol, name };
    let all = declared(service);
    let wanted: Vec<_> = all
        .iter()
        .filter(|(n, p, name)| {
            let fits = match port {
                None => true,
                Some(PortRef::Number(number)) => n == number,
                Some(PortRef::Name(wanted)) => name.as_deref() == Some(wanted.as_str()),
            };
            fits && protocol.is_none_or(|wanted| wanted == *p)
        })
        .cloned()
        .map(asked)
        .collect();
    match (wanted.is_empty(), port) {
        (false, _) => Ok(wanted),
        (true, None) => Err(CanError::NoPorts(service.name.to_string())),
        // A number that is not declared is a question with an answer: deny.
        (true, Some(PortRef::Number(n))) => Ok(vec![asked((*n, protocol.unwrap_or_default(), None))]),
        (true, Some(PortRef::Name(name))) => Err(unknown_port(service, name.as_str(), &all)),
    }
}

fn unknown_port(service: &Service, port: &str, all: &[(u16, Protocol, Option<String>)]) -> CanError {
    let ports: Vec<String> =
        all.iter().map(|(n, protocol, name)| name.as_ref().map_or_else(|| format!("{n}/{protocol}"), |name| format!("{name} ({n}/{protocol})"))).collect();
    let names = all.iter().filter_map(|(_, _, name)| name.as_deref());
    CanError::UnknownPort {
        service: service.name.to_string(),
        port: port.to_owned(),
        ports: if ports.is_empty() { "none".to_owned() } else { ports.join(", ") },
        hint: did_you_mean(port, names),
    }
}

fn find<'a>(index: &'a Index, name: &str) -> Result<&'a Service, CanError> {
    let snapshot = index.snapshot();
    let names: Vec<String> = snapshot.services.iter().map(|s| s.name.to_string()).collect();
    snapshot.services.iter().find(|s| s.name.to_string() == name).ok_or_else(|| CanError::UnknownService {
        name: name.to_owned(),
        place: if snapshot.revision == source::OFFLINE { "the catalog given".to_owned() } else { format!("revision {}", snapshot.revision) },
        hint: did_you_mean(name, names.iter().map(String::as_str)),
    })
}

#[cfg(test)]
mod tests;
