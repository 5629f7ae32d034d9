//! Paths of requests, in the one form that is compared.
//!
//! Nothing here normalises: the gateway does that once, and refuses what it cannot. [`check_normal`] says whether it was done, so that no decision
//! is ever made on a path that an application could read otherwise.

use thiserror::Error;

use crate::path_pattern::PATTERN_MAX_BYTES;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    #[error("path {0:?} does not begin with /")]
    Relative(String),
    #[error("path {0:?} holds {1:?}, which stands in no path as it is")]
    Character(String, char),
    #[error("path {0:?} has a % that is not followed by two hex digits in capitals")]
    Escape(String),
    #[error("path {0:?} writes {1:?} as %-escape, where it must stand as it is")]
    Needless(String, char),
    #[error("path {0:?} holds an escaped slash, backslash or control character, which applications read differently")]
    Hidden(String),
    #[error("path {0:?} has a . or .. segment")]
    Dots(String),
    #[error("path {0:?} has an empty segment")]
    Empty(String),
    #[error("path {0:?} has a segment that is neither plain nor {{name}} as a whole")]
    Parameter(String),
    #[error("pathPrefix {0:?} has a {{segment}}, which only an exact path may have")]
    PrefixParameter(String),
    #[error("path is longer than {PATTERN_MAX_BYTES} bytes")]
    TooLong,
}

/// Whether a path is in the form that decisions are made on (RFC 3986 §6.2.2): absolute, no `.`, `..` or empty segment but a last one, escapes in
/// capitals and only where they are needed, no query, and nothing that an application might take for a slash.
///
/// # Errors
/// What is not normal about it.
pub fn check_normal(path: &str) -> Result<(), PathError> {
    let whole = || path.chars().take(160).collect::<String>();
    let Some(rest) = path.strip_prefix('/') else { return Err(PathError::Relative(whole())) };
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => match escaped(bytes.next(), bytes.next()) {
                None => return Err(PathError::Escape(whole())),
                Some(0..=0x1f | 0x7f | b'/' | b'\\') => return Err(PathError::Hidden(whole())),
                Some(plain) if is_unreserved(plain) => return Err(PathError::Needless(whole(), plain.into())),
                Some(_) => {}
            },
            b'/' => {}
            _ if is_segment(byte) => {}
            0..=0x7f => return Err(PathError::Character(whole(), byte.into())),
            _ => return Err(PathError::Character(whole(), rest.chars().find(|c| !c.is_ascii()).unwrap_or('\u{fffd}'))),
        }
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." | ".." => return Err(PathError::Dots(whole())),
            "" if segments.peek().is_some() => return Err(PathError::Empty(whole())),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a path at or below [`crate::builtin::OWN_PATHS`] is asked for, which no application has.
pub fn is_own(path: &str) -> bool {
    within(path, crate::builtin::OWN_PATHS)
}

fn escaped(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |b: Option<u8>| match b? {
        b @ b'0'..=b'9' => Some(b - b'0'),
        b @ b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    Some(digit(high)? << 4 | digit(low)?)
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3, `pchar` but for escapes.
fn is_segment(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

/// The path as an application reads it that leaves out what stands behind a `;` in a segment, as servlet containers do. `None`: it reads the same.
pub fn without_parameters(path: &str) -> Option<String> {
    let name = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
    path.contains(';').then(|| path.split('/').map(name).collect::<Vec<_>>().join("/"))
}

/// `path` is `prefix`, or continues behind a slash. `prefix` has no slash at its end, but may be empty.
pub(crate) fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_form_of_a_path_is_normal() {
        for good in ["/", "/a", "/a/", "/a/b.c/..d/...", "/caf%C3%A9", "/a%20b", "/a;v=1/@x:y", "/%25", "/%5Ba%5D%7C"] {
            assert_eq!(check_normal(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/%2e",
            "/%2E%2E/a",
            "/%41",
            "/%7E",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/%00",
            "/%c3%a9",
            "/%",
            "/%4",
            "/%zz",
            "/a b",
            "/a?b",
            "/a#b",
            "/é",
            "/a\u{7f}",
            "/%0A",
            "/%7F",
            "/[a]",
            "/a|b",
            "/{a}",
            "/a^b",
            "/a\r\nb",
            "https://a/b",
        ] {
            assert!(check_normal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_left_out_of_every_segment() {
        for (path, expect) in [("/a", None), ("/a;x", Some("/a")), ("/a;x=1;y/b;z/", Some("/a/b/")), ("/;x", Some("/")), ("/..;/a", Some("/../a"))] {
            assert_eq!(without_parameters(path).as_deref(), expect, "{path}");
        }
    }

    #[test]
    fn the_gateways_own_paths_are_told_by_whole_segments() {
        assert!(is_own("/.weft") && is_own("/.weft/login") && !is_own("/.weft2") && !is_own("/a/.weft/"));
    }
}
