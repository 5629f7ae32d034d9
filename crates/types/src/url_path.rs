//! Paths of requests, in the one form that is compared, and the patterns that take them.
//!
//! Nothing here normalises: the gateway does that once, and refuses what it cannot. [`check_normal`] says whether it was done, so that no decision
//! is ever made on a path that an application could read otherwise.

use std::fmt;

use serde::{Serialize, Serializer};
use thiserror::Error;

/// Longest pattern, in bytes.
pub const PATTERN_MAX_BYTES: usize = 1_024;
/// Longest name of a `{segment}`, in bytes.
pub const PARAMETER_MAX_BYTES: usize = 32;

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
    #[error("path {0:?} holds an escaped slash, backslash or zero byte, which applications read differently")]
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
                Some(0 | b'/' | b'\\') => return Err(PathError::Hidden(whole())),
                Some(plain) if is_unreserved(plain) => return Err(PathError::Needless(whole(), plain.into())),
                Some(_) => {}
            },
            b'\\' | b'?' | b'#' => return Err(PathError::Character(whole(), byte.into())),
            0x21..=0x7e => {}
            _ => return Err(PathError::Character(whole(), rest.chars().find(|c| !('\x21'..='\x7e').contains(c)).unwrap_or('\u{fffd}'))),
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

/// RFC 3986 §3.3, `pchar`, and the slash; of an escape any part.
fn may_stand_in_pattern(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' | b'%' | b'/')
}

/// `path` is `prefix`, or continues behind a slash. `prefix` has no slash at its end, but may be empty.
fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How much a pattern says; what says more comes first where several take a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathKind {
    /// One path.
    Exact,
    /// A path some of whose segments are any.
    Template,
    /// A path and everything below it.
    Prefix,
}

/// Which paths of a host a route takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPattern {
    kind: PathKind,
    /// Of a prefix without the slash at its end; `/` is empty.
    text: String,
}

/// One step of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment<'a> {
    Literal(&'a str),
    /// Any one segment that is not empty.
    Any,
}

impl PathPattern {
    /// A path as it is, where a segment `{name}` stands for any.
    ///
    /// # Errors
    /// When that is no path in normal form.
    pub fn exact(text: &str) -> Result<Self, PathError> {
        let mut kind = PathKind::Exact;
        let mut plain = String::with_capacity(text.len());
        for (i, segment) in text.split('/').enumerate() {
            if i > 0 {
                plain.push('/');
            }
            match parameter(segment) {
                Some(true) => {
                    kind = PathKind::Template;
                    plain.push('x');
                }
                Some(false) => return Err(PathError::Parameter(text.to_owned())),
                None => plain.push_str(segment),
            }
        }
        check_pattern(&plain, text)?;
        Ok(Self { kind, text: text.to_owned() })
    }

    /// A path and everything below it; a slash at its end makes no difference.
    ///
    /// # Errors
    /// When that is no path in normal form, or has a `{segment}`.
    pub fn prefix(text: &str) -> Result<Self, PathError> {
        if text.contains(['{', '}']) {
            return Err(PathError::PrefixParameter(text.to_owned()));
        }
        check_pattern(text, text)?;
        Ok(Self { kind: PathKind::Prefix, text: text.strip_suffix('/').unwrap_or(text).to_owned() })
    }

    pub fn kind(&self) -> PathKind {
        self.kind
    }

    /// As it is written in a document.
    pub fn as_str(&self) -> &str {
        if self.text.is_empty() { "/" } else { &self.text }
    }

