//! Ends live connections that no proxy carries, on a thread of its own: a revision is in force before this begins, and waits for nothing here.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::Instant,
};

use tracing::{info, warn};
use weft_ebpf_common::{Attestation, PATH_LOCAL, PATH_PUBLIC, PATH_SAME_NODE, SIDE_CLIENT};
use weft_kernel::{Ended, Kernel, LiveSocket};
use weft_types::{FlowId, Path, Protocol, Reason, Revision, RuleId, ServiceId, Verdict};

use super::{
    plumbing::{Namespaces, Place},
    standing::{Fault, Standing},
};
use crate::{
    flows::{Point, Record, Store, clock_offset, party},
    limits,
    mesh::{Chain, Mesh},
    metrics::Metrics,
    warnings::{Topic, Warnings},
};

/// What ends sockets needs to know.
pub struct Ender {
    pub kernel: Arc<Kernel>,
    pub mesh: Arc<Mesh>,
    pub namespaces: Arc<Namespaces>,
    pub flows: Arc<Store>,
    pub metrics: Arc<Metrics>,
    pub warnings: Arc<Warnings>,
    pub resolvers: Vec<SocketAddr>,
}

/// Speaks to the thread, and waits for it only where [`limits::REVOKE_ORDERS`] do; cheap to clone.
#[derive(Clone)]
pub struct Revoker(mpsc::SyncSender<Order>);

enum Order {
    /// A revision took something away from these services.
    Revised(HashSet<ServiceId>),
    /// A workload was withdrawn: the other ends of these flows are to go, wherever they are on this node, and what still dials it.
    Withdrawn(Withdrawn),
}

/// What a workload leaves behind.
pub struct Withdrawn {
    pub service: ServiceId,
    /// Cookie of its namespace.
    pub netns: u64,
    /// Its sockets.
    pub sockets: Vec<LiveSocket>,
}

impl Revoker {
    pub fn start(ender: Arc<Ender>) -> std::io::Result<Self> {
        let (orders, inbox) = mpsc::sync_channel(limits::REVOKE_ORDERS);
        std::thread::Builder::new().name("weft-revoker".into()).spawn(move || run(&ender, &inbox))?;
        Ok(Self(orders))
    }

    pub fn revised(&self, touched: HashSet<ServiceId>) {
        if !touched.is_empty() {
            let _ = self.0.send(Order::Revised(touched));
        }
    }

    /// Ends the peers on this node of a workload that is not enrolled any more: no reset leaves its namespace.
    pub fn withdrawn(&self, what: Withdrawn) {
        let _ = self.0.send(Order::Withdrawn(what));
    }
}

