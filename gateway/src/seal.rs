//! Sealing of what rests on disk: AES-256-GCM-SIV with random nonces, a ring of keys with overlap, and the key under which persons are indexed.
//!
//! Not here: what is sealed. A sealed value opens only with the context it was sealed with, so that no row can be put in another's place.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey},
    hmac,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use weft_config::private::{PrivateFileError, read_private, write_private};
use zeroize::Zeroizing;

use crate::{
    limits,
    random::{self, NoRandomness},
};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const ID_BYTES: usize = 4;

#[derive(Debug, Error)]
pub enum SealError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error("the sealing key cannot be used")]
    Key,
    #[error("sealed with key {0}, which is not in the key file any more")]
    UnknownKey(u32),
    #[error("a sealed value is damaged, or not what it is taken for")]
    Damaged,
}

/// The keys, newest last. Made by [`KeyRing::open`] on the first start.
pub struct KeyRing {
    path: PathBuf,
    index: hmac::Key,
    keys: Vec<Key>,
}

struct Key {
    id: u32,
    made_at: u64,
    aead: RandomizedNonceKey,
}

/// The file: written whole, mode 0600.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    index: Zeroizing<String>,
    keys: Vec<KeyEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: u32,
    made_at: u64,
    key: Zeroizing<String>,
}

impl KeyRing {
    /// Reads the key file, or makes it. `now` is in Unix seconds.
    pub fn open(path: &Path, now: u64) -> Result<Self, SealError> {
        let file = match read_file(path)? {
            Some(file) => file,
            None => {
                let file = KeyFile { index: secret()?, keys: vec![KeyEntry { id: 1, made_at: now, key: secret()? }] };
                write_file(path, &file)?;
                file
            }
        };
        Self::from_file(path, &file)
    }

    /// Adds a key when the newest has sealed for long enough, and drops those that nothing alive can be sealed with. True if the file changed.
    pub fn rotate(&mut self, now: u64) -> Result<bool, SealError> {
        let newest = self.keys.last().map_or(0, |key| key.made_at);
        if now < newest.saturating_add(limits::SEALING_KEY_LIFE_SECONDS) {
            return Ok(false);
        }
        self.add(now)?;
        Ok(true)
    }

    /// Adds a key at once, such as when the old one may be known.
    pub fn add(&mut self, now: u64) -> Result<(), SealError> {
        let mut file = read_file(&self.path)?.ok_or(SealError::Key)?;
        let id = file.keys.iter().map(|key| key.id).max().unwrap_or(0).checked_add(1).ok_or(SealError::Key)?;
        file.keys.push(KeyEntry { id, made_at: now, key: secret()? });
        // Sealed last when its successor came; what was sealed then has ended by itself after the longest life.
        let successors: Vec<u64> = file.keys.iter().skip(1).map(|key| key.made_at).collect();
        let mut successors = successors.into_iter();
        file.keys.retain(|_| successors.next().is_none_or(|made_at| made_at.saturating_add(limits::SESSION_LIFE_MAX_SECONDS) > now));
        write_file(&self.path, &file)?;
        *self = Self::from_file(&self.path, &file)?;
        Ok(())
    }

    /// The number of the key that seals now.
    pub fn newest(&self) -> u32 {
        self.keys.last().map_or(0, |key| key.id)
    }

