//! What a request is for: its path in one spelling, and its query as it came.
//!
//! Policy and upstream read the same bytes, so what two readers could read differently is either put into one form here or refused:
//!
//! - percent-encoded unreserved characters are decoded, all other encodings are written in upper case (RFC 3986 section 6.2.2);
//! - several slashes in a row are one, then `.` and `..` segments are removed (section 5.2.4); above the root there is nothing;
//! - bytes that have no place in a path (`"`, `<`, `{` …) are percent-encoded;
//! - refused: an encoded slash, a backslash and a control character in either form, encodings that are none, text that is not UTF-8, an encoding
//!   of an encoding (`%252e`), and `..;x` and `;x`, which some servers read as `..` and as nothing.
//!
//! The query is no part of any decision and is kept byte for byte. Deliberately absent: case folding.

use std::fmt;

use thiserror::Error;

/// A path that is the same for everybody who reads it, and the query behind it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    path: String,
    query: Option<String>,
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PathError {
    #[error("the path does not begin with a slash")]
    Relative,
    #[error("the path has a percent sign without two hexadecimal digits")]
    Encoding,
    #[error("the path has an encoded slash, which servers read in two ways")]
    EncodedSlash,
    #[error("the path has a backslash, which servers read in two ways")]
    Backslash,
    #[error("the path or query has a control character")]
    Control,
    #[error("the path has an encoding of an encoding")]
    Twice,
    #[error("the path is not UTF-8")]
    Utf8,
    #[error("the path has a fragment")]
    Fragment,
    #[error("the path has a dot segment or an empty one with a parameter")]
    DotParameter,
}

impl Path {
    /// Reads a request target in origin form: path, and query behind the first question mark.
    pub fn parse(target: &str) -> Result<Self, PathError> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Self::new(path, query)
    }

    /// Path and query, already apart.
    pub fn new(path: &str, query: Option<&str>) -> Result<Self, PathError> {
        if !path.starts_with('/') {
            return Err(PathError::Relative);
        }
        if query.is_some_and(|query| query.bytes().any(|b| b <= b' ' || b == 0x7f)) {
            return Err(PathError::Control);
        }
        let spelled = if path.bytes().all(is_plain) { path.to_owned() } else { spell(path.as_bytes())? };
        Ok(Self { path: segments(&spelled)?, query: query.map(str::to_owned) })
    }

    /// What rules are matched against.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The path as a server reads it that takes `;` parameters away before it looks for what to serve (servlet containers do). `None`: there are
    /// none. A rule has to hold for both readings, or `/admin;x` would be ruled as one thing and served as another.
    pub fn without_parameters(&self) -> Option<String> {
        self.path.contains(';').then(|| {
            let names: Vec<&str> = self.path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
            names.join("/")
        })
    }
}

/// As it goes to the upstream.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.query {
            Some(query) => write!(f, "{}?{query}", self.path),
            None => f.write_str(&self.path),
        }
    }
}

/// The bytes that most paths are made of; they stay as they are.
fn is_plain(byte: u8) -> bool {
    byte == b'/' || is_unreserved(byte)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 section 3.3: what may stand in a segment besides unreserved characters. These may be delimiters to an application, so a plain and an
/// encoded one stay two different things.
fn is_segment(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@')
}

/// Every byte in its one spelling.
fn spell(path: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    // The bytes that readers get when they decode, for what only shows there.
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let (byte, encoded) = match byte {
            b'%' => {
                let [high, low, tail @ ..] = rest else { return Err(PathError::Encoding) };
                rest = tail;
                (hex(*high)? << 4 | hex(*low)?, true)
            }
            plain => (*plain, false),
        };
        match byte {
            0..=0x1f | 0x7f => return Err(PathError::Control),
            b'\\' => return Err(PathError::Backslash),
            b'/' if encoded => return Err(PathError::EncodedSlash),
            b'#' if !encoded => return Err(PathError::Fragment),
            _ if is_plain(byte) || (is_segment(byte) && !encoded) => out.push(char::from(byte)),
            _ => push_encoded(&mut out, byte),
        }
        decoded.push(byte);
    }
    std::str::from_utf8(&decoded).map_err(|_| PathError::Utf8)?;
    let twice = decoded.windows(3).any(|w| w[0] == b'%' && w[1].is_ascii_hexdigit() && w[2].is_ascii_hexdigit());
    if twice { Err(PathError::Twice) } else { Ok(out) }
}

