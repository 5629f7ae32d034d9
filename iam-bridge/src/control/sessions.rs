//! Streams of nodes: one a node, what it reports, and what it hears.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;
use tracing::{info, warn};
use weft_api::bridge::v1 as wire;
use weft_snapshot::Snapshot;
use weft_types::{NodeName, Revision};

use super::{Control, NodePeer, PublishError, Published, RequestError, unix};
use crate::{
    limits,
    metrics::Metrics,
    placement::{self, Refusal, Reported},
};

/// Why the bridge ends a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The node opened another one.
    Replaced,
    /// The node was removed.
    Removed,
    /// The bridge stops.
    Stopping,
}

/// The bridge's end of a stream.
pub(super) struct Handle {
    id: u64,
    end: watch::Sender<Option<End>>,
    refusals: watch::Sender<Arc<Vec<Refusal>>>,
}

/// What a stream's task listens to.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) end: watch::Receiver<Option<End>>,
    /// Changes with every report, and whenever something else changes what is refused.
    pub(crate) refusals: watch::Receiver<Arc<Vec<Refusal>>>,
    pub(crate) snapshots: watch::Receiver<Arc<Published>>,
    pub(crate) keys: Vec<wire::SigningKey>,
    pub(crate) bundle: Vec<Vec<u8>>,
    /// Highest schema of an envelope that the agent reads.
    pub(crate) schema_version: u32,
    pub(crate) metrics: Arc<Metrics>,
}

/// What a node says first, versions checked.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) agent_version: String,
    pub(crate) revision: Revision,
    /// Highest schema of an envelope that it reads.
    pub(crate) schema_version: u32,
}

impl Control {
    /// Opens the node's stream, and ends the one it had.
    pub(crate) fn connect(&mut self, peer: &NodePeer, greeting: Greeting, now: SystemTime) -> Result<Session, RequestError> {
        self.authenticate(peer)?;
        self.catch_up(peer, greeting.revision)?;
        self.let_learn(peer, &greeting)?;
        let id = self.next_session;
        self.next_session += 1;
        let (end, ended) = watch::channel(None);
        let (refusals, refused) = watch::channel(Arc::default());
        let session = Session {
            id,
            end: ended,
            refusals: refused,
            snapshots: self.subscribe(),
            keys: self.wire_keys(),
            bundle: self.wire_bundle(),
            schema_version: greeting.schema_version,
            metrics: self.metrics.clone(),
        };
        let Some(node) = self.nodes.get_mut(&peer.name) else { return Err(RequestError::NotAMember(peer.name.clone())) };
        if let Some(former) = node.session.replace(Handle { id, end, refusals }) {
            warn!(node = %peer.name, "node opened a second stream: the first one ends; do two agents use one certificate?");
            former.end.send_replace(Some(End::Replaced));
        }
        node.agent_version = greeting.agent_version;
        node.schema_version = greeting.schema_version;
        node.acked = greeting.revision;
        node.last_seen = unix(now);
        self.count_connected();
        info!(node = %peer.name, revision = %greeting.revision, "node connected");
        Ok(session)
    }

    /// A node that is ahead of the bridge saw revisions that the bridge forgot: it was restored from a backup. Its next revision must be newer than any.
    fn catch_up(&mut self, peer: &NodePeer, seen: Revision) -> Result<(), PublishError> {
        let own = self.current().snapshot.revision;
        if seen <= own || seen.0 - own.0 > limits::REVISION_LEAP_MAX {
            return Ok(());
        }
        warn!(node = %peer.name, node_revision = %seen, %own, "node is ahead of the bridge: was the database restored from a backup? The revision catches up");
        self.publish_again(Revision(seen.0 + 1))
    }

    /// A node whose agent reads of a gateway since now holds this revision without it, and takes none that is not newer.
    fn let_learn(&mut self, peer: &NodePeer, greeting: &Greeting) -> Result<(), PublishError> {
        let current = self.current();
        let before = self.nodes.get(&peer.name).map_or(0, |n| n.schema_version);
        let learned = before != 0 && !current.same_line(before, greeting.schema_version);
        if !learned || greeting.revision != current.snapshot.revision {
            return Ok(());
        }
        info!(node = %peer.name, "node reads another kind of snapshot than before: the revision grows, so that it gets one");
        self.publish_again(Revision(current.snapshot.revision.0 + 1))
    }

