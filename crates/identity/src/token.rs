//! Join tokens: `weft-join-v1.<id>.<secret>.<SHA-256 of the CA>`. The bridge keeps only the hash of the secret; the last part lets a node know the right
//! bridge before it says anything.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{ca::hex, limits};

const VERSION: &str = "weft-join-v1";
const ID_BYTES: usize = 8;

/// A secret: [`JoinToken::reveal`] alone shows it.
#[derive(Clone)]
pub struct JoinToken {
    /// Sixteen hex digits; no secret.
    pub id: String,
    pub ca_sha256: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
}

/// What the bridge keeps of a token's secret.
#[derive(Clone, Copy, Debug)]
pub struct TokenSecretHash(pub [u8; 32]);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    #[error("join token does not start with {VERSION}: make one with `weft-iam-bridge token create`")]
    Version,
    #[error("join token is incomplete or damaged: copy it whole")]
    Damaged,
    #[error("the system gives no randomness")]
    Randomness,
}

impl JoinToken {
    /// A new token for the mesh whose CA has this fingerprint.
    pub fn generate(ca_sha256: [u8; 32]) -> Result<Self, TokenError> {
        let (mut id, mut secret) = ([0; ID_BYTES], Zeroizing::new([0; 32]));
        aws_lc_rs::rand::fill(&mut id).map_err(|_| TokenError::Randomness)?;
        aws_lc_rs::rand::fill(secret.as_mut()).map_err(|_| TokenError::Randomness)?;
        Ok(Self { id: hex(&id), ca_sha256, secret })
    }

    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > limits::TOKEN_MAX_BYTES {
            return Err(TokenError::Damaged);
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts[0] != VERSION {
            return Err(TokenError::Version);
        }
        let [_, id, secret, ca] = parts[..] else { return Err(TokenError::Damaged) };
        unhex::<ID_BYTES>(id).ok_or(TokenError::Damaged)?;
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).map_err(|_| TokenError::Damaged)?);
        let mut secret = Zeroizing::new([0; 32]);
        if decoded.len() != secret.len() {
            return Err(TokenError::Damaged);
        }
        secret.copy_from_slice(&decoded);
        Ok(Self { id: id.to_owned(), ca_sha256: unhex(ca).ok_or(TokenError::Damaged)?, secret })
    }

    /// The token as it is handed out.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{VERSION}.{}.{}.{}", self.id, URL_SAFE_NO_PAD.encode(self.secret.as_ref()), hex(&self.ca_sha256)))
    }

    pub fn secret_hash(&self) -> TokenSecretHash {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"weft.join-token.v1\0");
        hash.update(self.secret.as_ref());
        let mut out = [0; 32];
        out.copy_from_slice(hash.finish().as_ref());
        TokenSecretHash(out)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PartialEq for TokenSecretHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TokenSecretHash {}

/// Lower-case hex of exactly `N` bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if bytes.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_copy_and_shows_nothing_by_itself() {
        let token = JoinToken::generate([7; 32]).unwrap();
        let text = token.reveal();
        let again = JoinToken::parse(&format!("  {}\n", *text)).unwrap();
        assert_eq!((&again.id, again.ca_sha256), (&token.id, [7; 32]));
        assert_eq!(again.secret_hash(), token.secret_hash());
        assert_ne!(JoinToken::generate([7; 32]).unwrap().secret_hash(), token.secret_hash());
        let secret = text.split('.').nth(2).unwrap();
        assert!(!format!("{token:?}").contains(secret));
    }

    #[test]
    fn damaged_tokens_are_told_from_foreign_ones() {
        let text = JoinToken::generate([7; 32]).unwrap().reveal();
        assert_eq!(JoinToken::parse("").unwrap_err(), TokenError::Version);
        assert_eq!(JoinToken::parse(&text.replace("v1", "v9")).unwrap_err(), TokenError::Version);
        for cut in [20, 40, text.len() - 1] {
            assert_eq!(JoinToken::parse(&text[..cut]).unwrap_err(), TokenError::Damaged, "{cut}");
        }
        assert_eq!(JoinToken::parse(&format!("{}.x", *text)).unwrap_err(), TokenError::Damaged);
        assert_eq!(JoinToken::parse(&format!("{VERSION}.{}", "é".repeat(200))).unwrap_err(), TokenError::Damaged);
    }
}
