//! Passwords: what is kept of one, what one costs to look at, and making one. None is ever kept, logged or shown by `Debug`.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use thiserror::Error;
use zeroize::Zeroizing;

use super::random::{Random, bytes};
use crate::limits::provider as limits;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Without the characters that look alike: 32 of them, five bits each.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Four groups of five: 100 bits.
const GENERATED_CHARS: usize = 20;

/// A password as somebody typed it.
#[derive(Clone)]
pub(crate) struct Password(Zeroizing<String>);

/// What is kept of a password: argon2id (RFC 9106), with what it cost when it was set.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) salt: [u8; SALT_BYTES],
    pub(crate) hash: [u8; HASH_BYTES],
    pub(crate) cost: Cost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum PasswordError {
    #[error("a password has at least {} characters and at most {} bytes", limits::PASSWORD_MIN_CHARS, limits::PASSWORD_MAX_BYTES)]
    Length,
    #[error("a password has no control characters: it could not be typed again")]
    Control,
}

impl Password {
    /// One that may be set.
    pub(crate) fn new(text: Zeroizing<String>) -> Result<Self, PasswordError> {
        if text.len() > limits::PASSWORD_MAX_BYTES || text.chars().count() < limits::PASSWORD_MIN_CHARS {
            return Err(PasswordError::Length);
        }
        if text.chars().any(char::is_control) {
            return Err(PasswordError::Control);
        }
        Ok(Self(text))
    }

    /// One that is only compared: whatever was typed, cut where none that was set can be longer.
    pub(crate) fn typed(text: &str) -> Self {
        let end = text.floor_char_boundary(limits::PASSWORD_MAX_BYTES + 1);
        Self(Zeroizing::new(text[..end].to_owned()))
    }

    /// One that nobody guesses.
    pub(crate) fn generate(random: &mut dyn Random) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(GENERATED_CHARS + 3));
        for (at, byte) in bytes::<GENERATED_CHARS>(random).iter().enumerate() {
            if at > 0 && at % 5 == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[usize::from(byte % 32)]));
        }
        Self(text)
    }

    /// To show it to its owner, once.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn store(&self, random: &mut dyn Random) -> Stored {
        let salt = *bytes::<SALT_BYTES>(random);
        Stored { salt, hash: *derive(self, &salt, Cost::now()), cost: Cost::now() }
    }

    /// Takes the same time whether it fits or not.
    pub(crate) fn fits(&self, stored: &Stored) -> bool {
        verify_slices_are_equal(derive(self, &stored.salt, stored.cost).as_slice(), &stored.hash).is_ok()
    }
}

impl Stored {
    /// What the password of a user who is not there is compared with, so that it costs the same.
    pub(crate) fn nobody(random: &mut dyn Random) -> Self {
        Self { salt: *bytes(random), hash: *bytes(random), cost: Cost::now() }
    }
}

impl Cost {
    pub(crate) const fn now() -> Self {
        Self { memory_kib: limits::PASSWORD_MEMORY_KIB, passes: limits::PASSWORD_PASSES, lanes: limits::PASSWORD_LANES }
    }

    /// Whether it lies where a cost of ours could: a table that says otherwise must not make the bridge work for minutes.
    pub(crate) fn is_sane(self) -> bool {
        (8..=1 << 20).contains(&self.memory_kib) && (1..=16).contains(&self.passes) && (1..=4).contains(&self.lanes)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stored({:?}, …)", self.cost)
    }
}

fn derive(password: &Password, salt: &[u8], cost: Cost) -> Zeroizing<[u8; HASH_BYTES]> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(HASH_BYTES)).expect("a sane cost");
    let mut hash = Zeroizing::new([0; HASH_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.0.as_bytes(), salt, hash.as_mut_slice())
        .expect("a bounded password and a salt of 16 bytes");
    hash
}

#[cfg(test)]
mod tests {
    use super::{super::random::System, *};

    fn password(text: &str) -> Result<Password, PasswordError> {
        Password::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn only_the_same_password_fits_and_two_users_share_nothing() {
        let right = password("correct horse").unwrap();
        let (one, other) = (right.store(&mut System), right.store(&mut System));
        assert!(right.fits(&one) && Password::typed("correct horse").fits(&other));
        assert!(!Password::typed("correct horsf").fits(&one) && !Password::typed("").fits(&one));
        assert!(one.salt != other.salt && one.hash != other.hash);
        assert!(!right.fits(&Stored::nobody(&mut System)));
    }

    #[test]
    fn it_is_argon2id_of_the_cost_that_the_field_recommends() {
        let stored = password("correct horse").unwrap().store(&mut System);
        assert_eq!(stored.cost, Cost { memory_kib: 19_456, passes: 2, lanes: 1 });
        // RFC 9106 section 5.3 has secret and associated data, which this has not: the value is of the reference implementation,
        // `echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1 -l 32`.
        let reference = Password::typed("password");
        let hash = derive(&reference, b"somesalt", Cost { memory_kib: 65_536, passes: 2, lanes: 1 });
        let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn bounds_are_said() {
        let longest = "a".repeat(limits::PASSWORD_MAX_BYTES);
        assert!(password(&longest).is_ok() && password("eight888").is_ok() && password("ünïcödé!").is_ok());
        assert_eq!(password("seven77").unwrap_err(), PasswordError::Length);
        assert_eq!(password(&format!("{longest}a")).unwrap_err(), PasswordError::Length);
        assert_eq!(password("with\ttab here").unwrap_err(), PasswordError::Control);
        // A longer one than can be set is no other one's beginning.
        let stored = password(&longest).unwrap().store(&mut System);
        assert!(Password::typed(&longest).fits(&stored) && !Password::typed(&format!("{longest}aaaa")).fits(&stored));
    }

    #[test]
    fn nothing_shows_one_by_accident() {
        let shown = Password::generate(&mut System);
        assert_eq!(shown.reveal().len(), 23);
        assert!(password(shown.reveal()).is_ok() && Password::generate(&mut System).reveal() != shown.reveal());
        assert_eq!(format!("{shown:?}"), "Password(…)");
        assert!(!format!("{:?}", shown.store(&mut System)).contains("salt"));
    }
}
