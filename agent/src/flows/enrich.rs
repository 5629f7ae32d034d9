//! From numbers to names: what the snapshot and the workloads of this node say about an event of the kernel.
//!
//! An address is shown, never believed: who called is what the kernel says, or nobody.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weft_ebpf_common::{FlowEvent, VERDICT_ALLOW};
use weft_policy::{Destination, Index, Party, Query};
use weft_types::{FlowId, Path, Protocol, Reason, Revision, RuleId, ServiceId, Verdict};

use super::record::{Point, Record};
use crate::{limits, workloads::Picture};

/// What events are held against.
pub struct Known<'a> {
    /// The snapshot that judged, or the nearest that is still known.
    pub index: Option<&'a Index>,
    pub workloads: &'a Picture,
    /// Between the kernel's monotonic clock and Unix time.
    pub clock_offset: Duration,
}

/// Turns events into records; remembers the explanations of denials, since a program that is denied tries again.
#[derive(Debug, Default)]
pub struct Enricher {
    explained: HashMap<Denial, (Reason, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Denial {
    revision: Revision,
    source: ServiceId,
    address: IpAddr,
    port: u16,
    protocol: Protocol,
}

impl Enricher {
    pub fn record(&mut self, e: &FlowEvent, known: &Known<'_>) -> Record {
        let (source, destination) = (ServiceId(e.source), ServiceId(e.destination));
        let reason = Reason::from_code(e.reason).unwrap_or(Reason::Internal);
        let point = if matches!(reason, Reason::Unattested | Reason::Public) { Point::KernelIn } else { Point::KernelOut };
        let incoming = if e.destination == 0 { known.workloads.sole(e.netns) } else { known.workloads.resident(e.netns, destination, 0) };
        let here = if point == Point::KernelIn { incoming } else { known.workloads.resident(e.netns, source, e.cgroup) };
        let mut record = Record {
            id: FlowId(e.flow),
            at_ms: (Duration::from_nanos(e.at_ns) + known.clock_offset).as_millis() as i64,
            point,
            verdict: if e.verdict == VERDICT_ALLOW { Verdict::Allow } else { Verdict::Deny },
            reason,
            revision: Revision(e.revision),
            rule: RuleId(e.rule),
            rule_declared_at: None,
            source: known.party(source),
            destination: known.party(destination),
            address: Some(e.addr.into()),
            port: e.port,
            service_port: e.service_port,
            protocol: Protocol::from_number(e.proto).unwrap_or_default(),
            path: Path::from_code(e.path),
            pid: e.pid,
            command: command(&e.comm),
            workload: here.map(|w| w.uid.clone()),
            bytes_out: 0,
            bytes_in: 0,
            duration_us: 0,
            detail: String::new(),
            key_exchange: String::new(),
        };
        if point == Point::KernelIn {
            record.destination = here.and_then(|w| known.party(w.enrolled.as_ref()?.service)).or(record.destination);
        }
        match record.verdict {
            Verdict::Allow => record.rule_declared_at = known.declared_at(source, destination, &record),
            Verdict::Deny => self.explain(&mut record, source, e, known),
        }
        record
    }

    /// The one deciding function says what was missing. The kernel's verdict stands, whatever it answers.
    fn explain(&mut self, record: &mut Record, source: ServiceId, e: &FlowEvent, known: &Known<'_>) {
        match (record.reason, known.index, record.address) {
            (Reason::NoGrant | Reason::UnknownDestination | Reason::UnknownPort | Reason::NeedsL7 | Reason::OtherNode, Some(index), Some(address)) => {
                let key = Denial { revision: index.snapshot().revision, source, address, port: record.port, protocol: record.protocol };
                if self.explained.len() >= limits::EXPLAINED_MAX {
                    self.explained.clear();
                }
                let (reason, detail) = self.explained.entry(key).or_insert_with(|| ask(index, &key, record.reason));
                (record.reason, record.detail) = (*reason, detail.clone());
            }
            (Reason::Unidentified, ..) => record.detail = format!("the process is in cgroup {}, which belongs to no enrolled workload", e.cgroup),
            (Reason::Unattested, _, Some(from)) => record.detail = format!("something at {from} went around the mesh"),
            (reason, ..) => record.detail = reason.explain().to_owned(),
        }
    }
}

fn ask(index: &Index, key: &Denial, kernel: Reason) -> (Reason, String) {
    let destination = Destination::Address { addr: key.address, port: key.port };
    let decision = index.decide(&Query { source: key.source, destination, protocol: key.protocol });
    // Only the refinement that the kernel does not know is taken over.
    let reason = if kernel == Reason::NoGrant && decision.reason == Reason::Pending { Reason::Pending } else { kernel };
    let mut detail = decision.nearest_miss.unwrap_or_else(|| reason.explain().to_owned());
    truncate(&mut detail, limits::DETAIL_MAX_BYTES);
    (reason, detail)
}

impl Known<'_> {
    fn party(&self, id: ServiceId) -> Option<Party> {
        party(self.index?, id)
    }

    fn declared_at(&self, source: ServiceId, destination: ServiceId, r: &Record) -> Option<String> {
        let grant = self.index?.granted(source, destination, r.service_port, r.protocol)?;
        (grant.rule == r.rule).then(|| grant.declared_at.clone())
    }
}

pub fn party(index: &Index, id: ServiceId) -> Option<Party> {
    let s = index.service(id)?;
    Some(Party { id, service: s.name.clone(), identity: s.identity.clone(), owner: s.owner.clone(), declared_at: s.declared_at.clone() })
}

/// Between the monotonic clock, which the kernel's events carry, and Unix time.
pub fn clock_offset() -> Duration {
    let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let mono = Duration::new(mono.tv_sec.unsigned_abs(), mono.tv_nsec as u32);
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(mono)
}

/// Cuts a text at a character's border.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
}

