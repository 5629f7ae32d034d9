//! From an envelope to a revision in force: verified, compiled, put into the kernel, told to the proxy, kept on disk.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{info, warn};
use weft_kernel::Kernel;
use weft_policy::{Index, tables};
use weft_snapshot::{Envelope, Snapshot};
use weft_types::Revision;

use super::{revoker::Revoker, standing::touched, thread::Workloads};
use crate::{
    hosts,
    mesh::{Chain, Membership, Mesh},
    metrics::Metrics,
    proxy::Proxy,
    snapshots::SnapshotStore,
    warnings::{Topic, Warnings},
};

pub struct Applier {
    pub kernel: Arc<Kernel>,
    pub mesh: Arc<Mesh>,
    pub proxy: Proxy,
    pub revoker: Revoker,
    pub store: SnapshotStore,
    pub hosts_file: PathBuf,
    pub warnings: Arc<Warnings>,
    pub metrics: Arc<Metrics>,
    /// One revision at a time.
    pub applying: Mutex<()>,
}

/// An envelope that may be put in force.
struct Read {
    /// Complete, also where what came was a change.
    envelope: Arc<Envelope>,
    snapshot: Snapshot,
    base: Revision,
    began: Instant,
    opened: Duration,
}

impl Applier {
    /// Puts the last-known snapshot in force; false: there is none that can be believed.
    pub fn restore(&self) -> bool {
        let Some(membership) = self.mesh.membership() else { return false };
        let _one = self.one_at_a_time();
        for loaded in self.store.load(&membership.keyring()) {
            let restored = loaded.map_err(|e| Chain(&e).to_string()).and_then(|(envelope, _)| self.put_in_force(self.read(&envelope)?));
            match restored {
                Ok(()) => return true,
                Err(error) => warn!(error, "a snapshot on disk is not used"),
            }
        }
        false
    }

    /// Puts a new revision in force; the error says why the former one stays. Blocks.
    pub fn apply(&self, envelope: &Envelope, workloads: &Workloads) -> Result<(), String> {
        let _one = self.one_at_a_time();
        let read = self.read(envelope)?;
        if self.mesh.envelope().is_some_and(|current| *current == *read.envelope) {
            return Ok(());
        }
        let staged = self.store.stage(&read.envelope);
        if let Err(refused) = self.put_in_force(read) {
            self.store.unstage();
            return Err(refused);
        }
        match staged.and_then(|()| self.store.settle()) {
            Ok(()) => self.warnings.clear(Topic::Snapshot),
            Err(e) => self.warnings.set(
                Topic::Snapshot,
                vec![format!("the snapshot in force is not on disk, so a restart without the IAM bridge goes on with an older one: {e}")],
            ),
        }
        workloads.look();
        Ok(())
    }

    /// Holds the kernel's policy tables against the snapshot, and puts them back when they differ; what was found then. Blocks.
    pub fn verify(&self) -> Option<String> {
        let unread = |e| format!("the kernel's policy tables cannot be read: {}", Chain(&e));
        if self.mesh.index().is_none_or(|index| self.is_in_force(&index).unwrap_or(true)) {
            // The generation before judges nobody, but the next revision would be built on it.
            return match self.kernel.recheck() {
                Ok(true) => None,
                Ok(false) => Some("the kernel's policy tables of the revision before were changed: the next one is written whole".to_owned()),
                Err(e) => Some(unread(e)),
            };
        }
        // A revision may have been on its way in: looked at again with nobody changing anything.
        let _one = self.one_at_a_time();
        let index = self.mesh.index()?;
        match self.is_in_force(&index) {
            Ok(true) => None,
            Ok(false) => {
                let revision = index.snapshot().revision;
                self.kernel.forget();
                let again = self.kernel.apply(&tables(index.snapshot()), revision);
                let outcome = again.map_or_else(|e| format!("cannot be put back: {}", Chain(&e)), |()| "put in force again".to_owned());
                Some(format!("the kernel's policy tables were not those of revision {revision}: {outcome}"))
            }
            Err(e) => Some(unread(e)),
        }
    }