    /// The same snapshot under another number.
    fn publish_again(&mut self, revision: Revision) -> Result<(), PublishError> {
        let snapshot = Snapshot { revision, ..self.current().snapshot.clone() };
        let change = self.store.change()?;
        let published = super::publish(&change, &self.signing, None, snapshot, self.plan.service_range)?;
        change.commit()?;
        self.accept(self.placement.clone(), Some(published));
        Ok(())
    }

    /// A complete report: what is absent is gone.
    pub(crate) fn report(&mut self, peer: &NodePeer, reported: Vec<Reported>, now: SystemTime) -> Result<(), RequestError> {
        self.authenticate(peer)?;
        self.metrics.reports.inc();
        let Some(node) = self.nodes.get_mut(&peer.name) else { return Err(RequestError::NotAMember(peer.name.clone())) };
        let (claims, unreadable) = placement::read(reported, &node.claims, self.next_claim);
        let changed = claims != node.claims;
        let former = std::mem::replace(&mut node.claims, claims.clone());
        node.unreadable = unreadable;
        node.last_seen = unix(now);
        if changed {
            if let Err(error) = self.settle(|change| change.set_claims(&peer.name, &claims, unix(now))) {
                if let Some(node) = self.nodes.get_mut(&peer.name) {
                    node.claims = former;
                }
                return Err(error.into());
            }
            self.next_claim += 1;
        }
        self.answer(&peer.name);
        Ok(())
    }

    pub(crate) fn ack(&mut self, peer: &NodePeer, revision: Revision, error: &str, now: SystemTime) {
        let Some(node) = self.nodes.get_mut(&peer.name) else { return };
        node.last_seen = unix(now);
        node.error = error.chars().take(limits::TEXT_MAX_CHARS).collect();
        if node.error.is_empty() {
            node.acked = revision;
            return;
        }
        self.metrics.nacks.inc();
        warn!(node = %peer.name, %revision, in_force = %node.acked, error = node.error, "node refused a snapshot and keeps its former one");
    }

    /// Its workloads stay: they go on without the bridge, and others must find them.
    pub(crate) fn disconnect(&mut self, name: &NodeName, session: u64, now: SystemTime) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.session.as_ref().is_none_or(|s| s.id != session) {
            return;
        }
        node.session = None;
        node.last_seen = unix(now);
        let kept = self.store.change().and_then(|change| {
            change.seen(name, unix(now))?;
            change.commit()
        });
        if let Err(error) = kept {
            warn!(node = %name, %error, "cannot keep when the node was last seen");
        }
        self.count_connected();
        info!(node = %name, "node disconnected");
    }

    pub(crate) fn end_all(&mut self) {
        for session in self.nodes.values().filter_map(|n| n.session.as_ref()) {
            session.end.send_replace(Some(End::Stopping));
        }
    }

    pub(super) fn end_session(handle: Option<Handle>, why: End) {
        if let Some(handle) = handle {
            handle.end.send_replace(Some(why));
        }
    }

    pub(super) fn count_connected(&self) {
        let connected = self.nodes.values().filter(|n| n.session.is_some()).count();
        self.metrics.connected.set(i64::try_from(connected).unwrap_or(i64::MAX));
    }

    /// Tells every connected node whose refusals changed.
    pub(super) fn tell_refusals(&self) {
        for (name, node) in &self.nodes {
            let Some(session) = &node.session else { continue };
            let now = self.refusals(name);
            session.refusals.send_if_modified(|last| {
                let changed = **last != now;
                if changed {
                    *last = Arc::new(now.clone());
                }
                changed
            });
        }
    }

    /// The answer to a report, also when nothing is refused.
    fn answer(&self, name: &NodeName) {
        let refusals = self.refusals(name);
        for refusal in &refusals {
            warn!(target: "weft_audit", event = "workload-refused", node = %name, uid = refusal.uid, reason = refusal.reason, "workload refused");
        }
        if let Some(session) = self.nodes.get(name).and_then(|n| n.session.as_ref()) {
            session.refusals.send_replace(Arc::new(refusals));
        }
    }

    fn refusals(&self, name: &NodeName) -> Vec<Refusal> {
        let unreadable = self.nodes.get(name).map(|n| n.unreadable.as_slice()).unwrap_or_default();
        let placed = self.placement.refusals.get(name).map(Vec::as_slice).unwrap_or_default();
        unreadable.iter().chain(placed).cloned().collect()
    }
}
