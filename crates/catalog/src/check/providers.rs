//! Who vouches for people: one name each, and a way to reach them.

use std::collections::BTreeMap;

use weft_types::Protocol;

use super::by_name;
use crate::{
    draft::{Mesh, Service},
    model::ports_meant,
    read::Drafts,
    report::Report,
    suggest,
};

pub(super) fn check(drafts: &Drafts, report: &mut Report<'_>) {
    let Some(mesh) = drafts.meshes.first() else { return };
    let needs_base = !mesh.providers.is_empty() || !mesh.declared.bookmarks.is_empty();
    if needs_base && mesh.declared.base_domain.is_none() && !mesh.base_domain_broken {
        let message = format!("mesh {} has identity providers or bookmarks, but no baseDomain", mesh.declared.name);
        report.error(&mesh.declared.at, message).help("add one such as `baseDomain: apps.corp.example`: portal and sign-on are below it");
    }
    let mut names = BTreeMap::new();
    let mut builtin = None;
    for p in &mesh.providers {
        if let Some(first) = names.insert(&p.declared.name, &p.name_at) {
            report.error(&p.name_at, format!("identity provider {} is declared twice", p.declared.name)).help(format!("the first is at {first}"));
        }
        if p.declared.client.is_none()
            && let Some(first) = builtin.replace(&p.name_at)
        {
            report.error(&p.name_at, "there is one local provider, and it is declared twice").help(format!("the first is at {first}"));
        }
    }
    via(drafts, mesh, report);
}

fn via(drafts: &Drafts, mesh: &Mesh, report: &mut Report<'_>) {
    let services = by_name(drafts);
    for p in &mesh.providers {
        let Some(via) = p.declared.client.as_ref().and_then(|c| c.via.as_ref()) else { continue };
        let name = &p.declared.name;
        let Some(service) = services.get(&via.service) else {
            if !drafts.incomplete && !drafts.unread.contains(&via.service) {
                let all: Vec<String> = services.keys().map(ToString::to_string).collect();
                let close = suggest::closest(&via.service.to_string(), all.iter().map(String::as_str)).map(|c| format!("did you mean {c}?"));
                let message = format!("identity provider {name} is reached by {}, which the catalog does not declare", via.service);
                report.error(&p.via_at, message).help_if(close);
            }
            continue;
        };
        match tcp_ports(service, via.port.as_ref()).len() {
            1 => {}
            0 if service.ports_incomplete => {}
            0 => {
                let message = format!("identity provider {name} is reached by a port of {} that it does not declare", via.service);
                report.error(&p.via_at, message).help(format!("its ports are at {}", service.at));
            }
            n => {
                let message = format!("identity provider {name} is reached by {}, which has {n} ports", via.service);
                report.error(&p.via_at, message).help("say which: `via: { service: …, port: … }`");
            }
        }
    }
}

fn tcp_ports(service: &Service, port: Option<&weft_types::PortRef>) -> Vec<u16> {
    let all = ports_meant(&service.ports, &service.external, port).into_iter();
    all.filter(|(_, protocol)| *protocol == Protocol::Tcp).map(|(port, _)| port).collect()
}