fn hex(digit: u8) -> Result<u8, PathError> {
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(PathError::Encoding)
}

fn push_encoded(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Merges slashes and removes dot segments.
fn segments(path: &str) -> Result<String, PathError> {
    if !path.contains("//") && !path.contains("/.") && !path.contains("/;") && !path.contains("/%3B") {
        return Ok(path.to_owned());
    }
    let mut kept: Vec<&str> = Vec::new();
    // A path that ends in a slash or a dot segment names a directory, and keeps its last slash.
    let mut directory = true;
    for segment in path.split('/') {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            _ if has_dot_parameter(segment) => return Err(PathError::DotParameter),
            _ => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if directory {
        out.push('/');
    }
    Ok(out)
}

/// `..;x` and `;x`: names to RFC 3986, a dot segment and an empty one to servlet containers, which take what follows the semicolon away.
fn has_dot_parameter(segment: &str) -> bool {
    let name = segment.split(';').next().unwrap_or_default();
    matches!(name.split("%3B").next().unwrap_or_default(), "" | "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, expect: Result<&str, PathError>) {
        assert_eq!(Path::parse(target).map(|path| path.to_string()), expect.map(str::to_owned), "{target:?}");
    }

    #[test]
    fn one_path_has_one_spelling() {
        for (target, expect) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/%7Euser/%2d%2E%5f", "/~user/-._"),
            ("/a/./b/../c", "/a/c"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/../../etc", "/etc"),
            ("//admin", "/admin"),
            ("/a//..///b", "/b"),
            ("///", "/"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/a%20b|c\"d", "/a%20b%7Cc%22d"),
            ("/a;v=1,2@x:y", "/a;v=1,2@x:y"),
            ("/a%3bv", "/a%3Bv"),
            ("/100%25", "/100%25"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a?x=/../%2e%00%zz?y", "/a?x=/../%2e%00%zz?y"),
            ("/a?", "/a?"),
        ] {
            check(target, Ok(expect));
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_refused() {
        for (target, expect) in [
            ("", PathError::Relative),
            ("a", PathError::Relative),
            ("*", PathError::Relative),
            ("http://a/", PathError::Relative),
            ("/%", PathError::Encoding),
            ("/%4", PathError::Encoding),
            ("/%g0", PathError::Encoding),
            ("/%+1", PathError::Encoding),
            ("/%u002e", PathError::Encoding),
            ("/a%2fb", PathError::EncodedSlash),
            ("/a%2F..%2Fb", PathError::EncodedSlash),
            ("/a\\b", PathError::Backslash),
            ("/a%5c..%5Cb", PathError::Backslash),
            ("/a%00", PathError::Control),
            ("/a%0d%0ab", PathError::Control),
            ("/a%7f", PathError::Control),
            ("/a\u{1}", PathError::Control),
            ("/a?b\u{0}", PathError::Control),
            ("/a?b c", PathError::Control),
            ("/%252e%252e/", PathError::Twice),
            ("/%25%32%65", PathError::Twice),
            ("/%2525", PathError::Twice),
            ("/%c0%ae%c0%ae/", PathError::Utf8),
            ("/%ff", PathError::Utf8),
            ("/a#b", PathError::Fragment),
            ("/a/..;/b", PathError::DotParameter),
            ("/a/..%3bx/b", PathError::DotParameter),
            ("/a/.;x", PathError::DotParameter),
            ("/;/admin", PathError::DotParameter),
            ("/%3b/admin", PathError::DotParameter),
        ] {
            check(target, Err(expect));
        }
    }

    #[test]
    fn parameters_can_be_taken_away() {
        let check = |target: &str, expect: Option<&str>| assert_eq!(Path::parse(target).unwrap().without_parameters().as_deref(), expect, "{target}");
        check("/admin;x/users;y=1;z", Some("/admin/users"));
        check("/admin/users?a;b", None);
    }
}
