//! The record of one connection, from the first thing known of it to its end.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use tokio::time::Instant;
use weft_policy::Decision;
use weft_tunnel::ResetReason;
use weft_types::{FlowId, Path, Protocol, Reason, Revision, RuleId, Verdict};

use super::{
    host::{End, FlowRecord, Host, LocalWorkload, Measure, Point},
    relay::{Carried, Outcome},
};

pub(crate) struct Account {
    host: Arc<dyn Host>,
    record: FlowRecord,
    began: Instant,
}

/// Why a connection is not carried.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
    /// Another endpoint may be tried: no byte of the application has been sent.
    pub(crate) elsewhere: bool,
}

impl Failure {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), elsewhere: false }
    }

    pub(crate) fn elsewhere(reason: Reason, detail: impl Into<String>) -> Self {
        Self { elsewhere: true, ..Self::new(reason, detail) }
    }
}

impl From<(Reason, String)> for Failure {
    fn from((reason, detail): (Reason, String)) -> Self {
        Self::new(reason, detail)
    }
}

impl Account {
    pub(crate) fn new(host: &Arc<dyn Host>, point: Point, workload: &LocalWorkload, id: FlowId, address: Option<SocketAddr>) -> Self {
        let record = FlowRecord {
            id,
            at: SystemTime::now(),
            point,
            verdict: Verdict::Deny,
            reason: Reason::Internal,
            revision: Revision::default(),
            rule: RuleId::default(),
            rule_declared_at: None,
            source: None,
            destination: None,
            address,
            service_port: address.map_or(0, |a| a.port()),
            protocol: Protocol::Tcp,
            path: None,
            workload: workload.uid.clone(),
            bytes_out: 0,
            bytes_in: 0,
            duration: None,
            detail: String::new(),
            key_exchange: None,
        };
        Self { host: host.clone(), record, began: Instant::now() }
    }

    pub(crate) fn decided(&mut self, d: Decision) {
        let r = &mut self.record;
        (r.verdict, r.reason, r.revision, r.rule) = (d.verdict, d.reason, d.revision, d.rule);
        (r.rule_declared_at, r.source, r.destination, r.service_port) = (d.rule_declared_at, d.source, d.destination, d.port);
    }

    pub(crate) fn refused(mut self, failure: &Failure) {
        tracing::debug!(flow = %self.record.id, point = self.record.point.as_str(), reason = %failure.reason, detail = failure.detail, "refused");
        (self.record.verdict, self.record.reason) = (failure.reason.verdict(), failure.reason);
        self.record.detail.clone_from(&failure.detail);
        self.record.path = None;
        self.record.duration = Some(self.began.elapsed());
        self.host.measure(Measure::Refused { point: self.record.point, reason: failure.reason });
        self.host.record(self.record);
    }

    pub(crate) fn opened(&mut self, key_exchange: Option<String>) {
        self.record.path = Some(match self.record.point {
            Point::Out => Path::Captured,
            Point::In => Path::Delivered,
        });
        self.record.key_exchange = key_exchange;
        self.host.measure(Measure::Opened(self.record.point));
        self.host.record(self.record.clone());
    }

    pub(crate) fn closed(mut self, carried: &Carried, outcome: &Outcome) {
        let (from, to) = (carried.from_application.load(Ordering::Relaxed), carried.to_application.load(Ordering::Relaxed));
        let point = self.record.point;
        let (bytes_out, bytes_in) = match point {
            Point::Out => (from, to),
            Point::In => (to, from),
        };
        let (end, detail) = how(outcome);
        (self.record.bytes_out, self.record.bytes_in) = (bytes_out, bytes_in);
        self.record.duration = Some(self.began.elapsed());
        self.record.detail = detail;
        self.host.measure(Measure::Closed { point, bytes_out, bytes_in, end });
        self.host.record(self.record);
    }
}

fn how(outcome: &Outcome) -> (End, String) {
    match outcome {
        Outcome::Finished => (End::Finished, String::new()),
        Outcome::Application(e) => (End::Reset, format!("the application on this node ended it: {e}")),
        Outcome::Peer(ResetReason::Aborted) => (End::Reset, "the application on the other node reset it, or vanished".to_owned()),
        Outcome::Stopped(ResetReason::Revoked) => (End::Revoked, "the grant that allowed it went away".to_owned()),
        Outcome::Peer(ResetReason::Revoked) => (End::Revoked, "the grant that allowed it went away, said the other node".to_owned()),
        Outcome::Stopped(_) => (End::Shutdown, "the workload on this node went away".to_owned()),
        Outcome::Peer(ResetReason::Shutdown) => (End::Shutdown, "the workload on the other node went away".to_owned()),
        Outcome::Peer(ResetReason::Protocol) => (End::Broken, "the other node could not read this node's frames".to_owned()),
        Outcome::Broken(e) => (End::Broken, format!("the tunnel broke: {e}")),
        Outcome::Frames(e) => (End::Broken, format!("the other node broke the protocol: {e}")),
    }
}

/// For a connection that nobody gave an id.
pub(crate) fn fresh_flow_id() -> FlowId {
    FlowId(RandomState::new().build_hasher().finish())
}
