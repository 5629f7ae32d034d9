//! Doors to people: each host and path leads to one place, and nobody takes another's by accident.

use std::collections::{BTreeMap, BTreeSet};

use weft_types::{HostName, PathKind, PathPattern, Segment, builtin};

use crate::{
    Access, draft,
    draft::{Expose, Host, Mesh, Service},
    limits,
    read::Drafts,
    report::Report,
    suggest,
};

type Exposed<'a> = (&'a Service, &'a Expose);

pub(super) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    let all: Vec<Exposed<'_>> = drafts.services().flat_map(|s| s.expose.iter().map(move |e| (s, e))).collect();
    if all.len() > limits::ALL_EXPOSURES_MAX {
        let message = format!("catalog exposes {} hosts and paths, at most {} are allowed", all.len(), limits::ALL_EXPOSURES_MAX);
        report.error_overall(message).help("let a pathPrefix stand for many paths");
        return;
    }
    let Some(mesh) = drafts.meshes.first() else { return };
    let mut by_host: BTreeMap<HostName, Vec<Exposed<'_>>> = BTreeMap::new();
    for (service, expose) in all {
        if let Some(host) = host(service, expose, mesh, report) {
            by_host.entry(host).or_default().push((service, expose));
        }
    }
    for (host, all) in &by_host {
        duplicates(host, all, report);
        shadows(host, all, report);
    }
    groups(drafts, mesh, report);
}

/// The host in full, when it may be exposed at all.
fn host(service: &Service, expose: &Expose, mesh: &Mesh, report: &mut Report<'_>) -> Option<HostName> {
    let (host, at) = &expose.host;
    let declared = &mesh.declared;
    let Some(base) = &declared.base_domain else {
        if !mesh.base_domain_broken {
            let message = format!("service {} is exposed, but the Mesh has no baseDomain", service.name);
            report
                .error(&expose.at, message)
                .help(format!("add one such as `baseDomain: apps.corp.example` at {}: portal and sign-on are below it, whatever the host", declared.at));
        }
        return None;
    };
    let Some(resolved) = host.resolve(Some(base)) else {
        report.error(at, format!("host of {} below {base} is longer than a host can be", service.name)).help("choose a shorter one");
        return None;
    };
    for (own, what) in [(builtin::PORTAL_HOST, "portal and sign-on"), (builtin::PROVIDER_HOST, "the local identity provider")] {
        if base.child(own).is_ok_and(|own| own == resolved) {
            report.error(at, format!("host {resolved} is kept for {what}")).help("choose another host");
            return None;
        }
    }
    match host {
        Host::Absolute(given) if !given.is_within(base) => outside(given, base, at, report).then_some(resolved),
        _ => Some(resolved),
    }
}

/// A host with a dot is meant as it stands; false: but not this one.
fn outside(given: &HostName, base: &HostName, at: &crate::Position, report: &mut Report<'_>) -> bool {
    let labels: Vec<&str> = base.as_str().split('.').collect();
    // `shop.apps` where the base domain is `apps.corp.example`: the rest was left out.
    let beginning = (1..labels.len()).rev().map(|n| labels[..n].join(".")).find(|part| given.as_str().ends_with(&format!(".{part}")));
    if let Some(part) = beginning {
        let name = given.as_str().strip_suffix(&part).unwrap_or_default();
        let message = format!("host {given} has a dot, so it is absolute, and lies outside of baseDomain {base}");
        report.error(at, message).help(format!("did you mean {name}{base}? a name without a dot is below it"));
        return false;
    }
    let tail: Vec<&str> = given.as_str().split('.').collect();
    let tail = tail[tail.len().saturating_sub(labels.len())..].join(".");
    if suggest::closest(&tail, [base.as_str()]).is_some() {
        let message = format!("host {given} lies outside of baseDomain {base}");
        report.warning(at, message).help(format!("did you mean {}?", given.as_str().replace(&tail, base.as_str())));
    }
    true
}

fn duplicates(host: &HostName, all: &[Exposed<'_>], report: &mut Report<'_>) {
    let mut seen: BTreeMap<(PathKind, String), &Exposed<'_>> = BTreeMap::new();
    for one in all {
        let (service, expose) = one;
        let (first, other) = *seen.entry(expose.path.0.shape()).or_insert(one);
        if std::ptr::eq(*other, *expose) {
            continue;
        }
        let place = format!("{host}{}", expose.path.0);
        let message = if first.name == service.name {
            format!("service {} exposes {place} twice", service.name)
        } else {
            format!("services {} and {} both expose {place}", first.name, service.name)
        };
        report.error(&expose.path.1, message).help(format!("the first is at {}: give one of them another host or path", other.at));
    }
}

/// A path within another service's prefix is taken out of it; at `/` everybody expects that.
fn shadows(host: &HostName, all: &[Exposed<'_>], report: &mut Report<'_>) {
    let prefixes: BTreeMap<&str, &Exposed<'_>> =
        all.iter().filter(|(_, e)| e.path.0.kind() == PathKind::Prefix).map(|one| (one.1.path.0.as_str(), one)).collect();
    for (service, expose) in all {
        let inner = &expose.path.0;
        let outer = above(inner).into_iter().rev().filter_map(|prefix| prefixes.get(prefix.as_str())).find(|(other, _)| other.name != service.name);
        let Some((other, outer)) = outer else { continue };
        let message = format!("service {} takes {host}{inner} out of {}, which is exposed by {}", service.name, outer.path.0, other.name);
        report
            .warning(&expose.path.1, message)
            .help(format!("requests there never reach {} ({}): choose a path beside it if that is not meant", other.name, outer.at));
    }
}

/// The prefixes below `/` that hold a pattern, shortest first; itself only if it is no prefix.
fn above(inner: &PathPattern) -> Vec<String> {
    let mut all = vec![];
    let mut path = String::new();
    for segment in inner.segments() {
        let Segment::Literal(literal) = segment else { break };
        path = format!("{path}/{literal}");
        all.push(path.clone());
    }
    if inner.kind() == PathKind::Prefix {
        all.pop();
    }
    all
}

/// Only where every provider says which groups it has, it is known that nobody has one.
fn groups(drafts: &Drafts, mesh: &Mesh, report: &mut Report<'_>) {
    let providers = &mesh.providers;
    if providers.is_empty() || providers.iter().any(|p| p.declared.groups.is_empty()) {
        return;
    }
    let known: BTreeSet<&str> = providers.iter().flat_map(|p| &p.declared.groups).map(String::as_str).collect();
    let mut check = |group: &str, at: &crate::Position, what: String| {
        if !known.contains(group) {
            let close = suggest::closest(group, known.iter().copied());
            let help = close.map_or_else(|| "no identity provider lists it among its groups".to_owned(), |c| format!("did you mean {c}?"));
            report.warning(at, format!("{what} to group {group}, which nobody has")).help(help);
        }
    };
    for (service, expose) in drafts.services().flat_map(|s: &draft::Service| s.expose.iter().map(move |e| (s, e))) {
        let Access::Groups(groups) = &expose.access else { continue };
        for (group, at) in groups.iter().zip(&expose.groups_at) {
            check(group, at, format!("service {} is open", service.name));
        }
    }
    for (group, at) in &mesh.groups_at {
        check(group, at, "bookmark is shown".to_owned());
    }
}
