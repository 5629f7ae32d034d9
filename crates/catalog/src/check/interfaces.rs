//! Address ranges: each address leads to one interface, and one interface offers the same ports everywhere.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::{External, draft::Service, limits, read::Drafts, report::Report};

pub(super) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    for service in drafts.services() {
        duplicates(service, report);
        same_ports(service, report);
        outside_the_service_range(service, drafts, report);
    }
    let all: Vec<(&Service, &External)> = drafts.services().flat_map(|s| s.external.iter().map(move |e| (s, e))).collect();
    if all.len() > limits::ALL_EXTERNALS_MAX {
        let message = format!("catalog declares {} address ranges of interfaces, at most {} are allowed", all.len(), limits::ALL_EXTERNALS_MAX);
        report.error_overall(message).help("join neighbouring prefixes");
        return;
    }
    for (i, one) in all.iter().enumerate() {
        for other in &all[..i] {
            if one.0.name != other.0.name {
                overlap(*other, *one, report);
            }
        }
    }
}

fn duplicates(service: &Service, report: &mut Report<'_>) {
    let mut seen = BTreeMap::new();
    for e in &service.external {
        if let Some(first) = seen.insert((e.cidr, e.port, e.protocol), &e.at) {
            let message = format!("interface {} declares {} port {}/{} twice", service.name, e.cidr, e.port, e.protocol);
            report.error(&e.at, message).help(format!("the first is at {first}"));
        }
    }
}

/// A grant names an interface and a port, not a range, so ports that differ between ranges would each be open in all of them.
fn same_ports(service: &Service, report: &mut Report<'_>) {
    let mut by_range: BTreeMap<IpNet, (BTreeSet<_>, &External)> = BTreeMap::new();
    for e in &service.external {
        by_range.entry(e.cidr).or_insert_with(|| (BTreeSet::new(), e)).0.insert((e.port, e.protocol));
    }
    let Some((first_range, (ports, _))) = by_range.iter().next() else { return };
    for (range, (others, at)) in by_range.iter().skip(1) {
        if others != ports {
            let message = format!("interface {} declares other ports for {range} than for {first_range}", service.name);
            report.error(&at.at, message).help("in this version a dependency opens each port in every range of the interface: declare two interfaces");
        }
    }
}

fn outside_the_service_range(service: &Service, drafts: &Drafts, report: &mut Report<'_>) {
    let Some(mesh) = drafts.meshes.first().map(|m| &m.declared) else { return };
    let range = IpNet::V4(mesh.service_range);
    for e in service.external.iter().filter(|e| range.contains(&e.cidr)) {
        let message = format!("interface {} claims {}, which lies in the mesh's serviceRange {range}", service.name, e.cidr);
        report.error(&e.at, message).help(format!("virtual IPs come from there ({}): choose another range for one of them", mesh.at));
    }
}

fn overlap(first: (&Service, &External), second: (&Service, &External), report: &mut Report<'_>) {
    let ((a, x), (b, y)) = (first, second);
    if !x.cidr.contains(&y.cidr) && !y.cidr.contains(&x.cidr) {
        return;
    }
    let place = format!("{} is at {}", a.name, x.at);
    if (x.port, x.protocol) == (y.port, y.protocol) {
        let message = format!("interfaces {} and {} both claim port {} of {}", a.name, b.name, y.port, smaller(x.cidr, y.cidr));
        report.error(&y.at, message).help(format!("one address has one door: keep it in one of them ({place})"));
    } else if x.cidr == y.cidr {
        let message = format!("interfaces {} and {} both claim {}", a.name, b.name, x.cidr);
        report
            .error(&y.at, message)
            .help(format!("in this version an address leads to one interface, whatever the port: declare both ports in one of them ({place})"));
    } else {
        let (inner, outer, port) = if x.cidr.contains(&y.cidr) { (b, a, x.port) } else { (a, b, y.port) };
        let message = format!("{} belongs to interface {}, so port {port} of {} is not reached there", smaller(x.cidr, y.cidr), inner.name, outer.name);
        report.warning(&y.at, message).help(format!("the longest prefix has the address ({place})"));
    }
}

fn smaller(a: IpNet, b: IpNet) -> IpNet {
    if a.contains(&b) { b } else { a }
}
