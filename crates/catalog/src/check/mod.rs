//! What the documents say about each other. Every check sees everything, so all faults are found in one run.

mod dependencies;
mod exposures;
mod interfaces;
mod providers;
mod services;

use std::collections::BTreeMap;

use weft_types::{HostName, ServiceRef};

use crate::{Exposure, Mesh, Service, draft, read::Drafts, report::Report};

/// Weft's own services: the gateway and the IAM bridge.
const BUILTIN_SERVICES: u64 = 2;

pub(crate) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    mesh(drafts, report);
    services::check(drafts, report);
    dependencies::check(drafts, report);
    interfaces::check(drafts, report);
    exposures::check(drafts, report);
    providers::check(drafts, report);
}

/// The drafts as a catalog's services; only for drafts without errors.
pub(crate) fn finish(drafts: &Drafts) -> Option<(Mesh, Vec<Service>)> {
    let mesh = drafts.meshes.first()?;
    let base = mesh.declared.base_domain.as_ref();
    let services = drafts.services().map(|s| finish_one(s, base)).collect::<Option<Vec<_>>>()?;
    let identity_providers = mesh.providers.iter().map(|p| p.declared.clone()).collect();
    Some((Mesh { identity_providers, ..mesh.declared.clone() }, services))
}

fn finish_one(d: &draft::Service, base: Option<&HostName>) -> Option<Service> {
    Some(Service {
        name: d.name.clone(),
        kind: d.kind?,
        title: d.title.clone(),
        owner: d.owner.as_ref()?.0.clone(),
        capability: d.capability.0.clone(),
        lifecycle: d.lifecycle,
        service_account: d.service_account.0.clone(),
        workloads: d.workloads.clone(),
        replicas_min: d.replicas_min.as_ref().map(|(n, _)| *n),
        ports: d.ports.clone(),
        consumers: d.consumers.iter().map(|(c, _)| c.clone()).collect(),
        depends_on: d.depends_on.iter().map(|d| d.declared.clone()).collect(),
        external: d.external.clone(),
        expose: d.expose.iter().map(|e| exposure(e, base)).collect::<Option<_>>()?,
        at: d.at.clone(),
    })
}

fn exposure(e: &draft::Expose, base: Option<&HostName>) -> Option<Exposure> {
    Some(Exposure {
        port: e.port,
        upstream: e.upstream,
        host: e.host.0.resolve(base)?,
        path: e.path.0.clone(),
        rewrite: e.rewrite.clone(),
        access: e.access.clone(),
        methods: e.methods.clone(),
        cors: e.cors.clone(),
        portal: e.portal.clone(),
        at: e.at.clone(),
    })
}

fn mesh(drafts: &Drafts, report: &mut Report<'_>) {
    let Some(mesh) = drafts.meshes.first() else {
        if !drafts.mesh_seen && !drafts.incomplete {
            report
                .error_overall("catalog holds no Mesh document")
                .help("add one:\n    apiVersion: weft.mesh/v1alpha1\n    kind: Mesh\n    metadata: { name: corp }\n    spec: { trustDomain: corp.example }");
        }
        return;
    };
    let others = drafts.meshes[1..].iter().map(|m| &m.declared);
    let opens = opens_a_gateway(drafts, mesh);
    let mesh = &mesh.declared;
    for other in others {
        report.error(&other.at, format!("catalog holds a second Mesh, {}", other.name)).help(format!("the first is {} at {}: remove one", mesh.name, mesh.at));
    }
    let declared = drafts.services().filter(|s| s.kind != Some(crate::ServiceKind::Interface)).count() as u64;
    let needed = declared + if opens { BUILTIN_SERVICES } else { 0 };
    // The network's own address and the broadcast address are not given out.
    let usable = (1_u64 << (32 - u32::from(mesh.service_range.prefix_len()))).saturating_sub(2);
    if needed > usable {
        let message = format!("serviceRange {} has {usable} virtual IPs for {needed} services", mesh.service_range);
        report.error(&mesh.at, message).help("a larger prefix, such as 100.64.0.0/16, takes effect for new services at once");
    }
}

/// As [`crate::Catalog::has_gateway`] will say.
fn opens_a_gateway(drafts: &Drafts, mesh: &draft::Mesh) -> bool {
    drafts.services().any(|s| !s.expose.is_empty()) || !mesh.providers.is_empty() || !mesh.declared.bookmarks.is_empty()
}

/// Services by name, of equal names the first.
fn by_name(drafts: &Drafts) -> BTreeMap<&ServiceRef, &draft::Service> {
    let mut all = BTreeMap::new();
    for service in drafts.services() {
        all.entry(&service.name).or_insert(service);
    }
    all
}
