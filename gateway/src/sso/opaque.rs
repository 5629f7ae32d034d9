//! Opaque 256-bit secrets: tickets, codes, and what binds a sign-in to a browser. Whoever keeps one keeps its hash only.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::random::{self, NoRandomness};

/// Characters of a secret as it is handed out.
pub(crate) const OPAQUE_CHARS: usize = 43;

/// A secret: [`Opaque::reveal`] alone shows it.
#[derive(Clone)]
pub(crate) struct Opaque(Zeroizing<[u8; 32]>);

/// What is kept of a secret, and looked up by: with 256 random bits in it, nothing can be learned from how long a look-up takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OpaqueHash(pub(crate) [u8; 32]);

impl Opaque {
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        Ok(Self(Zeroizing::new(random::bytes()?)))
    }

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != OPAQUE_CHARS {
            return None;
        }
        let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        Some(Self(Zeroizing::new(decoded.as_slice().try_into().ok()?)))
    }

    pub(crate) fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.as_ref()))
    }

    pub(crate) fn hash(&self) -> OpaqueHash {
        OpaqueHash::of(self.0.as_ref())
    }
}

impl OpaqueHash {
    fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(out)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        (text.len() == OPAQUE_CHARS).then(|| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self))?
    }

    /// Whether a secret is the one, in constant time.
    pub(crate) fn is_of(&self, secret: &Opaque) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &secret.hash().0).is_ok()
    }

    pub(crate) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opaque(…)")
    }
}

impl fmt::Debug for OpaqueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpaqueHash({}…)", &self.text()[..6])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_survives_the_copy_and_shows_nothing_by_itself() {
        let secret = Opaque::generate().unwrap();
        let text = secret.reveal();
        assert_eq!(text.len(), OPAQUE_CHARS);
        assert_eq!(Opaque::parse(text.as_bytes()).unwrap().hash(), secret.hash());
        assert_eq!(OpaqueHash::parse(&secret.hash().text()), Some(secret.hash()));
        assert!(!format!("{secret:?}").contains(text.as_str()));
        for bad in ["", &text[1..], &format!("{}=", text.as_str()), &"!".repeat(43)] {
            assert!(Opaque::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let other = Opaque::generate().unwrap();
        assert!(secret.hash().is_of(&secret) && !secret.hash().is_of(&other));
    }
}