/// A process can call itself anything: what is no plain text is shown as a question mark.
fn command(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end]).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_ebpf_common::{PATH_CAPTURED, PROTO_TCP, REASON_GRANT, REASON_NO_GRANT, REASON_UNATTESTED, VERDICT_DENY};
    use weft_snapshot::{Grant, Pending, Port, Service, ServiceKind, Snapshot};

    use super::*;
    use crate::workloads::{Enrolled, Seen};

    fn service(id: u32, name: &str) -> Service {
        Service {
            id: ServiceId(id),
            name: format!("shop/{name}").parse().unwrap(),
            kind: ServiceKind::Application,
            title: name.into(),
            owner: format!("team-{name}").parse().unwrap(),
            capability: name.into(),
            lifecycle: "production".into(),
            identity: format!("spiffe://corp.example/ns/shop/sa/{name}").parse().unwrap(),
            vip: Some(std::net::Ipv4Addr::new(100, 64, 0, id as u8)),
            consumers: Vec::new(),
            ports: vec![Port { name: "web".parse().unwrap(), port: 80, target_port: 8080, protocol: Protocol::Tcp }],
            externals: Vec::new(),
            declared_at: format!("{name}.yaml:1"),
        }
    }

    /// web may reach orders; stock has not consented to web.
    fn index() -> Index {
        Index::new(Arc::new(Snapshot {
            revision: Revision(3),
            mesh: "corp".into(),
            trust_domain: "corp.example".parse().unwrap(),
            services: vec![service(1, "web"), service(2, "orders"), service(3, "stock")],
            endpoints: Vec::new(),
            grants: vec![Grant {
                rule: RuleId(7),
                source: ServiceId(1),
                destination: ServiceId(2),
                port: 80,
                protocol: Protocol::Tcp,
                needs_l7: false,
                declared_at: "web.yaml:9".into(),
            }],
            pending: vec![Pending { source: ServiceId(1), destination: ServiceId(3), port: None, declared_at: "web.yaml:10".into() }],
            teams: Vec::new(),
            gateway: None,
        }))
    }

    fn event(source: u32, destination: u32, reason: u8) -> FlowEvent {
        let mut comm = [0; 16];
        comm[..5].copy_from_slice(b"cu\nrl");
        FlowEvent {
            flow: 0xabc,
            revision: 3,
            at_ns: 5_000_000,
            netns: 77,
            cgroup: 9,
            source,
            destination,
            rule: if reason == REASON_GRANT { 7 } else { 0 },
            pid: 42,
            addr: IpAddr::from([100, 64, 0, destination as u8]).into(),
            port: 80,
            service_port: 80,
            proto: PROTO_TCP,
            verdict: if reason < 10 { VERDICT_ALLOW } else { VERDICT_DENY },
            reason,
            path: if reason < 10 { PATH_CAPTURED as u8 } else { 0 },
            comm,
        }
    }

    fn record(e: &FlowEvent) -> Record {
        let enrolled = Enrolled { service: ServiceId(2), cgroup_id: 9, netns_cookie: 77, addresses: Vec::new(), read_back: true };
        let seen = Seen {
            uid: "orders-1".parse().unwrap(),
            service: "shop/orders".parse().unwrap(),
            cgroup: "/c".into(),
            netns: "/n".into(),
            origin: crate::workloads::Origin::Live,
            present: true,
            refused: false,
            enrolled: Some(enrolled),
            problem: None,
        };
        let (index, workloads) = (index(), Picture::new(vec![seen]));
        Enricher::default().record(e, &Known { index: Some(&index), workloads: &workloads, clock_offset: Duration::from_secs(10) })
    }

    #[test]
    fn an_allowed_flow_carries_names_owner_and_rule() {
        let r = record(&event(1, 2, REASON_GRANT));
        assert_eq!(r.source.unwrap().service.to_string(), "shop/web");
        assert_eq!(r.destination.unwrap().owner.as_str(), "team-orders");
        assert_eq!((r.rule_declared_at.as_deref(), r.path, r.at_ms), (Some("web.yaml:9"), Some(Path::Captured), 10_005));
        assert_eq!((r.command.as_str(), r.pid), ("cu?rl", 42));
    }

    #[test]
    fn a_denial_is_explained_by_the_deciding_function() {
        let none = record(&event(2, 1, REASON_NO_GRANT));
        assert_eq!((none.verdict, none.reason, none.path), (Verdict::Deny, Reason::NoGrant, None));
        assert!(!none.detail.is_empty());
        assert_eq!(record(&event(1, 3, REASON_NO_GRANT)).reason, Reason::Pending);
    }

    #[test]
    fn who_goes_around_the_mesh_is_nobody_whatever_its_address() {
        let mut e = event(0, 0, REASON_UNATTESTED);
        e.addr = IpAddr::from([100, 64, 0, 1]).into();
        let r = record(&e);
        assert_eq!((r.point, r.source), (Point::KernelIn, None));
        assert_eq!(r.destination.unwrap().service.to_string(), "shop/orders");
        assert!(r.detail.contains("100.64.0.1"), "{}", r.detail);
    }

    #[test]
    fn who_comes_in_at_a_public_port_is_nobody_of_the_mesh() {
        let mut e = event(0, 2, weft_ebpf_common::REASON_PUBLIC);
        e.addr = IpAddr::from([100, 64, 0, 1]).into();
        (e.path, e.cgroup) = (weft_ebpf_common::PATH_PUBLIC as u8, 0);
        let r = record(&e);
        assert_eq!((r.point, r.source, r.verdict, r.reason, r.path), (Point::KernelIn, None, Verdict::Allow, Reason::Public, Some(Path::Public)));
        assert_eq!(r.destination.unwrap().service.to_string(), "shop/orders");
        assert_eq!((r.address, r.workload.unwrap().to_string()), (Some([100, 64, 0, 1].into()), "orders-1".to_owned()));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let mut text = "aéb".to_owned();
        truncate(&mut text, 2);
        assert_eq!(text, "a");
    }
}
