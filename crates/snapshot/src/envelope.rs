//! The signed envelope around a payload. A relay can delay it but never alter it.

use std::fmt;

use aws_lc_rs::{
    digest,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use thiserror::Error;
use weft_types::Revision;

use crate::{
    DecodeError, Snapshot, decode,
    delta::{self, change},
    limits,
    walk::{Value, Walk},
    wire::field,
};

/// Version of a whole payload without a gateway.
pub const SCHEMA_VERSION: u32 = 1;
/// Version of a change whose result is a payload of [`SCHEMA_VERSION`].
pub const DELTA_SCHEMA_VERSION: u32 = 2;
/// Version of a whole payload with a gateway. What a payload holds says which one it is, so every snapshot has one form.
pub const GATEWAY_SCHEMA_VERSION: u32 = 3;
/// Version of a change whose result is a payload of [`GATEWAY_SCHEMA_VERSION`].
pub const GATEWAY_DELTA_SCHEMA_VERSION: u32 = 4;
/// The highest that this program reads; it reads all below too.
pub const HIGHEST_SCHEMA_VERSION: u32 = GATEWAY_DELTA_SCHEMA_VERSION;

/// Versions of envelopes that are complete in themselves.
const WHOLE: [u32; 2] = [SCHEMA_VERSION, GATEWAY_SCHEMA_VERSION];
/// Versions of changes.
const CHANGES: [u32; 2] = [DELTA_SCHEMA_VERSION, GATEWAY_DELTA_SCHEMA_VERSION];

/// Whether an envelope of this version is a complete snapshot that this program reads.
pub fn is_whole(schema_version: u32) -> bool {
    WHOLE.contains(&schema_version)
}

/// First of the signed bytes, so that no signature made for another purpose fits here.
const DOMAIN: &[u8] = b"weft.snapshot.envelope.v1\0";

/// As it travels; a field's meaning holds only after [`Keyring::open`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub schema_version: u32,
    pub revision: Revision,
    /// 0: the payload is complete.
    pub base_revision: Revision,
    pub payload: Vec<u8>,
    pub key_id: String,
    pub signature: Vec<u8>,
}

impl Envelope {
    /// What the signature covers: every other field, each with a fixed size or its length before it (docs/snapshot.md).
    fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DOMAIN.len() + 36 + self.key_id.len() + self.payload.len());
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&self.schema_version.to_be_bytes());
        bytes.extend_from_slice(&self.revision.0.to_be_bytes());
        bytes.extend_from_slice(&self.base_revision.0.to_be_bytes());
        bytes.extend_from_slice(&(self.key_id.len() as u64).to_be_bytes());
        bytes.extend_from_slice(self.key_id.as_bytes());
        bytes.extend_from_slice(&(self.payload.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// The bridge's key for snapshots (Ed25519).
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: String,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("snapshot signing key is no Ed25519 key in PKCS#8")]
pub struct KeyError;

impl SigningKey {
    /// A new key and its PKCS#8 form, which the caller keeps secret.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError)?;
        let pkcs8 = pair.to_pkcs8().map_err(|_| KeyError)?.as_ref().to_vec();
        Ok((Self::from_pkcs8(&pkcs8)?, pkcs8))
    }

    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| KeyError)?;
        let id = key_id(pair.public_key().as_ref());
        Ok(Self { pair, id })
    }

    /// First sixteen hex digits of the public key's SHA-256.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        key
    }

    /// A complete envelope; `revision` must be the payload's own.
    pub fn sign(&self, revision: Revision, payload: Vec<u8>) -> Envelope {
        let mut envelope =
            Envelope { schema_version: schema_of(&payload), revision, base_revision: Revision(0), payload, key_id: self.id.clone(), signature: Vec::new() };
        envelope.signature = self.pair.sign(&envelope.signed_bytes()).as_ref().to_vec();
        envelope
    }

    /// The envelope that turns `base` into `result`, both complete. `None`: it would save nothing worth having, or the key is another one.
    pub fn sign_delta(&self, base: &Envelope, result: &Envelope) -> Option<Envelope> {
        if result.key_id != self.id || base.revision >= result.revision {
            return None;
        }
        let mut payload = Vec::new();
        delta::bytes(&mut payload, change::BASE_DIGEST, digest::digest(&digest::SHA256, &base.payload).as_ref());
        delta::bytes(&mut payload, change::SIGNATURE, &result.signature);
        delta::write_steps(&mut payload, &base.payload, &result.payload).ok()?;
        if payload.len() > result.payload.len() / limits::DELTA_SAVES {
            return None;
        }
        let (revision, base_revision) = (result.revision, base.revision);
        let schema_version = change_to(result.schema_version)?;
        let mut envelope = Envelope { schema_version, revision, base_revision, payload, key_id: self.id.clone(), signature: Vec::new() };
        envelope.signature = self.pair.sign(&envelope.signed_bytes()).as_ref().to_vec();
        Some(envelope)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    #[error("envelope has schema version {0}, which is none that is read here (up to {HIGHEST_SCHEMA_VERSION}): bring agents and bridge to the same release")]
    Schema(u32),
    #[error("envelope of revision {revision} has schema version {schema}, but what it holds is of version {content}")]
    Content { revision: Revision, schema: u32, content: u32 },
    #[error("envelope is signed with key {0}, which this node does not trust")]
    UnknownKey(String),
    #[error("envelope of revision {0} has a signature that does not fit")]
    Signature(Revision),
    #[error("envelope of revision {revision} is a change to revision {base}, not a complete snapshot")]
    Delta { revision: Revision, base: Revision },
    #[error("envelope of revision {revision} is a change to another revision {base} than the one that is held, {held}")]
    Base { revision: Revision, base: Revision, held: Revision },
    #[error("envelope says revision {envelope}, its payload says {payload}")]
    Revision { envelope: Revision, payload: Revision },
    #[error("envelope of revision {0} is too large")]
    TooLarge(Revision),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The keys whose snapshots a node accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<(String, [u8; 32])>,
}

