//! The connections that are being carried: who may end them, and why.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::sync::CancellationToken;
use weft_policy::{Destination, Index, Query};
use weft_tunnel::ResetReason;
use weft_types::{Protocol, ServiceId, Verdict};

/// What a connection lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) source: ServiceId,
    pub(crate) destination: ServiceId,
    pub(crate) service_port: u16,
}

impl Claim {
    pub(crate) fn query(&self) -> Query {
        Query { source: self.source, destination: Destination::Service { id: self.destination, port: self.service_port }, protocol: Protocol::Tcp }
    }

    pub(crate) fn holds(&self, index: &Index) -> bool {
        index.decide(&self.query()).verdict == Verdict::Allow
    }
}

#[derive(Default)]
pub(crate) struct Live {
    connections: Mutex<HashMap<u64, Connection>>,
    next: AtomicU64,
}

struct Connection {
    claim: Claim,
    workload: u32,
    stop: Arc<Stop>,
}

#[derive(Default)]
struct Stop {
    token: CancellationToken,
    reason: OnceLock<ResetReason>,
}

impl Stop {
    fn pull(&self, reason: ResetReason) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }
}

/// Membership in [`Live`]; ends when dropped.
pub(crate) struct Lease {
    live: Arc<Live>,
    id: u64,
    stop: Arc<Stop>,
}

impl Live {
    pub(crate) fn enter(self: &Arc<Self>, claim: Claim, workload: u32) -> Lease {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let stop = Arc::new(Stop::default());
        self.lock().insert(id, Connection { claim, workload, stop: stop.clone() });
        Lease { live: self.clone(), id, stop }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Ends what `now` does not allow any more; returns how many.
    pub(crate) fn revoke(&self, now: &Index) -> usize {
        let mut holds = HashMap::new();
        let connections = self.lock();
        let gone = connections.values().filter(|c| !*holds.entry(c.claim).or_insert_with(|| c.claim.holds(now)));
        gone.map(|c| c.stop.pull(ResetReason::Revoked)).count()
    }

    pub(crate) fn end_workload(&self, workload: u32) {
        self.lock().values().filter(|c| c.workload == workload).for_each(|c| c.stop.pull(ResetReason::Shutdown));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Waits until somebody ends the connection; returns why.
    pub(crate) async fn ended(&self) -> ResetReason {
        self.stop.token.cancelled().await;
        self.stop.reason.get().copied().unwrap_or(ResetReason::Shutdown)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.live.lock().remove(&self.id);
    }
}