    fn is_in_force(&self, index: &Index) -> Result<bool, weft_kernel::KernelError> {
        let (mut held, mut wanted) = (self.kernel.glance()?, tables(index.snapshot()));
        for t in [&mut held, &mut wanted] {
            t.destinations.sort_unstable();
            t.externals.sort_unstable();
            t.ports.sort_unstable();
            t.grants.sort_unstable();
        }
        Ok(held == wanted && self.kernel.state()?.revision() == index.snapshot().revision.0)
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verified, of this node's mesh, and newer than what is in force or the same.
    fn read(&self, envelope: &Envelope) -> Result<Read, String> {
        let began = Instant::now();
        let membership = self.mesh.membership().ok_or("the node has not joined a mesh")?;
        let (whole, snapshot) = self.open(envelope, &membership)?;
        if snapshot.trust_domain != *membership.trust_domain() {
            return Err(format!("the snapshot is of trust domain {}, this node belongs to {}", snapshot.trust_domain, membership.trust_domain()));
        }
        if let Some(current) = self.mesh.envelope().filter(|c| membership.snapshot_keys.iter().any(|(id, _)| *id == c.key_id))
            && *current != whole
            && current.revision >= whole.revision
        {
            return Err(format!("revision {} is not newer than revision {}, which is in force", whole.revision, current.revision));
        }
        Ok(Read { envelope: Arc::new(whole), snapshot, base: envelope.base_revision, began, opened: began.elapsed() })
    }

    fn put_in_force(&self, read: Read) -> Result<(), String> {
        let Read { envelope, snapshot, base, began, opened } = read;
        let staged = began.elapsed();
        let tables = tables(&snapshot);
        let index = Arc::new(Index::new(Arc::new(snapshot)));
        // The proxy first: for a moment it judges by the new revision what the kernel let pass by the old one, never the other way round, so a
        // connection that the new revision allows is not refused behind the kernel's back.
        let former = self.mesh.index();
        let indexed = began.elapsed();
        let before = self.mesh.set_snapshot(index.clone(), envelope.clone());
        if let Err(error) = self.kernel.apply(&tables, envelope.revision) {
            self.mesh.restore_snapshot(before);
            return Err(Chain(&error).to_string());
        }
        let applied = began.elapsed();
        self.mesh.announce(envelope.clone());
        let revoked = self.proxy.revoke(&index);
        self.revoker.revised(former.map(|former| touched(&former, &index)).unwrap_or_default());
        self.metrics.applied(applied, envelope.payload.len());
        info!(
            revision = %envelope.revision,
            %base,
            services = index.snapshot().services.len(),
            grants = index.snapshot().grants.len(),
            revoked,
            opened_ms = opened.as_millis() as u64,
            staged_ms = staged.as_millis() as u64,
            indexed_ms = indexed.as_millis() as u64,
            applied_ms = applied.as_millis() as u64,
            told_ms = began.elapsed().as_millis() as u64,
            "revision is in force"
        );
        match hosts::write(&self.hosts_file, index.snapshot()) {
            Ok(()) => self.warnings.clear(Topic::Hosts),
            Err(e) => self.warnings.set(Topic::Hosts, vec![format!("the hosts file {} is not written: {e}", self.hosts_file.display())]),
        }
        Ok(())
    }

    /// Verified and read: a complete envelope as it is, a change by what is in force.
    fn open(&self, envelope: &Envelope, membership: &Membership) -> Result<(Envelope, Snapshot), String> {
        let keyring = membership.keyring();
        let opened = if envelope.base_revision == Revision(0) {
            keyring.open(envelope).map(|snapshot| (envelope.clone(), snapshot))
        } else {
            let (Some(base), Some(index)) = (self.mesh.envelope(), self.mesh.index()) else {
                return Err(format!("revision {} is a change to revision {}, and this node holds none", envelope.revision, envelope.base_revision));
            };
            keyring.open_delta(envelope, &base, index.snapshot())
        };
        opened.map_err(|e| Chain(&e).to_string())
    }
}