    /// The steps below `/`; those of a prefix `/` are none.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let steps = self.text.split('/').skip(1);
        steps.map(|s| if s.starts_with('{') { Segment::Any } else { Segment::Literal(s) })
    }

    /// Whether it takes `path`, which is in normal form.
    pub fn takes(&self, path: &str) -> bool {
        match self.kind {
            PathKind::Exact => path == self.text,
            PathKind::Template => {
                let mut steps = path.split('/').skip(1);
                let all = self.segments().all(|s| match (s, steps.next()) {
                    (Segment::Literal(literal), Some(step)) => literal == step,
                    (Segment::Any, Some(step)) => !step.is_empty(),
                    (_, None) => false,
                });
                all && steps.next().is_none()
            }
            PathKind::Prefix => within(path, &self.text),
        }
    }

    /// Equal for patterns that take the same paths: names of segments say nothing.
    pub fn shape(&self) -> (PathKind, String) {
        let steps: String = self.segments().map(|s| match s {
            Segment::Literal(literal) => format!("/{literal}"),
            Segment::Any => "/{}".to_owned(),
        }).collect();
        (self.kind, steps)
    }

    /// Whether all that `inner` takes is taken by this one too.
    pub fn covers(&self, inner: &Self) -> bool {
        if self.kind != PathKind::Prefix {
            return self.shape() == inner.shape();
        }
        let mut steps = inner.segments();
        self.segments().all(|s| steps.next() == Some(s))
    }

    /// The path that goes to the application, where the part that a prefix took is replaced by `with`, itself the text of a prefix. What is no prefix
    /// leaves the path as it is.
    pub fn rewritten(&self, path: &str, with: &str) -> String {
        let rest = if self.kind == PathKind::Prefix { path.strip_prefix(self.text.as_str()) } else { None };
        let Some(rest) = rest else { return path.to_owned() };
        match with.strip_suffix('/').unwrap_or(with) {
            "" if rest.is_empty() => "/".to_owned(),
            with => format!("{with}{rest}"),
        }
    }
}

/// `/orders/*` for a prefix.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PathKind::Prefix => f.pad(&format!("{}/*", self.text)),
            _ => f.pad(&self.text),
        }
    }
}

impl Serialize for PathPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether a segment is a well-formed `{name}`; `None`: it is plain.
fn parameter(segment: &str) -> Option<bool> {
    if !segment.contains(['{', '}']) {
        return None;
    }
    let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    Some(name.is_some_and(|n| !n.is_empty() && n.len() <= PARAMETER_MAX_BYTES && n.bytes().all(letter)))
}

