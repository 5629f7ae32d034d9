//! The allow-list: targets and ports that must exist, and mean something. Cycles are allowed.

use std::collections::BTreeMap;

use weft_types::{PortRef, Protocol, ServiceRef};

use super::by_name;
use crate::{
    Lifecycle, Position,
    draft::{Dependency, Service},
    read::Drafts,
    report::Report,
    suggest,
};

pub(super) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    let services = by_name(drafts);
    for consumer in drafts.services() {
        let mut covered: BTreeMap<(&ServiceRef, (u16, Protocol)), &Position> = BTreeMap::new();
        for d in &consumer.depends_on {
            let target = &d.declared.target;
            if *target == consumer.name {
                let message = format!("service {} depends on itself", consumer.name);
                report.error(&d.target_at, message).help("workloads of one service may always reach each other: remove it");
                continue;
            }
            let Some(provider) = services.get(target) else {
                if !drafts.incomplete && !drafts.unread.contains(target) {
                    unknown(consumer, d, &services, report);
                }
                continue;
            };
            if provider.lifecycle == Lifecycle::Deprecated {
                let message = format!("service {} depends on {target}, which is deprecated", consumer.name);
                report.warning(&d.target_at, message).help(format!("ask its owner ({}) what replaces it", provider.at));
            }
            let meant = ports(consumer, d, provider, report);
            for port in meant {
                if let Some(first) = covered.insert((target, port), &d.declared.at) {
                    let message = format!("service {} depends twice on port {} of {target}", consumer.name, port.0);
                    report.error(&d.declared.at, message).help(format!("the other dependency is at {first}: name different ports, or keep one"));
                    break;
                }
            }
        }
    }
}

fn unknown(consumer: &Service, d: &Dependency, services: &BTreeMap<&ServiceRef, &Service>, report: &mut Report<'_>) {
    let target = &d.declared.target;
    let message = format!("service {} depends on {target}, which the catalog does not declare", consumer.name);
    let elsewhere = services.keys().find(|name| name.name == target.name);
    let all: Vec<String> = services.keys().map(ToString::to_string).collect();
    let wanted = target.to_string();
    let close = suggest::closest(&wanted, all.iter().map(String::as_str)).map(ToOwned::to_owned);
    let help = match close.or_else(|| elsewhere.map(ToString::to_string)) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("declare {target} as a MeshService, or remove the dependency"),
    };
    report.error(&d.target_at, message).help(help);
}

/// What a dependency means; says so when it means nothing.
fn ports(consumer: &Service, d: &Dependency, provider: &Service, report: &mut Report<'_>) -> Vec<(u16, Protocol)> {
    let wanted = d.declared.port.as_ref();
    let meant = crate::model::ports_meant(&provider.ports, &provider.external, wanted);
    if !meant.is_empty() || provider.ports_incomplete {
        return meant;
    }
    let at = d.port_at.as_ref().unwrap_or(&d.target_at);
    match wanted {
        None => {
            let message = format!("service {} depends on {}, which declares no ports", consumer.name, provider.name);
            report.error(at, message).help(format!("nothing could be reached there: declare its ports at {}", provider.at));
        }
        Some(port) => {
            let message = format!("service {} depends on port {port} of {}, which declares no such port", consumer.name, provider.name);
            report.error(at, message).help(known_ports(port, provider));
        }
    }
    meant
}

fn known_ports(wanted: &PortRef, provider: &Service) -> String {
    let names = || provider.ports.iter().map(|p| p.name.as_str());
    if let PortRef::Name(name) = wanted
        && let Some(close) = suggest::closest(name.as_str(), names())
    {
        return format!("did you mean {close}?");
    }
    if let PortRef::Number(n) = wanted
        && let Some(p) = provider.ports.iter().find(|p| p.target_port == *n)
    {
        return format!("{n} is the target port of {}: name the service's port, {}", p.name, p.port);
    }
    let own = provider.ports.iter().map(|p| format!("{} ({})", p.name, p.port));
    let mut outside: Vec<u16> = provider.external.iter().map(|e| e.port).collect();
    outside.sort_unstable();
    outside.dedup();
    let all: Vec<String> = own.chain(outside.into_iter().map(|n| n.to_string())).collect();
    match (all.is_empty(), wanted, provider.external.is_empty()) {
        (true, ..) => format!("{} declares no ports ({})", provider.name, provider.at),
        (_, PortRef::Name(_), false) => format!("ports of an interface have numbers only: {}", all.join(", ")),
        _ => format!("it declares {}", all.join(", ")),
    }
}
