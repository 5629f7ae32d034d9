//! The keys of assertions: made on the first start, published before they sign, and kept for as long as somebody may check with them.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use weft_config::private::{PrivateFileError, read_private, write_private};
use zeroize::Zeroizing;

use crate::{
    assertion::{About, Claims},
    limits,
    sso::Answer,
};

#[derive(Debug, Error)]
pub enum AssertionError {
    #[error(transparent)]
    File(#[from] PrivateFileError),
    #[error("a key for assertions cannot be made")]
    Make,
    #[error("the key for assertions cannot be used")]
    Use,
}

/// Signs assertions.
pub struct Assertions {
    path: PathBuf,
    issuer: String,
    keys: Mutex<Vec<Arc<Key>>>,
}

struct Key {
    made_at: u64,
    /// The protected header, encoded.
    header: String,
    pair: EcdsaKeyPair,
    public: Value,
    pkcs8: Zeroizing<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    made_at: u64,
    pkcs8: Zeroizing<String>,
}

impl Assertions {
    /// Reads the key file, or makes it. `issuer` is the auth host's origin, such as `https://portal.apps.corp.example`; `now` is in Unix seconds.
    pub fn open(path: &Path, issuer: String, now: u64) -> Result<Self, AssertionError> {
        let mut keys = Vec::new();
        if let Some(content) = read_private(path, limits::KEY_FILE_MAX_BYTES)? {
            let wrong = || PrivateFileError::Content { path: path.to_owned(), what: "keys of assertions", way_out: limits::KEYS_WAY_OUT };
            let entries: Vec<Entry> = serde_json::from_slice(&content).map_err(|_| wrong())?;
            for Entry { made_at, pkcs8 } in entries {
                let pkcs8 = Zeroizing::new(URL_SAFE_NO_PAD.decode(pkcs8.as_bytes()).map_err(|_| wrong())?);
                keys.push(Arc::new(Key::read(pkcs8, made_at)?));
            }
        }
        let fresh = keys.is_empty();
        if fresh {
            keys.push(Arc::new(Key::make(now)?));
        }
        let assertions = Self { path: path.to_owned(), issuer, keys: Mutex::new(keys) };
        if fresh {
            assertions.write(&assertions.lock())?;
        }
        Ok(assertions)
    }

    /// Makes the next key when it is time, and drops those that nothing valid is signed with. True if something changed. To be called now and then.
    pub fn rotate(&self, now: u64) -> Result<bool, AssertionError> {
        let mut keys = self.lock();
        let before = keys.len();
        let due = keys.last().is_none_or(|key| now >= key.made_at.saturating_add(limits::ASSERTION_KEY_LIFE_SECONDS));
        if due {
            keys.push(Arc::new(Key::make(now)?));
        }
        // A key signs until its successor is old enough; what it signed last is valid for a minute more, on a clock that may be behind.
        let overlap = limits::ASSERTION_KEY_AHEAD_SECONDS + limits::ASSERTION_SECONDS + limits::LEEWAY_SECONDS;
        let gone = keys.iter().skip(1).take_while(|successor| now >= successor.made_at.saturating_add(overlap)).count();
        keys.drain(..gone);
        let changed = due || keys.len() != before;
        if changed {
            self.write(&keys)?;
        }
        Ok(changed)
    }

    /// The public keys (RFC 7517 section 5), the coming one included.
    pub fn jwks(&self) -> Value {
        json!({"keys": self.lock().iter().map(|key| key.public.clone()).collect::<Vec<_>>()})
    }

    /// The answer to `/.weft/jwks.json`. It may be kept for less than a new key waits.
    pub fn jwks_answer(&self) -> Answer {
        let mut answer = Answer::new(Bytes::from(self.jwks().to_string()));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        answer
    }

