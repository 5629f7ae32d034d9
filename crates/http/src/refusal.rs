//! Why a request is not let in. Each reason has a status, a word for machines (a closed set, fit for a metric label) and a sentence for people.
//!
//! A refusal never repeats what the client sent.

use http::StatusCode;

use crate::{host::HostError, path::PathError};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $status:ident $word:literal $sentence:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// All there are, for tables and metrics.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// A stable name in lower case with hyphens.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What is wrong and how to do it right.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

refusals! {
    /// RFC 9112 section 3.2.
    HostMissing BAD_REQUEST "host-missing" "the request names no host; send a Host header";
    HostRepeated BAD_REQUEST "host-repeated" "the request has more than one Host header; send one";
    HostMalformed BAD_REQUEST "host-malformed" "the host of the request is no host name, address or port";
    /// The target in absolute form, or `:authority`, against the Host header.
    HostMismatch BAD_REQUEST "host-mismatch" "the request names two different hosts; Host has to be the same as the target's";
    TargetForm BAD_REQUEST "target-form" "the request target is neither a path nor an http or https address";
    PathEncoding BAD_REQUEST "path-encoding" "the path has an encoding that servers read differently";
    PathSlash BAD_REQUEST "path-slash" "the path has an encoded slash or a backslash, which servers read differently";
    PathControl BAD_REQUEST "path-control" "the path or query has a control character";
    PathParameter BAD_REQUEST "path-parameter" "the path has a dot segment or an empty one with a parameter, which servers read differently";
    MethodTrace METHOD_NOT_ALLOWED "method-trace" "TRACE would send credentials back and is not served";
    MethodConnect METHOD_NOT_ALLOWED "method-connect" "CONNECT is not served: this is no forward proxy";
    /// RFC 8441 with a protocol other than WebSocket.
    ProtocolUnknown NOT_IMPLEMENTED "protocol-unknown" "this protocol is not served over extended CONNECT; only websocket is";
    /// RFC 9112 section 6.3: what frames a body must leave no choice.
    TransferEncoding BAD_REQUEST "transfer-encoding" "Transfer-Encoding has to be one header that says chunked, and only in HTTP/1.1";
    LengthAndEncoding BAD_REQUEST "length-and-encoding" "the request has both Content-Length and Transfer-Encoding; send one";
    ContentLength BAD_REQUEST "content-length" "Content-Length has to be one header with one decimal number";
    /// A line end that is a bare line feed or carriage return, a folded line, a line without a colon.
    LineMalformed BAD_REQUEST "line-malformed" "the request head has a line that is malformed or does not end in CR LF";
    HeaderName BAD_REQUEST "header-name" "a header name has a character other than a letter, a digit or a hyphen; servers turn those into hyphens";
    HeaderValue BAD_REQUEST "header-value" "a header value begins or ends with white space, or has a control character";
    /// One reader takes the first, another the last: who is asked, and in whose name, must not depend on that.
    HeaderRepeated BAD_REQUEST "header-repeated" "Authorization, Content-Type or Origin is there more than once; send one";
    HeaderCount REQUEST_HEADER_FIELDS_TOO_LARGE "header-count" "the request has too many headers";
    HeaderSize REQUEST_HEADER_FIELDS_TOO_LARGE "header-size" "the headers of the request are too large";
    /// RFC 9110 section 7.6.1: a field that is meant for everybody must not be named as one for this connection.
    ConnectionOption BAD_REQUEST "connection-option" "Connection names a header that is not for one connection only";
    /// RFC 9113 section 8.2.2.
    ConnectionHeader BAD_REQUEST "connection-header" "the request has a header of HTTP/1.1 connections, which HTTP/2 forbids";
    /// RFC 9113 section 8.3.
    PseudoHeader BAD_REQUEST "pseudo-header" "a pseudo-header of the request is missing or out of place";
    Expectation EXPECTATION_FAILED "expectation" "the only expectation that can be met is 100-continue";
    UpgradeBody BAD_REQUEST "upgrade-body" "a request for a WebSocket has no body";
    UpgradeMalformed BAD_REQUEST "upgrade-malformed" "a request for a WebSocket lacks its version or key, or has another version than 13";
    BodySize PAYLOAD_TOO_LARGE "body-size" "the body of the request is larger than is taken here";
    Version HTTP_VERSION_NOT_SUPPORTED "version" "only HTTP/1.0, HTTP/1.1 and HTTP/2 are served";
}

impl Refusal {
    /// Whether the connection is not to be trusted with another request: who sends one ambiguous head may have hidden a second one in it.
    pub fn ends_connection(self) -> bool {
        self.status() != StatusCode::EXPECTATION_FAILED
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for Refusal {}

impl From<HostError> for Refusal {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Empty => Self::HostMissing,
            _ => Self::HostMalformed,
        }
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Relative | PathError::Fragment => Self::TargetForm,
            PathError::Encoding | PathError::Twice | PathError::Utf8 => Self::PathEncoding,
            PathError::EncodedSlash | PathError::Backslash => Self::PathSlash,
            PathError::Control => Self::PathControl,
            PathError::DotParameter => Self::PathParameter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_each_of_them() {
        let page = include_str!("../../../docs/http.md");
        for refusal in Refusal::ALL {
            let line = format!("| `{}` | {} | {} |", refusal.word(), refusal.status().as_u16(), refusal.sentence());
            assert!(page.contains(&line), "docs/http.md lacks: {line}");
        }
        assert_eq!(page.lines().filter(|line| line.starts_with("| `")).count(), Refusal::ALL.len());
    }

    #[test]
    fn words_are_different_and_fit_for_a_label() {
        let mut words: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.word()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')), "{words:?}");
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Refusal::ALL.len());
        assert!(Refusal::ALL.iter().all(|refusal| refusal.status().is_client_error() || refusal.status().is_server_error()));
    }
}
