//! What a node keeps of its membership: roots, snapshot keys, its own certificate, the SVIDs of its services. With keys, so that a node whose
//! agent is killed goes on without a bridge for as long as its SVIDs live. Files are 0600, their directory 0700.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;
use weft_identity::{BundleError, Svid, TrustBundle};
use weft_snapshot::Keyring;
use weft_types::{ServiceRef, TrustDomain};

use super::pem::{self, PemError};
use crate::files;

/// Which mesh this node belongs to, and what it believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub bundle: Arc<TrustBundle>,
    /// Id and Ed25519 public key of those who sign snapshots.
    pub snapshot_keys: Vec<(String, [u8; 32])>,
}

#[derive(Clone, Debug)]
pub(super) struct KeyStore {
    dir: PathBuf,
}

#[derive(Debug, Error)]
pub enum KeyStoreError {
    #[error("cannot use {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}")]
    Pem { path: PathBuf, source: PemError },
    #[error("{path} is no membership record")]
    Membership { path: PathBuf, source: serde_json::Error },
    #[error("{path}")]
    Bundle { path: PathBuf, source: BundleError },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    trust_domain: TrustDomain,
    /// PEM.
    trust_bundle: String,
    snapshot_keys: Vec<SavedKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedKey {
    id: String,
    public_key: [u8; 32],
}

impl Membership {
    pub fn trust_domain(&self) -> &TrustDomain {
        self.bundle.trust_domain()
    }

    pub fn keyring(&self) -> Keyring {
        Keyring::new(self.snapshot_keys.clone())
    }
}

impl KeyStore {
    /// Makes the directory.
    pub(super) fn open(state_dir: &Path) -> Result<Self, KeyStoreError> {
        let store = Self { dir: state_dir.join("identity") };
        for dir in [store.dir.clone(), store.svids()] {
            files::make_dir(&dir, 0o700).map_err(|source| KeyStoreError::Io { path: dir, source })?;
        }
        Ok(store)
    }

    pub(super) fn load_membership(&self) -> Result<Option<Membership>, KeyStoreError> {
        let path = self.dir.join("mesh.json");
        let Some(text) = read(&path)? else { return Ok(None) };
        let saved: Saved = serde_json::from_slice(&text).map_err(|source| KeyStoreError::Membership { path: path.clone(), source })?;
        let roots = pem::read_chain(saved.trust_bundle.as_bytes()).map_err(|source| KeyStoreError::Pem { path: path.clone(), source })?;
        let bundle = TrustBundle::new(saved.trust_domain, roots).map_err(|source| KeyStoreError::Bundle { path, source })?;
        let snapshot_keys = saved.snapshot_keys.into_iter().map(|k| (k.id, k.public_key)).collect();
        Ok(Some(Membership { bundle: Arc::new(bundle), snapshot_keys }))
    }

    pub(super) fn save_membership(&self, m: &Membership) -> Result<(), KeyStoreError> {
        let path = self.dir.join("mesh.json");
        let snapshot_keys = m.snapshot_keys.iter().map(|(id, public_key)| SavedKey { id: id.clone(), public_key: *public_key }).collect();
        let saved = Saved { trust_domain: m.trust_domain().clone(), trust_bundle: pem::bundle(&m.bundle), snapshot_keys };
        let text = serde_json::to_vec_pretty(&saved).map_err(|source| KeyStoreError::Membership { path: path.clone(), source })?;
        files::write_atomic(&path, &text, 0o600).map_err(|source| KeyStoreError::Io { path, source })
    }

    pub(super) fn load_node(&self) -> Result<Option<Svid>, KeyStoreError> {
        load(&self.dir.join("node.pem"))
    }

    pub(super) fn save_node(&self, node: &Svid) -> Result<(), KeyStoreError> {
        save(&self.dir.join("node.pem"), node)
    }

    /// All SVIDs that can be read; another one is reported and left alone.
    pub(super) fn load_svids(&self) -> Result<HashMap<ServiceRef, Svid>, KeyStoreError> {
        let dir = self.svids();
        let mut found = HashMap::new();
        for entry in std::fs::read_dir(&dir).map_err(|source| KeyStoreError::Io { path: dir.clone(), source })?.flatten() {
            let Some(service) = service_of(&entry.path()) else { continue };
            match load(&entry.path()) {
                Ok(Some(svid)) => drop(found.insert(service, svid)),
                Ok(None) => {}
                Err(error) => warn!(%service, error = %Chain(&error), "a saved SVID is not used"),
            }
        }
        Ok(found)
    }

    pub(super) fn save_svid(&self, service: &ServiceRef, svid: &Svid) -> Result<(), KeyStoreError> {
        save(&self.file_of(service), svid)
    }

    pub(super) fn remove_svid(&self, service: &ServiceRef) {
        let _ = std::fs::remove_file(self.file_of(service));
    }

    fn svids(&self) -> PathBuf {
        self.dir.join("svids")
    }

    /// A label has no dot, so the name can be taken apart again.
    fn file_of(&self, service: &ServiceRef) -> PathBuf {
        self.svids().join(format!("{}.{}.pem", service.namespace, service.name))
    }
}

/// An error with its sources, on one line.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut at = self.0.source();
        while let Some(e) = at {
            write!(f, ": {e}")?;
            at = e.source();
        }
        Ok(())
    }
}

fn service_of(path: &Path) -> Option<ServiceRef> {
    let (namespace, name) = path.file_name()?.to_str()?.strip_suffix(".pem")?.split_once('.')?;
    format!("{namespace}/{name}").parse().ok()
}

fn load(path: &Path) -> Result<Option<Svid>, KeyStoreError> {
    let Some(text) = read(path)? else { return Ok(None) };
    pem::read_svid(&zeroize::Zeroizing::new(text)).map(Some).map_err(|source| KeyStoreError::Pem { path: path.to_owned(), source })
}

fn save(path: &Path, svid: &Svid) -> Result<(), KeyStoreError> {
    files::write_atomic(path, pem::svid(svid).as_bytes(), 0o600).map_err(|source| KeyStoreError::Io { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyStoreError> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyStoreError::Io { path: path.to_owned(), source }),
    }
}
