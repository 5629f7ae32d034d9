//! Randomness as a parameter: the system's, or what a test says.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

/// Where secrets, identifiers and salts come from.
pub(crate) trait Random: Send {
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The system's.
pub(crate) struct System;

impl Random for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        // aws-lc aborts the process itself when its own source fails; the error is of a shape that never comes.
        SystemRandom::new().fill(bytes).expect("the system has randomness");
    }
}

pub(super) fn bytes<const N: usize>(random: &mut dyn Random) -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    random.fill(bytes.as_mut_slice());
    bytes
}

/// 256 bits as text that stands in URLs, cookies and headers.
pub(super) fn secret(random: &mut dyn Random) -> Zeroizing<String> {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes::<32>(random).as_slice()))
}

/// 128 bits: a name that is never given twice, and no secret.
pub(super) fn id(random: &mut dyn Random) -> String {
    URL_SAFE_NO_PAD.encode(bytes::<16>(random).as_slice())
}