fn run(ender: &Ender, inbox: &mpsc::Receiver<Order>) {
    // A connect that was judged just before the switch may enter the kernel's table after the first look: what was touched is looked at twice.
    let mut again: Option<(Instant, HashSet<ServiceId>)> = None;
    loop {
        let wait = again.as_ref().map_or(limits::RECONNECT_MAX, |(due, _)| due.saturating_duration_since(Instant::now()));
        match inbox.recv_timeout(wait) {
            Ok(Order::Revised(touched)) => {
                ender.revise(&touched);
                let known = again.take().map(|(_, known)| known).unwrap_or_default();
                again = Some((Instant::now() + limits::REVOKE_AGAIN, &known | &touched));
            }
            Ok(Order::Withdrawn(what)) => ender.orphans(&what),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some((_, touched)) = again.take_if(|(due, _)| *due <= Instant::now()) {
            ender.revise(&touched);
        }
    }
}

impl Ender {
    /// What a workload's sockets are held against at its enrolment.
    pub fn at_enrolment<'a>(&'a self, identity: ServiceId, index: Option<&'a weft_policy::Index>) -> Standing<'a> {
        Standing { identity, index, resolvers: &self.resolvers }
    }

    /// Ends what the revision in force does not allow any more.
    fn revise(&self, touched: &HashSet<ServiceId>) {
        let began = Instant::now();
        let Some(index) = self.mesh.index() else { return };
        let (mut ended, mut problems) = (0, Vec::new());
        for place in self.namespaces.of(touched) {
            let standing = Standing { identity: place.service, index: Some(&index), resolvers: &self.resolvers };
            match self.kernel.end_sockets(&place.netns, &place.cgroup, |s| standing.under_revision(s).is_some()) {
                Ok(found) => {
                    ended += found.ended.len();
                    problems.extend(found.left.first().map(|(s, why)| left(&place, s, why)));
                    self.report(&place, &found, |s| standing.under_revision(s).unwrap_or(Fault::Revoked));
                }
                Err(e) => problems.push(format!("live connections of workload {} could not be looked at: {}", place.uid, Chain(&e))),
            }
        }
        if ended > 0 {
            info!(revision = %index.snapshot().revision, ended, after_us = began.elapsed().as_micros() as u64, "connections within this node ended with their grant");
        }
        self.warnings.set(Topic::Revocation, problems);
    }

    /// The peers of a withdrawn workload: the client's side names the destination's namespace, the server's side only its caller's service. Where nobody
    /// is left in the namespace, also who is still dialling it: its addresses may be gone, so that nothing would ever answer.
    fn orphans(&self, gone: &Withdrawn) {
        let records = || gone.sockets.iter().filter_map(|s| s.record).filter(|r| matches!(r.path, PATH_SAME_NODE | PATH_LOCAL));
        let flows: HashSet<u64> = records().map(|r| r.flow).collect();
        let mut ends: HashSet<ServiceId> = records().map(|r| ServiceId(if r.side == SIDE_CLIENT { r.destination } else { r.source })).collect();
        let deserted = !self.namespaces.all().iter().any(|place| place.netns.cookie() == gone.netns);
        if let Some(index) = self.mesh.index().filter(|_| deserted) {
            ends.insert(gone.service);
            ends.extend(index.snapshot().grants.iter().filter(|g| g.destination == gone.service).map(|g| g.source));
        }
        let dials = |r: &Attestation| r.side == SIDE_CLIENT && r.path == PATH_SAME_NODE && r.netns == gone.netns && r.destination == gone.service.0;
        for place in self.namespaces.of(&ends) {
            let orphan = |s: &LiveSocket| !s.exempt && s.record.is_some_and(|r| flows.contains(&r.flow) || (deserted && dials(&r)));
            match self.kernel.end_sockets(&place.netns, &place.cgroup, orphan) {
                Ok(found) => self.report(&place, &found, |_| Fault::Withdrawn),
                Err(error) => warn!(workload = %place.uid, error = %Chain(&error), "the peers of a withdrawn workload could not be ended"),
            }
        }
    }

    /// Puts what has been ended on record, each under its flow.
    pub fn report(&self, place: &Place, found: &Ended, why: impl Fn(&LiveSocket) -> Fault) {
        for socket in &found.ended {
            let fault = why(socket);
            self.metrics.socket_ended(fault.as_str());
            if let Some(record) = self.record(place, socket, fault) {
                self.flows.record(record);
            }
        }
    }

    fn record(&self, place: &Place, s: &LiveSocket, fault: Fault) -> Option<Record> {
        let r = s.record?;
        let index = self.mesh.index();
        let named = |id| index.as_ref().and_then(|i| party(i, ServiceId(id)));
        let since = std::time::Duration::from_nanos(r.since_ns) + clock_offset();
        // Nobody of the mesh is at the other end, and the record of the verdict shows whence it came.
        let public = r.path == PATH_PUBLIC;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Some(Record {
            id: FlowId(r.flow),
            at_ms: since.as_millis() as i64,
            // Whichever end is found first takes the other with it, so what is learnt belongs to the record of the verdict.
            point: if public { Point::KernelIn } else { Point::KernelOut },
            verdict: Verdict::Allow,
            reason: if public { Reason::Public } else { Reason::Grant },
            revision: Revision(r.revision),
            rule: RuleId(r.rule),
            rule_declared_at: None,
            source: named(r.source),
            destination: named(r.destination),
            address: Some(if public { s.remote.ip() } else { r.dialled.into() }),
            port: r.dialled_port,
            service_port: r.service_port,
            protocol: Protocol::from_number(s.protocol).unwrap_or_default(),
            path: Path::from_code(r.path as u8),
            pid: 0,
            command: String::new(),
            workload: (public || r.side == SIDE_CLIENT).then(|| place.uid.clone()),
            bytes_out: 0,
            bytes_in: 0,
            duration_us: (now.saturating_sub(since).as_micros() as u64).max(1),
            detail: match (fault, index) {
                (Fault::Revoked, Some(index)) if public => {
                    format!("revoked: the port is not open to everybody any more (ended under revision {})", index.snapshot().revision)
                }
                (Fault::Revoked, Some(index)) => format!("{} (ended under revision {})", fault.explain(), index.snapshot().revision),
                _ => fault.explain().to_owned(),
            },
            key_exchange: String::new(),
        })
    }
}

/// One sentence for people about a socket that could not be ended.
pub fn left(place: &Place, s: &LiveSocket, why: &str) -> String {
    format!("workload {}: a connection {} → {} that nothing allows any more is still open: {why}", place.uid, s.local, s.remote)
}
