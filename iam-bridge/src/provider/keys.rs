//! The keys that tokens are signed with: made on first start, replaced while both are published, kept in the state directory for the bridge alone.

use std::{path::PathBuf, time::SystemTime};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::info;
use zeroize::Zeroizing;

use super::{
    jwt::SigningKey,
    random::{Random, bytes},
    seconds, unix,
};
use crate::{
    files::{FileError, StateDir, write_secret},
    keys::pem,
    limits::provider as limits,
};

/// Blocks of PEM, oldest first, each behind a line that says when the key was made.
const KEYS: &str = "provider-keys.pem";
/// What refresh tokens are sealed with.
const REFRESH: &str = "provider-refresh.key";
const MADE: &str = "made ";

#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} holds no keys that can be read: restore it, or move it away to make new ones, which ends every login")]
    Content(PathBuf),
}

/// All keys that are published.
pub(super) struct KeyRing {
    path: PathBuf,
    keys: Vec<Entry>,
}

struct Entry {
    key: SigningKey,
    pkcs8: Zeroizing<Vec<u8>>,
    /// Unix seconds.
    made: i64,
}

impl KeyRing {
    pub(super) fn open(state: &StateDir, now: SystemTime) -> Result<Self, KeyError> {
        let path = state.file(KEYS);
        let keys = match state.read_secret(KEYS)? {
            None => vec![],
            Some(text) => read(&text).ok_or_else(|| KeyError::Content(path.clone()))?,
        };
        let mut ring = Self { path, keys };
        ring.turn(now)?;
        Ok(ring)
    }

    /// Makes the next key when it is time, and forgets those that nothing valid was signed with. To be called often; it mostly does nothing.
    pub(super) fn turn(&mut self, now: SystemTime) -> Result<(), FileError> {
        let now = unix(now);
        let (life, overlap) = (seconds(limits::KEY_LIFE), seconds(limits::KEY_OVERLAP));
        let due = self.keys.last().is_none_or(|newest| now >= newest.made.saturating_add(life));
        let gone = self.signer_at(now).and_then(|signing| {
            // One that was followed long enough ago, and everything before it.
            let since = self.keys[signing].made.saturating_add(overlap);
            (signing > 0 && now >= since.saturating_add(overlap)).then_some(signing)
        });
        if !due && gone.is_none() {
            return Ok(());
        }
        let fresh = due.then(|| Entry::generate(now));
        let kept = self.keys.iter().skip(gone.unwrap_or(0)).chain(&fresh);
        write_secret(&self.path, write(kept).as_bytes())?;
        self.keys.drain(..gone.unwrap_or(0));
        if let Some(fresh) = fresh {
            info!(target: "weft_audit", event = "provider-key", kid = fresh.key.kid(), "the provider has a new key");
            self.keys.push(fresh);
        }
        Ok(())
    }

    /// The key to sign with now: the newest that everybody has had time to learn.
    pub(super) fn signer(&self, now: SystemTime) -> &SigningKey {
        &self.keys[self.signer_at(unix(now)).unwrap_or(0)].key
    }

    /// Every key that a token may be signed with.
    pub(super) fn all(&self) -> impl Iterator<Item = &SigningKey> {
        self.keys.iter().map(|e| &e.key)
    }

    /// RFC 7517 section 5.
    pub(super) fn jwks(&self) -> Value {
        json!({ "keys": self.all().map(SigningKey::jwk).collect::<Vec<_>>() })
    }

    fn signer_at(&self, now: i64) -> Option<usize> {
        let learnt = |e: &Entry| now >= e.made.saturating_add(seconds(limits::KEY_OVERLAP));
        self.keys.iter().rposition(learnt).or((!self.keys.is_empty()).then_some(0))
    }
}

impl Entry {
    fn generate(made: i64) -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("the system has randomness");
        Self::load(Zeroizing::new(pkcs8.as_ref().to_vec()), made).expect("a key that was just made")
    }

    fn load(pkcs8: Zeroizing<Vec<u8>>, made: i64) -> Option<Self> {
        Some(Self { key: SigningKey::from_pkcs8(&pkcs8)?, pkcs8, made })
    }
}

/// Loads what refresh tokens are sealed with, or makes it.
pub(super) fn refresh_key(state: &StateDir, random: &mut dyn Random) -> Result<hmac::Key, KeyError> {
    let secret = match state.read_secret(REFRESH)? {
        Some(text) => Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default()),
        None => {
            let fresh = bytes::<32>(random);
            state.write_secret(REFRESH, Zeroizing::new(STANDARD.encode(fresh.as_slice())).as_bytes())?;
            Zeroizing::new(fresh.to_vec())
        }
    };
    if secret.len() != 32 {
        return Err(KeyError::Content(state.file(REFRESH)));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &secret))
}

fn read(text: &str) -> Option<Vec<Entry>> {
    let mut keys = Vec::new();
    for part in text.split(MADE).skip(1) {
        let (made, block) = part.split_once('\n')?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(block.as_bytes()).ok()?;
        keys.push(Entry::load(Zeroizing::new(key.secret_pkcs8_der().to_vec()), made.trim().parse().ok()?)?);
    }
    (!keys.is_empty()).then_some(keys)
}

fn write<'e>(keys: impl Iterator<Item = &'e Entry>) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::new());
    for entry in keys {
        text.push_str(&format!("{MADE}{}\n", entry.made));
        text.push_str(&pem("PRIVATE KEY", &entry.pkcs8));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt as _,
        time::{Duration, UNIX_EPOCH},
    };

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn kids(ring: &KeyRing) -> Vec<String> {
        ring.all().map(|k| k.kid().to_owned()).collect()
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let mut ring = KeyRing::open(&state, start).unwrap();
        let first = kids(&ring)[0].clone();
        assert_eq!(ring.signer(start).kid(), first, "the first signs at once");
        let mut seen = Vec::new();
        for day in 0..=95 {
            let now = start + DAY * day;
            ring.turn(now).unwrap();
            seen.push((kids(&ring).len(), ring.signer(now).kid() == first));
            // A restart on any day changes nothing.
            assert_eq!(kids(&KeyRing::open(&state, now).unwrap()), kids(&ring), "day {day}");
        }
        assert_eq!(seen[89], (1, true));
        assert_eq!(seen[90], (2, true), "the next is published, the first still signs");
        assert_eq!(seen[91], (2, false), "the next signs, the first is still published");
        assert_eq!(seen[92], (1, false), "and is forgotten");
        assert!(!kids(&ring).contains(&first));
    }

    #[test]
    fn keys_are_for_the_bridge_alone_and_broken_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let now = SystemTime::now();
        drop(KeyRing::open(&state, now).unwrap());
        refresh_key(&state, &mut super::super::random::System).unwrap();
        for name in [KEYS, REFRESH] {
            assert_eq!(std::fs::metadata(state.file(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
        state.write_secret(KEYS, b"made 1\nno key\n").unwrap();
        assert!(matches!(KeyRing::open(&state, now), Err(KeyError::Content(_))));
        state.write_secret(REFRESH, b"short").unwrap();
        assert!(matches!(refresh_key(&state, &mut super::super::random::System), Err(KeyError::Content(_))));
    }

    #[test]
    fn the_same_key_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let seal = || hmac::sign(&refresh_key(&state, &mut super::super::random::System).unwrap(), b"x").as_ref().to_vec();
        assert_eq!(seal(), seal());
    }
}
