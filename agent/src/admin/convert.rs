//! From what the agent knows to what the wire says. Wire types go no further than this.

use std::time::{SystemTime, UNIX_EPOCH};

use weft_api::agent::v1 as wire;
use weft_kernel::{Kernel, ProgramInfo};
use weft_types::Protocol;

use crate::{
    flows::{Flow, Record, RequestRecord},
    gateway::USER,
    mesh::{Issued, Mesh, chain_pem},
    workloads::Seen,
};

/// Where a request was decided.
const GATEWAY: &str = "gateway";

pub(super) fn workload(seen: &Seen, mesh: &Mesh, kernel: &Kernel) -> wire::Workload {
    let enrolled = seen.enrolled.as_ref();
    let packets = enrolled.map(|e| kernel.packets(e.netns_cookie));
    let issued = mesh.svid(&seen.service);
    wire::Workload {
        uid: seen.uid.to_string(),
        service: enrolled.map(|_| seen.service.to_string()).unwrap_or_default(),
        spiffe_id: enrolled.and(issued.as_ref()).map(|i| i.svid.id.to_string()).unwrap_or_default(),
        class: if enrolled.is_some() { "enrolled" } else { "unidentified" }.to_owned(),
        mode: "enforce".to_owned(),
        addresses: enrolled.iter().flat_map(|e| &e.addresses).map(ToString::to_string).collect(),
        cgroup: seen.cgroup.display().to_string(),
        netns: seen.netns.display().to_string(),
        cgroup_id: enrolled.map_or(0, |e| e.cgroup_id),
        netns_cookie: enrolled.map_or(0, |e| e.netns_cookie),
        enrolled_in_kernel: enrolled.is_some_and(|e| e.read_back),
        problem: match (enrolled, &seen.problem) {
            (None, Some(problem)) => format!("wants to be {}: {problem}", seen.service),
            (_, problem) => problem.clone().unwrap_or_default(),
        },
        svid_not_after: issued.map_or(0, |i| unix(i.svid.not_after)),
        enforced: packets.as_ref().map(|p| if p.is_ok() { "packets and sockets" } else { "sockets only" }.to_owned()).unwrap_or_default(),
        enforced_why: packets.and_then(Result::err).unwrap_or_default(),
        public_ports: enrolled.zip(mesh.index()).map(|(e, index)| index.public_ports(e.service).iter().map(|p| u32::from(*p)).collect()).unwrap_or_default(),
    }
}

pub(super) fn program(p: ProgramInfo) -> wire::Program {
    wire::Program { name: p.name, attached_to: p.attached_to, attached: p.attached }
}

pub(super) fn flow(flow: &Flow, node: &str) -> wire::Flow {
    match flow {
        Flow::Connection(r) => connection(r, node),
        Flow::Request(r) => request(r, node),
    }
}

fn name(p: &Option<weft_policy::Party>) -> String {
    p.as_ref().map(|p| p.service.to_string()).unwrap_or_default()
}

fn identity(p: &Option<weft_policy::Party>) -> String {
    p.as_ref().map(|p| p.identity.to_string()).unwrap_or_default()
}

fn owner(p: &Option<weft_policy::Party>) -> String {
    p.as_ref().map(|p| p.owner.to_string()).unwrap_or_default()
}

fn connection(r: &Record, node: &str) -> wire::Flow {
    wire::Flow {
        id: r.id.to_string(),
        node: node.to_owned(),
        at_ms: r.at_ms,
        point: r.point.as_str().to_owned(),
        verdict: r.verdict.to_string(),
        reason: r.reason.to_string(),
        revision: r.revision.0,
        rule: r.rule.0,
        rule_declared_at: r.rule_declared_at.clone().unwrap_or_default(),
        source: name(&r.source),
        source_identity: identity(&r.source),
        destination: name(&r.destination),
        destination_identity: identity(&r.destination),
        destination_owner: owner(&r.destination),
        address: r.address.map(|a| a.to_string()).unwrap_or_default(),
        port: r.port.into(),
        service_port: r.service_port.into(),
        protocol: r.protocol.to_string(),
        path: r.path.map(|p| p.to_string()).unwrap_or_default(),
        pid: r.pid,
        command: r.command.clone(),
        workload: r.workload.as_ref().map(ToString::to_string).unwrap_or_default(),
        bytes_out: r.bytes_out,
        bytes_in: r.bytes_in,
        duration_us: r.duration_us,
        detail: r.detail.clone(),
        key_exchange: r.key_exchange.clone(),
        request: None,
    }
}

fn request(r: &RequestRecord, node: &str) -> wire::Flow {
    wire::Flow {
        id: r.id.to_string(),
        node: node.to_owned(),
        at_ms: r.at_ms,
        point: GATEWAY.to_owned(),
        verdict: r.verdict.to_string(),
        reason: r.reason.clone(),
        revision: r.revision.0,
        rule: r.rule.0,
        rule_declared_at: r.rule_declared_at.clone().unwrap_or_default(),
        source: r.user.as_ref().map(|user| format!("{USER}{user}")).unwrap_or_default(),
        destination: name(&r.destination),
        destination_identity: identity(&r.destination),
        destination_owner: owner(&r.destination),
        address: r.address.map(|a| a.to_string()).unwrap_or_default(),
        port: r.port.into(),
        service_port: r.service_port.into(),
        protocol: Protocol::Tcp.to_string(),
        workload: r.workload.to_string(),
        bytes_out: r.bytes_out,
        bytes_in: r.bytes_in,
        duration_us: r.duration_us,
        detail: r.detail.clone(),
        request: Some(wire::Request {
            user: r.user.clone().unwrap_or_default(),
            groups: r.groups.clone(),
            method: r.method.clone(),
            host: r.host.clone(),
            path: r.path.clone(),
            status: r.status.into(),
            missing: r.missing.clone(),
        }),
        ..wire::Flow::default()
    }
}

pub(super) fn cert(issued: &Issued) -> wire::Cert {
    let svid = &issued.svid;
    wire::Cert {
        spiffe_id: svid.id.to_string(),
        serial: svid.serial.clone(),
        not_before: unix(svid.not_before),
        not_after: unix(svid.not_after),
        renew_at: unix(issued.renew_at),
        pem: chain_pem(&svid.chain),
    }
}

pub(super) fn unix(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}