fn check_pattern(plain: &str, text: &str) -> Result<(), PathError> {
    if text.len() > PATTERN_MAX_BYTES {
        return Err(PathError::TooLong);
    }
    check_normal(plain)?;
    match plain.bytes().find(|b| !may_stand_in_pattern(*b)) {
        Some(byte) => Err(PathError::Character(text.to_owned(), byte.into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_form_of_a_path_is_normal() {
        for good in ["/", "/a", "/a/", "/a/b.c/..d/...", "/caf%C3%A9", "/a%20b", "/a;v=1/@x:y", "/%25", "/[a]|b"] {
            assert_eq!(check_normal(good), Ok(()), "{good}");
        }
        for bad in [
            "", "a", "*", "//", "//a", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a/..", "/%2e", "/%2E%2E/a", "/%41", "/%7E", "/a%2Fb", "/a%2fb", "/a%5Cb",
            "/a\\b", "/%00", "/%c3%a9", "/%", "/%4", "/%zz", "/a b", "/a?b", "/a#b", "/é", "/a\u{7f}", "/a\r\nb", "https://a/b",
        ] {
            assert!(check_normal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_are_written_in_normal_form() {
        for good in ["/", "/a", "/a/", "/items/{id}", "/items/{id}/parts/{part-2}", "/{a}"] {
            assert!(PathPattern::exact(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "/a//b", "/a/..", "/{}", "/x{id}", "/{id}x", "/{i d}", "/{a/b}", "/a?b", "/[a]", "/a b", &format!("/{}", "a".repeat(1024))] {
            assert!(PathPattern::exact(bad).is_err(), "{bad}");
        }
        assert!(PathPattern::prefix("/a/{id}").is_err() && PathPattern::prefix("").is_err());
        assert_eq!(PathPattern::prefix("/a/"), PathPattern::prefix("/a"));
        assert_eq!(PathPattern::prefix("/").unwrap().to_string(), "/*");
    }

    #[track_caller]
    fn check(pattern: &PathPattern, takes: &[&str], leaves: &[&str]) {
        takes.iter().for_each(|p| assert!(pattern.takes(p), "{pattern} should take {p}"));
        leaves.iter().for_each(|p| assert!(!pattern.takes(p), "{pattern} should leave {p}"));
    }

    #[test]
    fn a_pattern_takes_whole_segments() {
        check(&PathPattern::exact("/a").unwrap(), &["/a"], &["/", "/a/", "/a/b", "/ab", "/A"]);
        check(&PathPattern::exact("/a/{id}/c").unwrap(), &["/a/b/c", "/a/%20/c"], &["/a//c", "/a/b", "/a/b/c/", "/a/b/c/d", "/x/b/c"]);
        check(&PathPattern::exact("/{id}").unwrap(), &["/a"], &["/", "/a/"]);
        check(&PathPattern::prefix("/a").unwrap(), &["/a", "/a/", "/a/b"], &["/", "/ab", "/b/a"]);
        check(&PathPattern::prefix("/").unwrap(), &["/", "/a", "/a/b/"], &[]);
        assert!(is_own("/.weft") && is_own("/.weft/login") && !is_own("/.weft2") && !is_own("/a/.weft/"));
    }

    #[test]
    fn a_pattern_covers_what_lies_within_it() {
        let (prefix, exact) = (|p| PathPattern::prefix(p).unwrap(), |p| PathPattern::exact(p).unwrap());
        assert!(prefix("/").covers(&exact("/a/{x}")) && prefix("/a").covers(&prefix("/a/b")) && prefix("/a").covers(&exact("/a")));
        assert!(!prefix("/a").covers(&prefix("/ab")) && !prefix("/a/b").covers(&prefix("/a")) && !prefix("/a").covers(&exact("/{x}")));
        assert!(exact("/a/{x}").covers(&exact("/a/{y}")) && !exact("/a/{x}").covers(&exact("/a/b")));
    }

    #[test]
    fn a_prefix_is_rewritten_on_its_border() {
        let check = |prefix: &str, with: &str, path: &str, expect: &str| assert_eq!(PathPattern::prefix(prefix).unwrap().rewritten(path, with), expect);
        check("/orders", "/", "/orders", "/");
        check("/orders", "/", "/orders/", "/");
        check("/orders", "/", "/orders/1", "/1");
        check("/orders", "/api/v1", "/orders/1", "/api/v1/1");
        check("/orders", "/api/", "/orders", "/api");
        check("/", "/api", "/", "/api/");
        check("/", "/api", "/a", "/api/a");
        assert_eq!(PathPattern::exact("/a").unwrap().rewritten("/a", "/b"), "/a");
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[a-c]{1,2}", 0..5).prop_flat_map(|s| any::<bool>().prop_map(move |end| format!("/{}{}", s.join("/"), if end && !s.is_empty() { "/" } else { "" })))
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text in "[/a-cA-C.%{}0-9\\\\?é-]{0,24}") {
            let _ = (check_normal(&text), PathPattern::exact(&text), PathPattern::prefix(&text));
        }

        /// What goes to the application is in normal form too.
        #[test]
        fn a_rewritten_path_is_normal(prefix in path(), with in path(), rest in path()) {
            let pattern = PathPattern::prefix(&prefix).unwrap();
            let asked = format!("{}{rest}", prefix.trim_end_matches('/'));
            prop_assume!(pattern.takes(&asked));
            let sent = pattern.rewritten(&asked, &with);
            prop_assert_eq!(check_normal(&sent), Ok(()), "{}", sent);
            prop_assert!(PathPattern::prefix(&with).unwrap().takes(&sent), "{} of {}", sent, with);
        }
    }
}