    /// The header's value for one request.
    pub fn sign(&self, about: &About<'_>, now: u64) -> Result<HeaderValue, AssertionError> {
        let person = &about.who.person;
        let mut claims = Claims {
            iss: &self.issuer,
            aud: about.audience.to_string(),
            iat: now,
            exp: now.saturating_add(limits::ASSERTION_SECONDS),
            sub: &person.subject,
            idp: &person.provider,
            user: &person.user,
            email: person.email.as_deref(),
            name: person.name.as_deref(),
            groups: &[],
            groups_left_out: None,
            sid: about.who.session.as_ref().map(|session| session.public_hash()),
            flow: about.flow.to_string(),
        };
        let kept = fitting(&claims, &person.groups)?;
        claims.groups = &person.groups[..kept];
        claims.groups_left_out = Some(person.groups.len() - kept).filter(|count| *count > 0);
        let key = signer(&self.lock(), now).map(Arc::clone).ok_or(AssertionError::Use)?;
        let mut value = HeaderValue::try_from(key.sign(&claims)?).map_err(|_| AssertionError::Use)?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn write(&self, keys: &[Arc<Key>]) -> Result<(), AssertionError> {
        let entries: Vec<Entry> =
            keys.iter().map(|key| Entry { made_at: key.made_at, pkcs8: Zeroizing::new(URL_SAFE_NO_PAD.encode(key.pkcs8.as_slice())) }).collect();
        let text = Zeroizing::new(serde_json::to_vec(&entries).map_err(|_| AssertionError::Use)?);
        Ok(write_private(&self.path, &text)?)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Key>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newest that has been published for long enough; the very first need not wait.
fn signer(keys: &[Arc<Key>], now: u64) -> Option<&Arc<Key>> {
    keys.iter().rev().find(|key| now >= key.made_at.saturating_add(limits::ASSERTION_KEY_AHEAD_SECONDS)).or(keys.first())
}

/// How many groups fit below [`limits::ASSERTION_MAX_BYTES`], of which base64 takes a quarter and header and signature some.
fn fitting(claims: &Claims<'_>, groups: &[String]) -> Result<usize, AssertionError> {
    let length = |value: Result<String, serde_json::Error>| value.map(|text| text.len()).map_err(|_| AssertionError::Use);
    let mut left = (limits::ASSERTION_MAX_BYTES * 3 / 4).saturating_sub(256 + length(serde_json::to_string(claims))?);
    for (count, group) in groups.iter().enumerate() {
        let Some(rest) = left.checked_sub(1 + length(serde_json::to_string(group))?) else { return Ok(count) };
        left = rest;
    }
    Ok(groups.len())
}

impl Key {
    fn make(now: u64) -> Result<Self, AssertionError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(|_| AssertionError::Make)?;
        Self::read(Zeroizing::new(pkcs8.as_ref().to_vec()), now)
    }

    fn read(pkcs8: Zeroizing<Vec<u8>>, made_at: u64) -> Result<Self, AssertionError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| AssertionError::Use)?;
        // An uncompressed point: a tag, x, y (SEC 1 section 2.3.3).
        let point = pair.public_key().as_ref();
        let (Some(x), Some(y)) = (point.get(1..33), point.get(33..65)) else { return Err(AssertionError::Use) };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 section 3.
        let print = digest::digest(&digest::SHA256, format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes());
        let kid = URL_SAFE_NO_PAD.encode(print.as_ref());
        let public = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "alg": "ES256", "use": "sig"});
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "typ": "JWT", "kid": kid}).to_string());
        Ok(Self { made_at, header, pair, public, pkcs8 })
    }

    /// JWS compact serialization (RFC 7515 section 7.1). The key is read once, not at every request: that would cost more than signing.
    fn sign(&self, claims: &Claims<'_>) -> Result<String, AssertionError> {
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).map_err(|_| AssertionError::Use)?));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| AssertionError::Use)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertions").field("path", &self.path).field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};

    use super::*;
    use crate::sso::{Identified, Person};

    const DAY: u64 = 24 * 3600;

    fn who(groups: Vec<String>) -> Identified {
        let person = Person { provider: "corp".into(), subject: "17".into(), user: "alice".into(), email: Some("a@x".into()), name: None, groups };
        Identified { person, session: None, until: None, set_cookie: None }
    }

    fn check(assertions: &Assertions, token: &HeaderValue, audience: &str) -> Result<Value, String> {
        let keys: JwkSet = serde_json::from_value(assertions.jwks()).unwrap();
        let kid = decode_header(token).unwrap().kid.unwrap();
        let key = keys.find(&kid).ok_or("no such key")?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        validation.set_issuer(&["https://portal.x"]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        // Time is checked by the tests themselves.
        validation.validate_exp = false;
        decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).map(|data| data.claims).map_err(|e| e.to_string())
    }

    fn sign(assertions: &Assertions, who: &Identified, now: u64) -> HeaderValue {
        let audience: weft_types::ServiceRef = "shop/orders".parse().unwrap();
        assertions.sign(&About { who, audience: &audience, flow: weft_types::FlowId(7) }, now).unwrap()
    }

    #[test]
    fn an_application_believes_what_is_for_itself_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let assertions = Assertions::open(&path, "https://portal.x".to_owned(), 1000).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let token = sign(&assertions, &who(vec!["sales".into()]), 1000);
        assert!(token.is_sensitive());
        let claims = check(&assertions, &token, "shop/orders").unwrap();
        let expect = json!({"iss": "https://portal.x", "aud": "shop/orders", "iat": 1000, "exp": 1060, "sub": "17", "idp": "corp", "user": "alice",
            "email": "a@x", "groups": ["sales"], "flow": "0000000000000007"});
        assert_eq!(claims, expect);
        assert!(check(&assertions, &token, "shop/stock").is_err());
        let other = Assertions::open(&dir.path().join("other"), "https://portal.x".to_owned(), 1000).unwrap();
        assert_eq!(check(&other, &token, "shop/orders"), Err("no such key".to_owned()));
        // The same keys after a restart.
        let again = Assertions::open(&path, "https://portal.x".to_owned(), 2000).unwrap();
        assert!(check(&again, &token, "shop/orders").is_ok());
    }

    #[test]
    fn keys_are_published_before_they_sign_and_after() {
        let dir = tempfile::tempdir().unwrap();
        let assertions = Assertions::open(&dir.path().join("keys"), "https://portal.x".to_owned(), 0).unwrap();
        let kid = |now| decode_header(sign(&assertions, &who(vec![]), now)).unwrap().kid.unwrap();
        let first = kid(0);
        assert!(!assertions.rotate(30 * DAY - 1).unwrap());
        assert!(assertions.rotate(30 * DAY).unwrap());
        assert_eq!(assertions.jwks()["keys"].as_array().unwrap().len(), 2);
        assert_eq!(kid(30 * DAY + 599), first, "the new key is known to applications before it signs");
        let last_of_first = sign(&assertions, &who(vec![]), 30 * DAY + 599);
        assert_ne!(kid(30 * DAY + 600), first);
        assert!(!assertions.rotate(30 * DAY + 719).unwrap());
        assert!(check(&assertions, &last_of_first, "shop/orders").is_ok(), "what the old key signed last can be checked for as long as it is valid");
        assert!(assertions.rotate(30 * DAY + 720).unwrap());
        assert_eq!(assertions.jwks()["keys"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn an_assertion_is_short_and_says_what_it_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let assertions = Assertions::open(&dir.path().join("keys"), "https://portal.x".to_owned(), 0).unwrap();
        let groups: Vec<String> = (0..1000).map(|n| format!("a-group-with-a-name-{n:04}")).collect();
        let token = sign(&assertions, &who(groups), 0);
        assert!(token.len() <= limits::ASSERTION_MAX_BYTES, "{}", token.len());
        let claims = check(&assertions, &token, "shop/orders").unwrap();
        let kept = claims["groups"].as_array().unwrap().len();
        assert!(kept > 100);
        assert_eq!(claims["groups_left_out"], 1000 - kept);
    }
}
