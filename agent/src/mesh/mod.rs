//! What is in force on this node: its membership, its SVIDs, its snapshot. Written by the bridge's client, read by everything else, kept on disk.

mod keystore;
mod pem;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    path::Path,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use tracing::{info, warn};
use weft_identity::{Svid, TrustBundle};
use weft_policy::Index;
use weft_snapshot::{Envelope, ServiceKind};
use weft_types::{Revision, ServiceId, ServiceRef};

pub use keystore::{Chain, KeyStoreError, Membership};
pub use pem::chain as chain_pem;

use crate::limits;

pub struct Mesh {
    state: RwLock<State>,
    changes: watch::Sender<u64>,
    /// What the kernel judges by: later than `state`, which is taken back when the kernel refuses it.
    in_force: watch::Sender<Option<Arc<Envelope>>>,
    store: keystore::KeyStore,
}

#[derive(Default)]
struct State {
    membership: Option<Membership>,
    node: Option<Issued>,
    svids: HashMap<ServiceRef, Issued>,
    /// Why a service has no SVID, or no newer one.
    problems: HashMap<ServiceRef, String>,
    index: Option<Arc<Index>>,
    /// The revision before: events of connections judged by it still arrive.
    previous: Option<Arc<Index>>,
    envelope: Option<Arc<Envelope>>,
}

/// What was in force before a revision.
pub struct Before {
    previous: Option<Arc<Index>>,
    index: Option<Arc<Index>>,
    envelope: Option<Arc<Envelope>>,
}

/// A certificate and when the next one is asked for.
#[derive(Clone, Debug)]
pub struct Issued {
    pub svid: Arc<Svid>,
    pub renew_at: SystemTime,
}

impl Issued {
    /// Renewal at half of its life, a tenth earlier or later, so that nodes started together do not ask together.
    fn new(svid: Svid) -> Self {
        let life = svid.not_after.duration_since(svid.not_before).unwrap_or_default();
        let renew_at = svid.not_before + life.mul_f64(0.4 + 0.2 * random_fraction());
        Self { svid: Arc::new(svid), renew_at }
    }

    pub fn is_live(&self, now: SystemTime) -> bool {
        now < self.svid.not_after
    }
}

