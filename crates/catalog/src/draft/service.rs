//! A MeshService by itself.

use serde_saphyr::Spanned;
use weft_types::{Consumer, Label, PortName, Protocol, ServiceRef, TeamName, builtin};

use super::{
    dependency::{self, Dependency},
    expose::{self, Expose},
    external,
    read::{DEFAULT_NAMESPACE, Reader},
};
use crate::{
    External, Lifecycle, Port, Position, ServiceKind, Workload,
    document::Document,
    limits,
    raw::{self, Object, ServiceSpec},
    report::Report,
};

/// A service as far as its own document tells, with the places that later checks point at.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: ServiceRef,
    pub(crate) kind: Option<ServiceKind>,
    pub(crate) title: String,
    pub(crate) owner: Option<(TeamName, Position)>,
    pub(crate) capability: (String, Position),
    pub(crate) lifecycle: Lifecycle,
    pub(crate) service_account: (Label, Position),
    pub(crate) workloads: Vec<Workload>,
    pub(crate) replicas_min: Option<(u32, Position)>,
    pub(crate) ports: Vec<Port>,
    pub(crate) consumers: Vec<(Consumer, Position)>,
    pub(crate) depends_on: Vec<Dependency>,
    pub(crate) external: Vec<External>,
    pub(crate) expose: Vec<Expose>,
    pub(crate) at: Position,
    /// Ports or ranges were left out, so nothing can be said about what is missing.
    pub(crate) ports_incomplete: bool,
}

/// `None` only when the document has no usable name.
pub(crate) fn service(document: &Document<'_>, object: Object<ServiceSpec>, report: &mut Report<'_>) -> Option<Service> {
    let mut read = Reader::new(document, report, "service");
    let metadata = object.metadata.unwrap_or_default();
    let (label, at): (Label, _) = read.name(&metadata)?;
    let namespace: Label = match &metadata.namespace {
        Some(namespace) => read.parse(namespace)?,
        None => DEFAULT_NAMESPACE.parse().ok()?,
    };
    let name = ServiceRef { namespace, name: label };
    if builtin::is_builtin(&name) {
        let place = metadata.namespace.as_ref().map_or(at.clone(), |text| read.at(text));
        let message = format!("namespace {} is kept for weft's own programs", builtin::NAMESPACE);
        read.refuse(&place, message, Some("they are there by themselves, with rules that nobody declares: choose another namespace"));
    }
    let spec = object.spec.unwrap_or_default();
    let kind = kind(&mut read, &spec, &name, &at);
    shape(&mut read, &spec, kind, &name, &at);
    mode(&mut read, &spec);
    let owner = owner(&mut read, &spec, &name, &at);
    let capability = match &spec.capability {
        Some(text) => (read.parse::<Label>(text).unwrap_or_else(|| name.name.clone()).to_string(), read.at(text)),
        None => (name.name.to_string(), at.clone()),
    };
    let (workloads, account) = workloads(&mut read, spec.workloads, &at);
    let replicas_min = replicas_min(&mut read, spec.replicas);
    let lifecycle = lifecycle(&mut read, spec.lifecycle.as_ref());
    let consumers = consumers(&mut read, spec.consumers, &name, &at);
    let depends_on = read.list("dependsOn", spec.depends_on, limits::DEPENDENCIES_MAX, &at);
    let depends_on = depends_on.into_iter().filter_map(|d| dependency::dependency(&mut read, d, &name)).collect();
    read.broken = false;
    let ports = read.list("ports", spec.ports, limits::PORTS_MAX, &at);
    let ports: Vec<Port> = ports.into_iter().filter_map(|p| port(&mut read, p)).collect();
    let external = external::externals(&mut read, spec.external, &at);
    let ports_incomplete = read.broken;
    let expose = expose::exposes(&mut read, spec.expose, &name, &ports, ports_incomplete, &at);
    Some(Service {
        kind,
        title: read.text(spec.title).unwrap_or_else(|| name.name.to_string()),
        owner,
        capability,
        lifecycle,
        service_account: account.unwrap_or_else(|| (name.name.clone(), at.clone())),
        workloads,
        replicas_min,
        ports,
        consumers,
        depends_on,
        external,
        expose,
        at,
        ports_incomplete,
        name,
    })
}