impl Keyring {
    /// Pairs of key id and Ed25519 public key.
    pub fn new(keys: Vec<(String, [u8; 32])>) -> Self {
        Self { keys }
    }

    /// Verifies, then decodes. A change to another revision is [`OpenError::Delta`] here.
    pub fn open(&self, envelope: &Envelope) -> Result<Snapshot, OpenError> {
        self.verify(envelope, WHOLE)?;
        if envelope.base_revision != Revision(0) {
            return Err(OpenError::Delta { revision: envelope.revision, base: envelope.base_revision });
        }
        agreeing(envelope, decode(&envelope.payload)?)
    }

    /// Applies a change to the complete envelope `base`, which says `held`: gives the complete envelope of the new revision, byte for byte as the
    /// bridge signed it, and what it says. The change's signature covers both revisions, the base's digest and, by the signature that it brings,
    /// every byte of the result; so it fits nowhere but on this base, and gives nothing but this result.
    pub fn open_delta(&self, change: &Envelope, base: &Envelope, held: &Snapshot) -> Result<(Envelope, Snapshot), OpenError> {
        self.verify(change, CHANGES)?;
        let (revision, other) = (change.revision, OpenError::Base { revision: change.revision, base: change.base_revision, held: base.revision });
        let (base_digest, signature) = parts(&change.payload)?;
        if change.base_revision != base.revision || digest::digest(&digest::SHA256, &base.payload).as_ref() != base_digest {
            return Err(other);
        }
        let mut patched = delta::patch(&base.payload, &change.payload)?;
        let payload = std::mem::take(&mut patched.payload);
        let (key_id, signature) = (change.key_id.clone(), signature.to_vec());
        // Every version of a change is the next one to its result's.
        let whole = Envelope { schema_version: change.schema_version - 1, revision, base_revision: Revision(0), payload, key_id, signature };
        self.verify(&whole, WHOLE)?;
        let snapshot = agreeing(&whole, patched.read(held)?)?;
        Ok((whole, snapshot))
    }

    fn verify(&self, envelope: &Envelope, known: [u32; 2]) -> Result<(), OpenError> {
        if !known.contains(&envelope.schema_version) {
            return Err(OpenError::Schema(envelope.schema_version));
        }
        if envelope.payload.len() > limits::PAYLOAD_MAX_BYTES || envelope.key_id.len() > limits::KEY_ID_MAX_BYTES {
            return Err(OpenError::TooLarge(envelope.revision));
        }
        let mut candidates = self.keys.iter().filter(|(id, _)| *id == envelope.key_id).peekable();
        if candidates.peek().is_none() {
            return Err(OpenError::UnknownKey(envelope.key_id.clone()));
        }
        let signed = envelope.signed_bytes();
        let fits = candidates.any(|(_, key)| UnparsedPublicKey::new(&ED25519, key).verify(&signed, &envelope.signature).is_ok());
        if fits { Ok(()) } else { Err(OpenError::Signature(envelope.revision)) }
    }
}

fn agreeing(envelope: &Envelope, snapshot: Snapshot) -> Result<Snapshot, OpenError> {
    let content = schema_of(&envelope.payload);
    if content != envelope.schema_version {
        return Err(OpenError::Content { revision: envelope.revision, schema: envelope.schema_version, content });
    }
    if snapshot.revision != envelope.revision {
        return Err(OpenError::Revision { envelope: envelope.revision, payload: snapshot.revision });
    }
    Ok(snapshot)
}

/// The version that a payload's own fields make it.
fn schema_of(payload: &[u8]) -> u32 {
    let beyond = |item: Result<(u32, Value<'_>), _>| item.is_ok_and(|(number, _)| number >= field::GATEWAY);
    if Walk::new(payload).any(beyond) { GATEWAY_SCHEMA_VERSION } else { SCHEMA_VERSION }
}

fn change_to(whole: u32) -> Option<u32> {
    is_whole(whole).then_some(whole + 1)
}

/// The base's digest and the result's signature, with which every change begins.
fn parts(change: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut fields = Walk::new(change);
    match (fields.next(), fields.next()) {
        (Some(Ok((change::BASE_DIGEST, Value::Bytes(digest)))), Some(Ok((change::SIGNATURE, Value::Bytes(signature))))) => Ok((digest, signature)),
        _ => Err(DecodeError::Malformed("a change does not begin with its base's digest and its result's signature".to_owned())),
    }
}

fn key_id(public_key: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, public_key);
    hash.as_ref()[..8].iter().map(|b| format!("{b:02x}")).collect()
}
