//! JSON Web Tokens, ES256 alone (RFC 7515, RFC 7518 section 3.4). A token that names another algorithm is none of ours.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::limits::provider as limits;

/// What a token is for (RFC 8725 section 3.11): one kind never passes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// OpenID Connect Core 1.0 section 2.
    Id,
    /// RFC 9068.
    Access,
    /// OpenID Connect Back-Channel Logout 1.0 section 2.4.
    Logout,
}

/// A key of P-256 and the name that its public half gives it.
pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    kid: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

impl Kind {
    fn typ(self) -> &'static str {
        match self {
            Self::Id => "JWT",
            Self::Access => "at+jwt",
            Self::Logout => "logout+jwt",
        }
    }
}

impl SigningKey {
    /// `None`: these bytes are no key of P-256 in PKCS#8.
    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        let (x, y) = coordinates(&pair)?;
        // RFC 7638 section 3.2: these members, in this order, without blanks.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = B64.encode(super::sha256(members.as_bytes()));
        Some(Self { pair, kid })
    }

    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half, as RFC 7517 writes it.
    pub(super) fn jwk(&self) -> Value {
        let (x, y) = coordinates(&self.pair).unwrap_or_default();
        json!({ "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256", "kid": self.kid, "x": x, "y": y })
    }

    pub(super) fn sign(&self, kind: Kind, claims: &Value) -> String {
        self.sign_under(&Header { alg: "ES256".to_owned(), typ: kind.typ().to_owned(), kid: self.kid.clone() }, claims)
    }

    fn sign_under(&self, header: &Header, claims: &Value) -> String {
        let header = serde_json::to_vec(header).expect("strings");
        let mut token = format!("{}.{}", B64.encode(header), B64.encode(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).expect("the system has randomness");
        token.push('.');
        B64.encode_string(signature.as_ref(), &mut token);
        token
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref()).verify(signed, signature).is_ok()
    }
}

/// The claims of a token of this kind that one of these keys has signed. Whether they are still true is the caller's question.
pub(super) fn open<'k, C: DeserializeOwned>(kind: Kind, token: &str, keys: impl Iterator<Item = &'k SigningKey>) -> Option<C> {
    if token.len() > limits::JWT_MAX_BYTES {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&B64.decode(header).ok()?).ok()?;
    if header.alg != "ES256" || header.typ != kind.typ() {
        return None;
    }
    let signature = B64.decode(signature).ok()?;
    keys.into_iter().find(|k| k.kid == header.kid).filter(|k| k.verifies(signed.as_bytes(), &signature))?;
    serde_json::from_slice(&B64.decode(claims).ok()?).ok()
}

/// The public point without its first byte, which says that it is not compressed (SEC 1 section 2.3.3).
fn coordinates(pair: &EcdsaKeyPair) -> Option<(String, String)> {
    let point = pair.public_key().as_ref();
    (point.len() == 65 && point[0] == 4).then(|| (B64.encode(&point[1..33]), B64.encode(&point[33..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        SigningKey::from_pkcs8(pkcs8.as_ref()).unwrap()
    }

    fn opens(kind: Kind, token: &str, key: &SigningKey) -> bool {
        open::<Value>(kind, token, [key].into_iter()).is_some()
    }

    #[test]
    fn a_token_opens_as_what_it_is_and_with_its_own_key_only() {
        let (ours, other) = (key(), key());
        let token = ours.sign(Kind::Id, &json!({ "sub": "a" }));
        assert_eq!(open::<Value>(Kind::Id, &token, [&other, &ours].into_iter()), Some(json!({ "sub": "a" })));
        assert!(!opens(Kind::Access, &token, &ours), "another kind");
        assert!(!opens(Kind::Id, &token, &other), "another key");
        let pretends = SigningKey { pair: other.pair, kid: ours.kid.clone() };
        assert!(!opens(Kind::Id, &pretends.sign(Kind::Id, &json!({})), &ours), "another key of the same name");
    }

    #[test]
    fn a_changed_token_and_another_algorithm_are_refused() {
        let key = key();
        let token = key.sign(Kind::Id, &json!({ "sub": "a" }));
        let [header, claims, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let signed = |alg: &str| key.sign_under(&Header { alg: alg.into(), typ: "JWT".into(), kid: key.kid.clone() }, &json!({ "sub": "a" }));
        assert!(opens(Kind::Id, &signed("ES256"), &key), "the control");
        let none = signed("none");
        assert!(opens(Kind::Id, &format!("{header}.{claims}.{signature}"), &key));
        let forged = B64.encode(r#"{"sub":"b"}"#);
        for (what, wrong) in [
            ("other claims", format!("{header}.{forged}.{signature}")),
            ("no signature", format!("{header}.{claims}.")),
            ("none", signed("none")),
            ("none, and no signature", none[..=none.rfind('.').unwrap()].to_owned()),
            ("HS256", signed("HS256")),
            ("two parts", format!("{header}.{claims}")),
            ("four parts", format!("{header}.{claims}.{signature}.x")),
            ("too long", format!("{header}.{claims}.{}", "A".repeat(limits::JWT_MAX_BYTES))),
        ] {
            assert!(!opens(Kind::Id, &wrong, &key), "{what}");
        }
    }

    #[test]
    fn a_key_is_named_after_itself() {
        let key = key();
        let jwk = key.jwk();
        assert_eq!((jwk["kid"].as_str(), jwk["alg"].as_str(), jwk.get("d")), (Some(key.kid()), Some("ES256"), None));
        assert_eq!(key.kid().len(), 43);
    }
}
