//! One document from text to domain: names parsed, defaults filled in, every fault reported. A faulty part is left out of the draft,
//! which says so, so that later checks do not report what follows from it.

mod dependency;
mod external;
mod read;
mod service;

use weft_types::TeamName;

pub(crate) use dependency::Dependency;
pub(crate) use read::DEFAULT_NAMESPACE;
pub(crate) use service::{Service, service};

use crate::{
    Mesh, Team,
    document::Document,
    raw::{MeshSpec, Object, TeamSpec},
    report::Report,
};
use read::Reader;

/// Virtual IPs come from here unless the Mesh says otherwise (RFC 6598: shared address space).
const DEFAULT_SERVICE_RANGE: &str = "100.64.0.0/16";

pub(crate) fn mesh(document: &Document<'_>, object: Object<MeshSpec>, report: &mut Report<'_>) -> Option<Mesh> {
    let mut read = Reader::new(document, report, "mesh");
    let metadata = object.metadata.unwrap_or_default();
    let (name, at) = read.name(&metadata)?;
    read.no_namespace(&metadata);
    let spec = object.spec.unwrap_or_default();
    if spec.trust_domain.is_none() {
        read.report.error(&at, format!("mesh {name} has no spec.trustDomain")).help("name the trust domain of its identities, such as corp.example");
    }
    let trust_domain = spec.trust_domain.and_then(|t| read.parse(&t));
    let base_domain = read.text(spec.base_domain);
    let service_range = match spec.service_range {
        Some(range) => read.ipv4_range(&range),
        None => DEFAULT_SERVICE_RANGE.parse().ok(),
    };
    Some(Mesh { name, trust_domain: trust_domain?, base_domain, service_range: service_range?, at })
}

pub(crate) fn team(document: &Document<'_>, object: Object<TeamSpec>, report: &mut Report<'_>) -> Option<Team> {
    let mut read = Reader::new(document, report, "team");
    let metadata = object.metadata.unwrap_or_default();
    let (name, at): (TeamName, _) = read.name(&metadata)?;
    read.no_namespace(&metadata);
    let spec = object.spec.unwrap_or_default();
    let lead = read.text(spec.lead).unwrap_or_default();
    let contact = read.text(spec.contact).unwrap_or_default();
    let groups = spec.groups.unwrap_or_default().into_iter().filter_map(|g| read.text(Some(g))).collect();
    Some(Team { name, lead, contact, groups, at })
}
