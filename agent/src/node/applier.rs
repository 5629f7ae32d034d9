//! From an envelope to a revision in force: verified, compiled, put into the kernel, told to the proxy, kept on disk.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tracing::{info, warn};
use weft_kernel::Kernel;
use weft_policy::{Index, tables};
use weft_snapshot::Envelope;
use weft_types::Revision;

use super::{revoker::Revoker, standing::touched, thread::Workloads};
use crate::{
    hosts,
    mesh::{Chain, Mesh},
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
    /// One revision at a time.
    pub applying: Mutex<()>,
}

impl Applier {
    /// Puts the last-known snapshot in force; false: there is none that can be believed.
    pub fn restore(&self) -> bool {
        let Some(membership) = self.mesh.membership() else { return false };
        let loaded = match self.store.load(&membership.keyring()) {
            Ok(Some((envelope, _))) => envelope,
            Ok(None) => return false,
            Err(error) => {
                warn!(error = %Chain(&error), "the last snapshot is not used");
                return false;
            }
        };
        match self.put_in_force(&loaded) {
            Ok(_) => true,
            Err(error) => {
                warn!(error, "the last snapshot cannot be put in force");
                false
            }
        }
    }

    /// Puts a new revision in force; the error says why the former one stays. Blocks.
    pub fn apply(&self, envelope: Envelope, workloads: &Workloads) -> Result<Revision, String> {
        let revision = envelope.revision;
        if !self.put_in_force(&envelope)? {
            return Ok(revision);
        }
        workloads.look();
        match self.store.save(&envelope) {
            Ok(()) => self.warnings.clear(Topic::Snapshot),
            Err(e) => self.warnings.set(
                Topic::Snapshot,
                vec![format!("the snapshot in force is not on disk, so a restart without the IAM bridge goes on with an older one: {e}")],
            ),
        }
        Ok(revision)
    }

    /// Holds the kernel's policy tables against the snapshot, and puts them back when they differ; what was found then. Blocks.
    pub fn verify(&self) -> Option<String> {
        if self.mesh.index().is_none_or(|index| self.is_in_force(&index).unwrap_or(true)) {
            return None;
        }
        // A revision may have been on its way in: looked at again with nobody changing anything.
        let _one = self.applying.lock().unwrap_or_else(|e| e.into_inner());
        let index = self.mesh.index()?;
        match self.is_in_force(&index) {
            Ok(true) => None,
            Ok(false) => {
                let revision = index.snapshot().revision;
                let again = self.kernel.apply(&tables(index.snapshot()), revision);
                let outcome = again.map_or_else(|e| format!("cannot be put back: {}", Chain(&e)), |()| "put in force again".to_owned());
                Some(format!("the kernel's policy tables were not those of revision {revision}: {outcome}"))
            }
            Err(e) => Some(format!("the kernel's policy tables cannot be read: {}", Chain(&e))),
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

    /// False: it is in force already.
    fn put_in_force(&self, envelope: &Envelope) -> Result<bool, String> {
        let _one = self.applying.lock().unwrap_or_else(|e| e.into_inner());
        let membership = self.mesh.membership().ok_or("the node has not joined a mesh")?;
        let snapshot = membership.keyring().open(envelope).map_err(|e| Chain(&e).to_string())?;
        if snapshot.trust_domain != *membership.trust_domain() {
            return Err(format!("the snapshot is of trust domain {}, this node belongs to {}", snapshot.trust_domain, membership.trust_domain()));
        }
        if let Some(current) = self.mesh.envelope().filter(|c| membership.snapshot_keys.iter().any(|(id, _)| *id == c.key_id)) {
            if *current == *envelope {
                return Ok(false);
            }
            if current.revision >= envelope.revision {
                return Err(format!("revision {} is not newer than revision {}, which is in force", envelope.revision, current.revision));
            }
        }
        let tables = tables(&snapshot);
        let index = Arc::new(Index::new(Arc::new(snapshot)));
        // The proxy first: for a moment it judges by the new revision what the kernel let pass by the old one, never the other way round, so a
        // connection that the new revision allows is not refused behind the kernel's back.
        let former = self.mesh.index();
        let before = self.mesh.set_snapshot(index.clone(), envelope.clone());
        if let Err(error) = self.kernel.apply(&tables, envelope.revision) {
            self.mesh.restore_snapshot(before);
            return Err(Chain(&error).to_string());
        }
        let revoked = self.proxy.revoke(&index);
        self.revoker.revised(former.map(|former| touched(&former, &index)).unwrap_or_default());
        info!(revision = %envelope.revision, services = index.snapshot().services.len(), grants = index.snapshot().grants.len(), revoked, "revision is in force");
        match hosts::write(&self.hosts_file, index.snapshot()) {
            Ok(()) => self.warnings.clear(Topic::Hosts),
            Err(e) => self.warnings.set(Topic::Hosts, vec![format!("the hosts file {} is not written: {e}", self.hosts_file.display())]),
        }
        Ok(true)
    }
}