fn kind(read: &mut Reader<'_, '_>, spec: &ServiceSpec, name: &ServiceRef, at: &Position) -> Option<ServiceKind> {
    let Some(kind) = &spec.kind else {
        read.refuse(at, format!("service {name} has no spec.type"), Some("it is an application, a resource or an interface"));
        return None;
    };
    let words = [("application", ServiceKind::Application), ("resource", ServiceKind::Resource), ("interface", ServiceKind::Interface)];
    read.word("type", kind, &words)
}

/// What each type has, and has not.
fn shape(read: &mut Reader<'_, '_>, spec: &ServiceSpec, kind: Option<ServiceKind>, name: &ServiceRef, at: &Position) {
    let external = spec.external.as_ref().is_some_and(|e| !e.is_empty());
    let exposed = spec.expose.as_ref().is_some_and(|e| !e.is_empty());
    match kind {
        Some(ServiceKind::Interface) => {
            if !external {
                read.refuse(at, format!("interface {name} has no spec.external"), Some("say where it is: `external: [ { cidr: 203.0.113.0/24, port: 443 } ]`"));
            }
            let has = [
                ("ports", spec.ports.is_some(), "an interface's ports stand in spec.external"),
                ("workloads", spec.workloads.is_some(), "nothing inside the mesh implements an interface"),
                ("replicas", spec.replicas.is_some(), "nothing inside the mesh implements an interface"),
                ("dependsOn", spec.depends_on.is_some(), "what lies outside the mesh cannot call into it"),
                ("expose", spec.expose.is_some(), "only applications are exposed"),
            ];
            for (field, _, why) in has.into_iter().filter(|(_, present, _)| *present) {
                read.refuse(at, format!("interface {name} has spec.{field}"), Some(why));
            }
        }
        Some(kind) => {
            if spec.external.is_some() {
                read.refuse(
                    at,
                    format!("service {name} has spec.external but is no interface"),
                    Some("set `type: interface`, or declare what lies outside as a service of its own"),
                );
            }
            if exposed && kind == ServiceKind::Resource {
                read.refuse(at, format!("resource {name} has spec.expose"), Some("resources serve other services; people are served by applications"));
            }
        }
        None => {}
    }
}

fn mode(read: &mut Reader<'_, '_>, spec: &ServiceSpec) {
    let Some(mode) = &spec.mode else { return };
    if read.word("mode", mode, &[("enforce", true), ("observe", false)]) == Some(false) {
        read.refuse(&read.at(mode), "this version cannot observe: it only enforces", Some("remove `mode: observe`"));
    }
}

fn lifecycle(read: &mut Reader<'_, '_>, text: Option<&raw::Text>) -> Lifecycle {
    let words = [Lifecycle::Experimental, Lifecycle::Production, Lifecycle::Deprecated].map(|l| (l.as_str(), l));
    text.and_then(|text| read.word("lifecycle", text, &words)).unwrap_or_default()
}

fn replicas_min(read: &mut Reader<'_, '_>, replicas: Option<raw::Replicas>) -> Option<(u32, Position)> {
    let min = replicas?.min?;
    let parsed = min.value.parse().ok();
    if parsed.is_none() {
        read.refuse(&read.at(&min), format!("replicas.min {:?} is no number", min.value), None);
    }
    parsed.map(|n| (n, read.at(&min)))
}

fn owner(read: &mut Reader<'_, '_>, spec: &ServiceSpec, name: &ServiceRef, at: &Position) -> Option<(TeamName, Position)> {
    let Some(owner) = &spec.owner else {
        read.refuse(at, format!("service {name} has no spec.owner"), Some("name the Team that answers for it: `owner: team-…`"));
        return None;
    };
    Some((read.parse(owner)?, read.at(owner)))
}

