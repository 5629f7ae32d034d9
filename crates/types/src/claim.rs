//! Where in an identity provider's claims a value stands.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use thiserror::Error;

/// Most steps of a path.
pub const CLAIM_DEPTH_MAX: usize = 8;
/// Longest path as text, in bytes.
pub const CLAIM_MAX_BYTES: usize = 256;

/// `groups`, `realm_access.roles`, or (where a name holds a dot) a JSON pointer such as `/https:~1~1corp.example~1groups` (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClaimPath(Vec<String>);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    #[error("claim {0:?} has an empty part")]
    Empty(String),
    #[error("claim {0:?} has more than {CLAIM_DEPTH_MAX} parts")]
    Deep(String),
    #[error("claim path is longer than {CLAIM_MAX_BYTES} bytes")]
    TooLong,
    #[error("claim {0:?} holds a control character")]
    Control(String),
    #[error("claim {0:?} is a JSON pointer in which ~ is not followed by 0 or 1")]
    Escape(String),
}

impl ClaimPath {
    /// Names of members, from the outermost in; never none.
    pub fn steps(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for ClaimPath {
    type Err = ClaimError;
    fn from_str(s: &str) -> Result<Self, ClaimError> {
        if s.len() > CLAIM_MAX_BYTES {
            return Err(ClaimError::TooLong);
        }
        if s.chars().any(char::is_control) {
            return Err(ClaimError::Control(s.to_owned()));
        }
        let steps: Vec<String> = match s.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescaped).collect::<Option<_>>().ok_or_else(|| ClaimError::Escape(s.to_owned()))?,
            None => s.split('.').map(str::to_owned).collect(),
        };
        if steps.iter().any(String::is_empty) {
            return Err(ClaimError::Empty(s.to_owned()));
        }
        if steps.len() > CLAIM_DEPTH_MAX {
            return Err(ClaimError::Deep(s.to_owned()));
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.iter().any(|s| s.contains('.')) || self.0[0].starts_with('/') {
            return self.0.iter().try_for_each(|s| write!(f, "/{}", s.replace('~', "~0").replace('/', "~1")));
        }
        f.write_str(&self.0.join("."))
    }
}

impl Serialize for ClaimPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn unescaped(step: &str) -> Option<String> {
    let mut parts = step.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        match part.split_at_checked(1)? {
            ("0", rest) => text.extend(["~", rest]),
            ("1", rest) => text.extend(["/", rest]),
            _ => return None,
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_claims_are_written_with_dots_or_as_a_pointer() {
        let steps = |s: &str| s.parse::<ClaimPath>().unwrap().0;
        assert_eq!(steps("groups"), ["groups"]);
        assert_eq!(steps("realm_access.roles"), ["realm_access", "roles"]);
        assert_eq!(steps("resource_access.my-app.roles"), ["resource_access", "my-app", "roles"]);
        assert_eq!(steps("/https:~1~1corp.example~1groups"), ["https://corp.example/groups"]);
        assert_eq!(steps("/a~01/b"), ["a~1", "b"]);
        for text in ["groups", "realm_access.roles", "/https:~1~1corp.example~1groups", "/a.b/c~0d"] {
            assert_eq!(text.parse::<ClaimPath>().unwrap().to_string(), text);
        }
        for bad in ["", "a..b", ".a", "/", "/a//b", "/a~2", "/a~", "a\nb", "a.b.c.d.e.f.g.h.i", &"a".repeat(257)] {
            assert!(bad.parse::<ClaimPath>().is_err(), "{bad}");
        }
    }
}