impl Mesh {
    /// Opens the store and takes in what an earlier agent left there.
    pub fn open(state_dir: &Path) -> Result<Self, KeyStoreError> {
        let store = keystore::KeyStore::open(state_dir)?;
        let state = State {
            membership: store.load_membership()?,
            node: store.load_node()?.map(Issued::new),
            svids: store.load_svids()?.into_iter().map(|(service, svid)| (service, Issued::new(svid))).collect(),
            ..State::default()
        };
        Ok(Self { state: RwLock::new(state), changes: watch::channel(0).0, in_force: watch::channel(None).0, store })
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The revisions that are in force, each in its turn; of several that come between only the newest.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Envelope>>> {
        self.in_force.subscribe()
    }

    pub fn membership(&self) -> Option<Membership> {
        self.read().membership.clone()
    }

    pub fn trust_bundle(&self) -> Option<Arc<TrustBundle>> {
        self.read().membership.as_ref().map(|m| m.bundle.clone())
    }

    pub fn node(&self) -> Option<Issued> {
        self.read().node.clone()
    }

    pub fn svid(&self, service: &ServiceRef) -> Option<Issued> {
        self.read().svids.get(service).cloned()
    }

    /// The SVID of the service with this number in the snapshot in force.
    pub fn svid_of(&self, id: ServiceId) -> Option<Arc<Svid>> {
        let state = self.read();
        let service = state.index.as_ref()?.service(id)?;
        state.svids.get(&service.name).filter(|i| i.svid.id == service.identity).map(|i| i.svid.clone())
    }

    /// By service, in order.
    pub fn svids(&self) -> BTreeMap<ServiceRef, Issued> {
        self.read().svids.iter().map(|(service, issued)| (service.clone(), issued.clone())).collect()
    }

    pub fn index(&self) -> Option<Arc<Index>> {
        self.read().index.clone()
    }

    /// The snapshot of a revision, or the nearest that is still known.
    pub fn index_at(&self, revision: Revision) -> Option<Arc<Index>> {
        let state = self.read();
        let older = state.previous.as_ref().filter(|i| revision <= i.snapshot().revision);
        older.or(state.index.as_ref()).cloned()
    }

    pub fn envelope(&self) -> Option<Arc<Envelope>> {
        self.read().envelope.clone()
    }

    pub fn revision(&self) -> Revision {
        self.read().index.as_ref().map_or(Revision(0), |i| i.snapshot().revision)
    }

    /// Whether workloads of a service may be enrolled at this moment, and as whom; else why not.
    pub fn admit(&self, service: &ServiceRef, now: SystemTime) -> Result<ServiceId, String> {
        let state = self.read();
        let index = state.index.as_ref().ok_or("the node has no snapshot yet")?;
        let revision = index.snapshot().revision;
        let found = index.by_ref(service).ok_or_else(|| format!("revision {revision} of the mesh has no service {service}"))?;
        if found.kind == ServiceKind::Interface {
            return Err(format!("{service} is an interface: it lives outside the mesh and has no workloads"));
        }
        let why = || state.problems.get(service).map(|p| format!(": {p}")).unwrap_or_default();
        match state.svids.get(service) {
            None => Err(format!("{service} has no SVID yet{}", why())),
            Some(i) if !i.is_live(now) => Err(format!("the SVID of {service} has expired{}", why())),
            Some(i) if i.svid.id != found.identity => Err(format!("the SVID of {service} is {}, not {}", i.svid.id, found.identity)),
            Some(_) => Ok(found.id),
        }
    }

    /// The node has joined, or its roots and keys were rolled. What another authority signed is forgotten.
    pub fn set_membership(&self, new: Membership) {
        let mut state = self.write();
        if state.membership.as_ref() == Some(&new) {
            return;
        }
        if let Err(error) = self.store.save_membership(&new) {
            warn!(error = %Chain(&error), "the membership is not on disk: a restart without the IAM bridge would fail");
        }
        let related =
            |old: &Membership| old.trust_domain() == new.trust_domain() && old.bundle.certificates().iter().any(|c| new.bundle.certificates().contains(c));
        if state.membership.as_ref().is_some_and(|old| !related(old)) {
            info!(trust_domain = %new.trust_domain(), "the node belongs to another mesh now: former SVIDs are forgotten");
            state.svids.drain().for_each(|(service, _)| self.store.remove_svid(&service));
        }
        state.membership = Some(new);
        drop(state);
        self.tick();
    }

    pub fn set_node(&self, node: Svid) {
        if let Err(error) = self.store.save_node(&node) {
            warn!(error = %Chain(&error), "the node's certificate is not on disk: a restart would need a join token");
        }
        self.write().node = Some(Issued::new(node));
        self.tick();
    }

    pub fn set_svid(&self, service: &ServiceRef, svid: Svid) {
        if let Err(error) = self.store.save_svid(service, &svid) {
            warn!(%service, error = %Chain(&error), "the SVID is not on disk: after a restart the service waits for the IAM bridge");
        }
        let mut state = self.write();
        state.problems.remove(service);
        state.svids.insert(service.clone(), Issued::new(svid));
        drop(state);
        self.tick();
    }

    pub fn set_problem(&self, service: &ServiceRef, problem: String) {
        let mut state = self.write();
        if state.problems.len() >= limits::WORKLOADS_MAX {
            state.problems.clear();
        }
        state.problems.insert(service.clone(), problem);
    }

    /// Forgets SVIDs whose time is up; true if there were any.
    pub fn drop_expired(&self, now: SystemTime) -> bool {
        let mut state = self.write();
        let expired: Vec<ServiceRef> = state.svids.iter().filter(|(_, i)| !i.is_live(now)).map(|(service, _)| service.clone()).collect();
        for service in &expired {
            warn!(%service, "SVID has expired");
            state.svids.remove(service);
            self.store.remove_svid(service);
        }
        drop(state);
        if !expired.is_empty() {
            self.tick();
        }
        !expired.is_empty()
    }

    /// Puts a revision in force for all who ask; returns what was before.
    pub fn set_snapshot(&self, index: Arc<Index>, envelope: Arc<Envelope>) -> Before {
        let mut state = self.write();
        let before = Before { previous: state.previous.clone(), index: state.index.clone(), envelope: state.envelope.clone() };
        state.previous = state.index.replace(index);
        state.envelope = Some(envelope);
        drop(state);
        self.tick();
        before
    }

    /// Takes a revision back that the kernel would not have.
    pub fn restore_snapshot(&self, before: Before) {
        let mut state = self.write();
        (state.previous, state.index, state.envelope) = (before.previous, before.index, before.envelope);
        drop(state);
        self.tick();
    }

    /// The kernel judges by it.
    pub fn announce(&self, envelope: Arc<Envelope>) {
        self.in_force.send_replace(Some(envelope));
    }

    fn tick(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|e| e.into_inner())
    }
}

/// From 0 to 1; for jitter only, so the standard library's random keys are enough.
pub fn random_fraction() -> f64 {
    (RandomState::new().build_hasher().finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Half of `most` to all of it.
pub fn jittered(most: Duration) -> Duration {
    most.mul_f64(0.5 + 0.5 * random_fraction())
}