fn workloads(read: &mut Reader<'_, '_>, list: Option<Vec<Spanned<raw::Workload>>>, at: &Position) -> (Vec<Workload>, Option<(Label, Position)>) {
    let (mut all, mut account): (Vec<Workload>, Option<(Label, Position)>) = (vec![], None);
    for entry in read.list("workloads", list, limits::PORTS_MAX, at) {
        let place = read.document.position(entry.referenced);
        let w = entry.value;
        let given = [w.service_account.is_some(), w.container.is_some(), w.compose.is_some(), w.systemd_unit.is_some()];
        if given.into_iter().filter(|g| *g).count() != 1 {
            read.refuse(
                &place,
                "a workload is one of serviceAccount, container, compose, systemdUnit",
                Some("give several entries for several ways to run it"),
            );
            continue;
        }
        if let Some(text) = w.service_account {
            let Some(label) = read.parse::<Label>(&text) else { continue };
            match &account {
                Some((first, _)) if *first != label => {
                    let message = format!("service has two service accounts, {first} and {label}");
                    read.refuse(&read.at(&text), message, Some("the account is its identity, and it has one: declare two services, or keep one account"));
                }
                _ => account = Some((label.clone(), read.at(&text))),
            }
            all.push(Workload::ServiceAccount(label));
        } else if let Some(compose) = w.compose {
            match (read.text(compose.project), read.text(compose.service)) {
                (Some(project), Some(service)) => all.push(Workload::Compose { project, service }),
                _ => read.refuse(&place, "a compose workload has a project and a service", None),
            }
        } else if let Some(container) = read.text(w.container) {
            all.push(Workload::Container(container));
        } else if let Some(unit) = read.text(w.systemd_unit) {
            all.push(Workload::SystemdUnit(unit));
        }
    }
    (all, account)
}

fn consumers(read: &mut Reader<'_, '_>, list: Option<Vec<raw::Text>>, name: &ServiceRef, at: &Position) -> Vec<(Consumer, Position)> {
    let mut all: Vec<(Consumer, Position)> = vec![];
    for text in read.list("consumers", list, limits::CONSUMERS_MAX, at) {
        let place = read.at(&text);
        if !text.value.contains('/') {
            let help = match text.value.as_str() {
                "*" => "consent is given to one namespace at a time: `NAMESPACE/*`".to_owned(),
                other => format!("write `{}/{other}` or `{other}/*`", name.namespace),
            };
            read.refuse(&place, format!("consumer {:?} names no namespace", text.value), Some(&help));
            continue;
        }
        let Some(consumer) = read.parse::<Consumer>(&text) else { continue };
        if all.iter().any(|(other, _)| *other == consumer) {
            read.report.warning(&place, format!("consumer {consumer} is named twice"));
        } else if *consumer.namespace() == name.namespace {
            let help = format!("every service of {} may declare a dependency on {name} anyway", name.namespace);
            read.report.warning(&place, format!("consumer {consumer} is of the service's own namespace")).help(help);
        }
        all.push((consumer, place));
    }
    all
}

fn port(read: &mut Reader<'_, '_>, entry: Spanned<raw::Port>) -> Option<Port> {
    let at = read.document.position(entry.referenced);
    let p = entry.value;
    let (name, number) = match (&p.name, &p.port) {
        (Some(name), Some(port)) => (read.parse::<PortName>(name), read.port_number(port)),
        (None, _) => {
            read.refuse(&at, "port has no name", Some("give it one, such as `name: web`"));
            return None;
        }
        (_, None) => {
            read.refuse(&at, "port has no number", Some("give it one, such as `port: 80`"));
            return None;
        }
    };
    let target_port = match &p.target_port {
        Some(target) => read.port_number(target),
        None => number,
    };
    let protocol = read.protocol(p.protocol.as_ref())?;
    if protocol == Protocol::Udp {
        let message = "UDP is carried within a node only: datagrams from another node to this port are denied";
        read.report.warning(&at, message).help("run the workloads that use it on one node; between nodes it starts to work with a later version");
    }
    let app_protocol = read.text(p.app_protocol);
    Some(Port { name: name?, port: number?, target_port: target_port?, protocol, app_protocol, at })
}
