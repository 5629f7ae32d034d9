//! Names that must be unique, owners that must exist, replicas that must suffice.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use weft_types::Label;

use super::by_name;
use crate::{Lifecycle, Position, ServiceKind, draft::Service, read::Drafts, report::Report, suggest};

/// Replicas that make a resource highly available.
const RESOURCE_REPLICAS_MIN: u32 = 2;

pub(super) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    unique_names(drafts, report);
    unique_capabilities(drafts, report);
    unique_accounts(drafts, report);
    for service in drafts.services() {
        owner(service, drafts, report);
        replicas(service, report);
        ports(service, report);
        consumers(service, drafts, report);
    }
}

fn unique_names(drafts: &Drafts, report: &mut Report<'_>) {
    let mut services = BTreeMap::new();
    for s in drafts.services() {
        once(&mut services, &s.name, &s.at, |first| {
            report.error(&s.at, format!("service {} is declared twice", s.name)).help(format!("the first is at {first}: rename or remove one"));
        });
    }
    let mut teams = BTreeMap::new();
    for t in &drafts.teams {
        once(&mut teams, &t.name, &t.at, |first| {
            report.error(&t.at, format!("team {} is declared twice", t.name)).help(format!("the first is at {first}: rename or remove one"));
        });
    }
}

fn unique_capabilities(drafts: &Drafts, report: &mut Report<'_>) {
    let mut seen: BTreeMap<&str, &Service> = BTreeMap::new();
    for s in drafts.services() {
        let first = *seen.entry(&s.capability.0).or_insert(s);
        if first.name != s.name {
            let message = format!("services {} and {} have the same capability, {}", first.name, s.name, s.capability.0);
            let help = format!("no two services do the same thing: depend on the one at {}, or say with spec.capability what this one does", first.at);
            report.error(&s.capability.1, message).help(help);
        }
    }
}

/// The account is the identity, so two services with one would be one.
fn unique_accounts(drafts: &Drafts, report: &mut Report<'_>) {
    let mut seen: BTreeMap<(&Label, &Label), &Service> = BTreeMap::new();
    for s in drafts.services() {
        let first = *seen.entry((&s.name.namespace, &s.service_account.0)).or_insert(s);
        if first.name != s.name {
            let message = format!("services {} and {} have the same service account, {}", first.name, s.name, s.service_account.0);
            let help = format!("the account is a service's identity (the other one is at {}): give this one an account of its own", first.service_account.1);
            report.error(&s.service_account.1, message).help(help);
        }
    }
}

fn owner(service: &Service, drafts: &Drafts, report: &mut Report<'_>) {
    let Some((owner, at)) = &service.owner else { return };
    if drafts.incomplete || drafts.teams.iter().any(|t| t.name == *owner) {
        return;
    }
    let help = match suggest::closest(owner.as_str(), drafts.teams.iter().map(|t| t.name.as_str())) {
        Some(close) => format!("did you mean {close}?"),
        None => format!("declare it: `kind: Team`, `metadata: {{ name: {owner} }}`"),
    };
    report.error(at, format!("service {} is owned by {owner}, which is no Team of the catalog", service.name)).help(help);
}

fn replicas(service: &Service, report: &mut Report<'_>) {
    match (&service.kind, &service.replicas_min) {
        (Some(ServiceKind::Resource), None) => {
            let message = format!("resource {} does not declare replicas.min", service.name);
            report
                .error(&service.at, message)
                .help(format!("resources are shared and so highly available: `replicas: {{ min: {RESOURCE_REPLICAS_MIN} }}` or more"));
        }
        (Some(ServiceKind::Resource), Some((min, at))) if *min < RESOURCE_REPLICAS_MIN => {
            let message = format!("resource {} is declared with at least {min} replica{}", service.name, if *min == 1 { "" } else { "s" });
            // Nobody is promised anything of an experiment; the owner still reads it.
            if service.lifecycle == Lifecycle::Experimental {
                report.warning(at, message).help(format!("an experiment may run alone; in production a resource has at least {RESOURCE_REPLICAS_MIN}"));
            } else {
                let help = format!("resources are shared and so highly available: at least {RESOURCE_REPLICAS_MIN}, unless `lifecycle: experimental`");
                report.error(at, message).help(help);
            }
        }
        _ => {}
    }
}

fn ports(service: &Service, report: &mut Report<'_>) {
    let (mut names, mut numbers, mut targets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for p in &service.ports {
        once(&mut names, &p.name, &p.at, |first| {
            report.error(&p.at, format!("service {} declares port name {} twice", service.name, p.name)).help(format!("the first is at {first}"));
        });
        once(&mut numbers, (p.port, p.protocol), &p.at, |first| {
            report.error(&p.at, format!("service {} declares port {}/{} twice", service.name, p.port, p.protocol)).help(format!("the first is at {first}"));
        });
        once(&mut targets, (p.target_port, p.protocol), &p.at, |first| {
            let message = format!("service {} leads two ports to target port {}/{}", service.name, p.target_port, p.protocol);
            report.error(&p.at, message).help(format!("a connection to the workload itself would belong to both; the other is at {first}"));
        });
    }
}

/// Consent may be given before the consumer exists, but more often it is misspelt.
fn consumers(service: &Service, drafts: &Drafts, report: &mut Report<'_>) {
    if drafts.incomplete {
        return;
    }
    let services = by_name(drafts);
    let namespaces: BTreeSet<&Label> = services.keys().map(|name| &name.namespace).chain(drafts.unread.iter().map(|n| &n.namespace)).collect();
    for (consumer, at) in &service.consumers {
        let (known, close) = match consumer {
            weft_types::Consumer::Namespace(ns) => {
                (namespaces.contains(ns), suggest::closest(ns.as_str(), namespaces.iter().map(|n| n.as_str())).map(|c| format!("{c}/*")))
            }
            weft_types::Consumer::Service(name) => {
                let names: Vec<String> = services.keys().map(ToString::to_string).collect();
                let known = services.contains_key(name) || drafts.unread.contains(name);
                (known, suggest::closest(&name.to_string(), names.iter().map(String::as_str)).map(ToOwned::to_owned))
            }
        };
        if !known {
            let message = format!("service {} consents to {consumer}, which the catalog does not declare", service.name);
            report.warning(at, message).help_if(close.map(|c| format!("did you mean {c}?")));
        }
    }
}

/// Remembers the first place of a key, and tells of every further one.
fn once<'a, K: Ord>(seen: &mut BTreeMap<K, &'a Position>, key: K, at: &'a Position, again: impl FnOnce(&Position)) {
    match seen.entry(key) {
        Entry::Vacant(free) => {
            free.insert(at);
        }
        Entry::Occupied(first) => again(first.get()),
    }
}
