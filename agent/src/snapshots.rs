//! The last-known snapshot on disk, so that a restart without a bridge goes on where it was. Nothing read here is believed before it is verified again.
//!
//! A revision is on disk before it is in force: an agent killed between the two must not come back with what that revision took away.

use std::{
    io,
    path::{Path, PathBuf},
};

use prost::Message as _;
use thiserror::Error;
use weft_api::bridge::v1 as wire;
use weft_snapshot::{Envelope, Keyring, OpenError, Snapshot};
use weft_types::Revision;

use crate::files;

#[derive(Clone, Debug)]
pub struct SnapshotStore {
    file: PathBuf,
    /// What is being put in force.
    next: PathBuf,
}

#[derive(Debug, Error)]
pub enum LoadError {
    #[error("cannot read the last snapshot {file}")]
    Read { file: PathBuf, source: io::Error },
    #[error("the last snapshot {file} is no envelope")]
    Decode { file: PathBuf, source: prost::DecodeError },
    #[error("the last snapshot {file} is not accepted")]
    Open { file: PathBuf, source: OpenError },
}

impl SnapshotStore {
    pub fn new(state_dir: &Path) -> Self {
        Self { file: state_dir.join("snapshot.pb"), next: state_dir.join("snapshot.next.pb") }
    }

    /// What can be believed, the newest first: an agent may have been killed between [`Self::stage`] and [`Self::settle`].
    pub fn load(&self, keyring: &Keyring) -> Vec<Result<(Envelope, Snapshot), LoadError>> {
        let found = [&self.next, &self.file].into_iter().filter_map(|file| load(file, keyring).transpose());
        let mut found: Vec<_> = found.collect();
        found.sort_by_key(|f| std::cmp::Reverse(f.as_ref().map_or(Revision(0), |(e, _)| e.revision)));
        found
    }

    /// Puts it beside the one in force. After a crash it is there whole or not at all.
    pub fn stage(&self, envelope: &Envelope) -> io::Result<()> {
        files::write_atomic(&self.next, &to_wire(envelope).encode_to_vec(), 0o600)
    }

    /// What was staged is in force: it replaces the one of before.
    pub fn settle(&self) -> io::Result<()> {
        std::fs::rename(&self.next, &self.file)
    }

    /// What was staged has been refused.
    pub fn unstage(&self) {
        let _ = std::fs::remove_file(&self.next);
    }
}

/// `None`: there is none.
fn load(file: &Path, keyring: &Keyring) -> Result<Option<(Envelope, Snapshot)>, LoadError> {
    let name = || file.to_owned();
    let bytes = match std::fs::read(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|source| LoadError::Read { file: name(), source })?,
    };
    let envelope = from_wire(wire::Envelope::decode(&*bytes).map_err(|source| LoadError::Decode { file: name(), source })?);
    let snapshot = keyring.open(&envelope).map_err(|source| LoadError::Open { file: name(), source })?;
    Ok(Some((envelope, snapshot)))
}

/// The wire's envelope, unverified.
pub fn from_wire(e: wire::Envelope) -> Envelope {
    Envelope {
        schema_version: e.schema_version,
        revision: Revision(e.revision),
        base_revision: Revision(e.base_revision),
        payload: e.payload,
        key_id: e.key_id,
        signature: e.signature,
    }
}

pub fn to_wire(e: &Envelope) -> wire::Envelope {
    wire::Envelope {
        schema_version: e.schema_version,
        revision: e.revision.0,
        base_revision: e.base_revision.0,
        payload: e.payload.clone(),
        key_id: e.key_id.clone(),
        signature: e.signature.clone(),
    }
}

#[cfg(test)]
mod tests {
    use weft_snapshot::{SigningKey, encode};

    use super::*;

    fn snapshot(revision: u64) -> Snapshot {
        Snapshot {
            revision: Revision(revision),
            mesh: "corp".into(),
            trust_domain: "corp.example".parse().unwrap(),
            services: Vec::new(),
            endpoints: Vec::new(),
            grants: Vec::new(),
            pending: Vec::new(),
            teams: Vec::new(),
        }
    }

    struct Bench {
        dir: tempfile::TempDir,
        store: SnapshotStore,
        key: SigningKey,
    }

    impl Bench {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { store: SnapshotStore::new(dir.path()), dir, key: SigningKey::generate().unwrap().0 }
        }

        fn signed(&self, revision: u64) -> Envelope {
            self.key.sign(Revision(revision), encode(&snapshot(revision)))
        }

        fn save(&self, revision: u64) {
            self.store.stage(&self.signed(revision)).unwrap();
            self.store.settle().unwrap();
        }

        /// The revisions that would be tried, and 0 for what would not be believed.
        fn loaded(&self, keyring: &Keyring) -> Vec<u64> {
            self.store.load(keyring).into_iter().map(|found| found.map_or(0, |(e, _)| e.revision.0)).collect()
        }

        fn keyring(&self) -> Keyring {
            Keyring::new(vec![(self.key.id().to_owned(), self.key.public_key())])
        }

        fn file(&self) -> PathBuf {
            self.dir.path().join("snapshot.pb")
        }
    }

    #[test]
    fn what_was_saved_last_is_loaded() {
        let b = Bench::new();
        assert!(b.loaded(&b.keyring()).is_empty());
        b.save(1);
        b.save(2);
        assert_eq!(b.loaded(&b.keyring()), [2]);
    }

    #[test]
    fn what_was_staged_comes_first_and_goes_when_it_is_refused() {
        let b = Bench::new();
        b.save(1);
        b.store.stage(&b.signed(2)).unwrap();
        assert_eq!(b.loaded(&b.keyring()), [2, 1]);
        b.store.unstage();
        assert_eq!(b.loaded(&b.keyring()), [1]);
        // What cannot be read does not stand before what can.
        std::fs::write(b.dir.path().join("snapshot.next.pb"), "half").unwrap();
        assert_eq!(b.loaded(&b.keyring()), [1, 0]);
    }

    #[test]
    fn a_changed_byte_or_another_key_is_not_believed() {
        let b = Bench::new();
        b.save(1);
        let good = std::fs::read(b.file()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(b.file(), bad).unwrap();
            assert_eq!(b.loaded(&b.keyring()), [0], "byte {at}");
        }
        std::fs::write(b.file(), good).unwrap();
        let other = SigningKey::generate().unwrap().0;
        let stranger = Keyring::new(vec![(other.id().to_owned(), other.public_key())]);
        assert!(matches!(b.store.load(&stranger)[..], [Err(LoadError::Open { .. })]));
        assert_eq!(b.loaded(&b.keyring()), [1]);
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_the_old_one() {
        let b = Bench::new();
        b.save(1);
        // The file beside which the new one is written cannot be made.
        std::fs::create_dir(b.dir.path().join("snapshot.next.pb.new")).unwrap();
        b.store.stage(&b.signed(2)).unwrap_err();
        assert_eq!(b.loaded(&b.keyring()), [1]);
    }
}
