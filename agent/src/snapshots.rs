//! The last-known snapshot on disk, so that a restart without a bridge goes on where it was. Nothing read here is believed before it is verified again.

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
        Self { file: state_dir.join("snapshot.pb") }
    }

    /// `None`: there has been none.
    pub fn load(&self, keyring: &Keyring) -> Result<Option<(Envelope, Snapshot)>, LoadError> {
        let file = || self.file.clone();
        let bytes = match std::fs::read(&self.file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| LoadError::Read { file: file(), source })?,
        };
        let envelope = from_wire(wire::Envelope::decode(&*bytes).map_err(|source| LoadError::Decode { file: file(), source })?);
        let snapshot = keyring.open(&envelope).map_err(|source| LoadError::Open { file: file(), source })?;
        Ok(Some((envelope, snapshot)))
    }

    /// Replaces what is there; after a crash it is the old or the new.
    pub fn save(&self, envelope: &Envelope) -> io::Result<()> {
        files::write_atomic(&self.file, &to_wire(envelope).encode_to_vec(), 0o600)
    }
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
            gateway: None,
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

        fn save(&self, revision: u64) {
            self.store.save(&self.key.sign(Revision(revision), encode(&snapshot(revision)))).unwrap();
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
        assert!(b.store.load(&b.keyring()).unwrap().is_none());
        b.save(1);
        b.save(2);
        assert_eq!(b.store.load(&b.keyring()).unwrap().unwrap().1, snapshot(2));
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
            b.store.load(&b.keyring()).unwrap_err();
        }
        std::fs::write(b.file(), good).unwrap();
        let other = SigningKey::generate().unwrap().0;
        let stranger = Keyring::new(vec![(other.id().to_owned(), other.public_key())]);
        assert!(matches!(b.store.load(&stranger), Err(LoadError::Open { .. })));
        assert!(b.store.load(&b.keyring()).unwrap().is_some());
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_the_old_one() {
        let b = Bench::new();
        b.save(1);
        // The file beside which the new one is written cannot be made.
        std::fs::create_dir(b.dir.path().join("snapshot.pb.new")).unwrap();
        assert!(b.store.save(&b.key.sign(Revision(2), encode(&snapshot(2)))).is_err());
        assert_eq!(b.store.load(&b.keyring()).unwrap().unwrap().1, snapshot(1));
    }
}
