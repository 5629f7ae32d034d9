//! One document from text to domain: names parsed, defaults filled in, every fault reported. A faulty part is left out of the draft,
//! which says so, so that later checks do not report what follows from it.

mod cors;
mod dependency;
mod expose;
mod external;
mod mesh;
mod provider;
mod read;
mod service;

use weft_types::TeamName;

pub(crate) use dependency::Dependency;
pub(crate) use expose::{Expose, Host};
pub(crate) use mesh::{Mesh, mesh};
pub(crate) use read::DEFAULT_NAMESPACE;
pub(crate) use service::{Service, service};

use crate::{
    Team,
    document::Document,
    raw::{Object, TeamSpec},
    report::Report,
};
use read::Reader;

pub(crate) fn team(document: &Document<'_>, object: Object<TeamSpec>, report: &mut Report<'_>) -> Option<Team> {
    let mut read = Reader::new(document, report, "team");
    let metadata = object.metadata.unwrap_or_default();
    let (name, at): (TeamName, _) = read.name(&metadata)?;
    read.no_namespace(&metadata);
    let spec = object.spec.unwrap_or_default();
    let lead = read.text(spec.lead).unwrap_or_default();
    let contact = read.text(spec.contact).unwrap_or_default();
    let groups = expose::groups(&mut read, spec.groups, &at).into_iter().map(|(group, _)| group).collect();
    Some(Team { name, lead, contact, groups, at })
}