    /// `context` must be given again to open.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.last().ok_or(SealError::Key)?;
        let mut sealed = Zeroizing::new(plain.to_vec());
        let nonce = key.aead.seal_in_place_append_tag(Aad::from(context), &mut *sealed).map_err(|_| SealError::Key)?;
        Ok([&key.id.to_be_bytes()[..], &nonce.as_ref()[..], &sealed[..]].concat())
    }

    pub fn open_sealed(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (id, rest) = sealed.split_first_chunk::<ID_BYTES>().ok_or(SealError::Damaged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        let id = u32::from_be_bytes(*id);
        let key = self.keys.iter().find(|key| key.id == id).ok_or(SealError::UnknownKey(id))?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let length = key.aead.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut plain).map_err(|_| SealError::Damaged)?.len();
        plain.truncate(length);
        Ok(plain)
    }

    /// What a person's sessions are found by: it says nothing of the person to whoever has the database without the key file. It never rotates.
    pub fn index(&self, parts: &[&str]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.index);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    fn from_file(path: &Path, file: &KeyFile) -> Result<Self, SealError> {
        let content = || PrivateFileError::Content { path: path.to_owned(), what: "keys of the gateway", way_out: limits::KEYS_WAY_OUT };
        let mut keys = Vec::new();
        for entry in &file.keys {
            let aead = RandomizedNonceKey::new(&AES_256_GCM_SIV, decode(&entry.key).ok_or_else(content)?.as_ref()).map_err(|_| SealError::Key)?;
            keys.push(Key { id: entry.id, made_at: entry.made_at, aead });
        }
        if keys.is_empty() {
            return Err(content().into());
        }
        let index = hmac::Key::new(hmac::HMAC_SHA256, decode(&file.index).ok_or_else(content)?.as_ref());
        Ok(Self { path: path.to_owned(), index, keys })
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<u32> = self.keys.iter().map(|key| key.id).collect();
        f.debug_struct("KeyRing").field("path", &self.path).field("keys", &ids).finish_non_exhaustive()
    }
}

fn read_file(path: &Path) -> Result<Option<KeyFile>, SealError> {
    let Some(content) = read_private(path, limits::KEY_FILE_MAX_BYTES)? else { return Ok(None) };
    let file = serde_json::from_slice(&content).map_err(|_| PrivateFileError::Content {
        path: path.to_owned(),
        what: "keys of the gateway",
        way_out: limits::KEYS_WAY_OUT,
    })?;
    Ok(Some(file))
}

fn write_file(path: &Path, file: &KeyFile) -> Result<(), SealError> {
    let text = Zeroizing::new(serde_json::to_vec(file).map_err(|_| SealError::Key)?);
    Ok(write_private(path, &text)?)
}

fn secret() -> Result<Zeroizing<String>, NoRandomness> {
    let key = Zeroizing::new(random::bytes::<KEY_BYTES>()?);
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(key.as_ref())))
}

fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
    (bytes.len() == KEY_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const DAY: u64 = 24 * 3600;

    #[test]
    fn the_file_is_private_and_a_value_opens_in_its_context_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let ring = KeyRing::open(&path, 0).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let sealed = ring.seal(b"row 1", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        let again = KeyRing::open(&path, 9).unwrap();
        assert_eq!(again.open_sealed(b"row 1", &sealed).unwrap().as_slice(), b"secret");
        assert!(matches!(again.open_sealed(b"row 2", &sealed), Err(SealError::Damaged)));
        for at in [0, 5, sealed.len() - 1] {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert!(again.open_sealed(b"row 1", &broken).is_err(), "{at}");
        }
        assert!(again.open_sealed(b"row 1", &sealed[..9]).is_err());
        assert!(!format!("{ring:?}").contains("key\":"));
    }

    #[test]
    fn keys_rotate_with_an_overlap_of_the_longest_life() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let mut ring = KeyRing::open(&path, 0).unwrap();
        let old = ring.seal(b"", b"x").unwrap();
        let index = ring.index(&["a", "b"]);
        assert!(!ring.rotate(30 * DAY - 1).unwrap());
        assert!(ring.rotate(30 * DAY).unwrap());
        assert_eq!(ring.newest(), 2);
        assert!(ring.open_sealed(b"", &old).is_ok(), "what the key before sealed still opens");
        assert_eq!(ring.seal(b"", b"x").unwrap()[..4], [0, 0, 0, 2]);
        assert!(ring.rotate(60 * DAY).unwrap());
        assert!(matches!(ring.open_sealed(b"", &old), Err(SealError::UnknownKey(1))));
        let ring = KeyRing::open(&path, 60 * DAY).unwrap();
        assert_eq!(ring.newest(), 3);
        assert_eq!(ring.index(&["a", "b"]), index, "persons are found across rotations");
        assert_ne!(ring.index(&["ab", ""]), index);
    }

    #[test]
    fn a_damaged_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        write_private(&path, b"{}").unwrap();
        let error = KeyRing::open(&path, 0).unwrap_err().to_string();
        assert!(error.contains("cannot be read as keys of the gateway"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
    }
}
