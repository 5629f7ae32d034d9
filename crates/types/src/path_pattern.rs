//! Patterns of paths: which requests of a host an exposure takes.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::url_path::{PathError, check_normal, within};

/// Longest pattern, in bytes.
pub const PATTERN_MAX_BYTES: usize = 1_024;
/// Longest name of a `{segment}`, in bytes.
pub const PARAMETER_MAX_BYTES: usize = 32;

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
        let steps: String = self
            .segments()
            .map(|s| match s {
                Segment::Literal(literal) => format!("/{literal}"),
                Segment::Any => "/{}".to_owned(),
            })
            .collect();
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
    check_normal(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        prop::collection::vec("[a-c]{1,2}", 0..5)
            .prop_flat_map(|s| any::<bool>().prop_map(move |end| format!("/{}{}", s.join("/"), if end && !s.is_empty() { "/" } else { "" })))
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
