//! Names of users and groups. A name is ASCII, so that no two look alike, and a user's is lower-case, so that no two differ in case only.

use std::fmt;

use thiserror::Error;

use crate::limits::provider as limits;

/// Who logs in. Lower-case; what was typed in another case is the same user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UserName(String);

/// A group as the catalog's `access` names it; upper and lower case differ there, and so they do here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GroupName(String);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum NameError {
    #[error("user {0:?} has a name that cannot be: letters, digits and . _ - + @ of ASCII, a letter or digit first and last, at most {max} bytes", max = limits::USER_NAME_MAX_BYTES)]
    User(String),
    #[error("group {0:?} has a name that cannot be: letters, digits and . _ - + @ : / of ASCII, at most {max} bytes", max = limits::GROUP_NAME_MAX_BYTES)]
    Group(String),
}

impl UserName {
    pub(crate) fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let inside = |b: &u8| b.is_ascii_alphanumeric() || b"._-+@".contains(b);
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        if bytes.len() <= limits::USER_NAME_MAX_BYTES && bytes.iter().all(inside) && ends(bytes.first()) && ends(bytes.last()) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(NameError::User(shown(text)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl GroupName {
    pub(crate) fn parse(text: &str) -> Result<Self, NameError> {
        let inside = |b: &u8| b.is_ascii_alphanumeric() || b"._-+@:/".contains(b);
        if !text.is_empty() && text.len() <= limits::GROUP_NAME_MAX_BYTES && text.as_bytes().iter().all(inside) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError::Group(shown(text)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Enough of it to know it again.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_whatever_the_case_and_never_by_a_look_alike() {
        let longest = "a".repeat(limits::USER_NAME_MAX_BYTES);
        for (text, expect) in [("alice", "alice"), ("Alice", "alice"), ("a.b+c@corp.example", "a.b+c@corp.example"), ("7", "7"), (&longest, &longest)] {
            assert_eq!(UserName::parse(text).unwrap().as_str(), expect, "{text}");
        }
        let long = format!("{longest}a");
        for bad in
            ["", " alice", "alice ", "al ice", "alice\0", "alice\n", "аlice", "alice\u{200b}", "\u{202e}alice", "é", ".alice", "alice-", "a/b", "a\"b", &long]
        {
            assert!(UserName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn groups_keep_their_case() {
        for good in ["sales", "Sales", "/corp/sales", "corp:sales", "6d2e0c1a-0000"] {
            assert_eq!(GroupName::parse(good).unwrap().as_str(), good);
        }
        let long = "a".repeat(limits::GROUP_NAME_MAX_BYTES + 1);
        for bad in ["", "a b", "a,b", "а", "a\u{7f}", &long] {
            assert!(GroupName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
