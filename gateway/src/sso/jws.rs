//! Signed tokens that are no ID tokens: bearer tokens and logout tokens. Which signature is believed, and nothing about what is signed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits;

pub(crate) type Claims = Map<String, Value>;

/// What a provider may sign with: no shared secrets, and never `none`, which the library does not even have a name for.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum JwsError {
    #[error("the token is longer than {} bytes", limits::TOKEN_MAX_BYTES)]
    TooLong,
    #[error("the token is no signed JWT")]
    Malformed,
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    #[error("the token asks for something that is not understood (crit)")]
    Critical,
    #[error("the token is signed with a key that is not known")]
    UnknownKey,
    #[error("the token's signature does not fit")]
    Signature,
}

/// A token whose signature fits.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) typ: Option<String>,
    pub(crate) claims: Claims,
}

/// What a token says before anything is believed: good for choosing whose keys to try, and for nothing else.
pub(crate) fn claimed_issuer(token: &str) -> Result<String, JwsError> {
    if token.len() > limits::TOKEN_MAX_BYTES {
        return Err(JwsError::TooLong);
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [_, payload, _] = parts[..] else { return Err(JwsError::Malformed) };
    let claims: Claims = URL_SAFE_NO_PAD.decode(payload).ok().and_then(|json| serde_json::from_slice(&json).ok()).ok_or(JwsError::Malformed)?;
    claims.get("iss").and_then(Value::as_str).map(str::to_owned).ok_or(JwsError::Malformed)
}

pub(crate) fn verify(token: &str, keys: &[Jwk]) -> Result<Verified, JwsError> {
    if token.len() > limits::TOKEN_MAX_BYTES {
        return Err(JwsError::TooLong);
    }
    let header = decode_header(token).map_err(|_| JwsError::Malformed)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(JwsError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(JwsError::Critical);
    }
    let key = choose(header.alg, header.kid.as_deref(), keys)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| JwsError::UnknownKey)?;
    // Claims are checked by whoever asks, against a clock that is a parameter.
    let mut only_signature = Validation::new(header.alg);
    only_signature.required_spec_claims.clear();
    (only_signature.validate_exp, only_signature.validate_nbf, only_signature.validate_aud) = (false, false, false);
    let decoded = decode::<Claims>(token, &key, &only_signature).map_err(|_| JwsError::Signature)?;
    Ok(Verified { typ: decoded.header.typ, claims: decoded.claims })
}

/// The one key that the token can mean. A key of another kind than the algorithm's is no candidate, whatever the token says.
fn choose<'a>(algorithm: Algorithm, kid: Option<&str>, keys: &'a [Jwk]) -> Result<&'a Jwk, JwsError> {
    let named = |key: &&Jwk| kid.is_none() || key.common.key_id.as_deref() == kid;
    let mut candidates = keys.iter().filter(named).filter(|key| fits(algorithm, key));
    match (candidates.next(), candidates.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(JwsError::UnknownKey),
    }
}

fn fits(algorithm: Algorithm, key: &Jwk) -> bool {
    let kind = match (&key.algorithm, algorithm) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 | Algorithm::PS256 | Algorithm::PS384 | Algorithm::PS512) => true,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => key.curve == EllipticCurve::P384,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let for_signing = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let meant = key.common.key_algorithm.is_none_or(|meant| meant.to_string() == format!("{algorithm:?}"));
    kind && for_signing && meant
}

/// A point in time that a claim names, in Unix seconds. `Err`: it is no number.
pub(crate) fn time(claims: &Claims, name: &str) -> Result<Option<u64>, ()> {
    match claims.get(name) {
        None => Ok(None),
        // A float of seconds is allowed (RFC 7519 section 2, NumericDate); a negative one is before everything.
        Some(value) => value.as_f64().filter(|seconds| seconds.is_finite()).map(|seconds| Some(seconds.max(0.0) as u64)).ok_or(()),
    }
}

/// Whether `aud` names one of these.
pub(crate) fn is_for(claims: &Claims, audiences: &[String]) -> bool {
    let ours = |value: &Value| value.as_str().is_some_and(|audience| audiences.iter().any(|own| own == audience));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(ours),
        Some(value) => ours(value),
        None => false,
    }
}
