//! The one door for a request's head: what two readers could take for two different requests does not come in.
//!
//! Pure. hyper has parsed the head before; what it repairs without a word (`crate::framing`) is found on the wire beside it. The order of the
//! checks is the order of what is trusted: framing first, then whom, then what.

use http::{HeaderMap, HeaderName, Method, Uri, Version, header, request::Parts};
use hyper::ext::Protocol;

use crate::{Wire, fields, host::Host, limits::Limits, path::Path, refusal::Refusal};

/// A head that was let in. Fields for one connection are gone, and so is `Host`: [`Vetted::host`] is the only place that names the host.
#[derive(Debug)]
pub struct Vetted {
    /// In which protocol the request came.
    pub wire: Wire,
    /// For a WebSocket over HTTP/2 `GET`, as it is over HTTP/1.1.
    pub method: Method,
    pub host: Host,
    pub path: Path,
    pub headers: HeaderMap,
    /// The client wants this connection, or stream, to become a WebSocket.
    pub websocket: bool,
    /// The client takes trailers.
    pub trailers: bool,
    /// What `Content-Length` says.
    pub length: Option<u64>,
}

impl Vetted {
    /// RFC 9110 section 9.2.2.
    pub fn is_idempotent(&self) -> bool {
        self.method.is_idempotent()
    }

    /// A conversation, where silence is no fault.
    pub fn is_grpc(&self) -> bool {
        self.headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
    }
}

/// Lets a head in, or says why not.
pub fn vet(head: Parts, limits: &Limits) -> Result<Vetted, Refusal> {
    let wire = match head.version {
        Version::HTTP_10 | Version::HTTP_11 => Wire::Http1,
        Version::HTTP_2 => Wire::Http2,
        _ => return Err(Refusal::Version),
    };
    well_formed(&head.headers, limits)?;
    let length = framing(&head, wire)?;
    let extended = method(&head, wire)?;
    let options = connection(&head.headers, wire)?;
    let host = host(&head, wire)?;
    let path = path(&head.uri)?;
    expectation(&head.headers)?;
    let websocket = extended || upgrade(&head, length)?;
    if length.is_some_and(|length| length > limits.body_bytes) {
        return Err(Refusal::BodySize);
    }
    let trailers = fields::has_element(&head.headers, header::TE, "trailers");
    let mut headers = head.headers;
    fields::strip(&mut headers, &options);
    headers.remove(header::HOST);
    // Whoever takes the body asks for it: hyper answers with 100 when it is first read.
    headers.remove(header::EXPECT);
    fields::join_cookies(&mut headers);
    let method = if extended { Method::GET } else { head.method };
    Ok(Vetted { wire, method, host, path, headers, websocket, trailers, length })
}

fn well_formed(headers: &HeaderMap, limits: &Limits) -> Result<(), Refusal> {
    if headers.len() > limits.header_count {
        return Err(Refusal::HeaderCount);
    }
    let mut bytes = 0;
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len();
        if !fields::is_plain_name(name.as_str()) {
            return Err(Refusal::HeaderName);
        }
        let value = value.as_bytes();
        // HTTP/1 takes white space away; in HTTP/2 it would come through and be taken away by the next one.
        if value.trim_ascii().len() != value.len() || value.iter().any(|b| (*b < b' ' && *b != b'\t') || *b == 0x7f) {
            return Err(Refusal::HeaderValue);
        }
    }
    if bytes > limits.header_bytes {
        return Err(Refusal::HeaderSize);
    }
    let repeated = [header::AUTHORIZATION, header::CONTENT_TYPE, header::ORIGIN].into_iter().any(|name| headers.get_all(name).iter().nth(1).is_some());
    if repeated { Err(Refusal::HeaderRepeated) } else { Ok(()) }
}

/// RFC 9112 section 6.3, without any of its leniency.
fn framing(head: &Parts, wire: Wire) -> Result<Option<u64>, Refusal> {
    let mut encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(length), None) => Some(decimal(length.as_bytes()).ok_or(Refusal::ContentLength)?),
        (Some(_), Some(_)) => return Err(Refusal::ContentLength),
    };
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(length),
        (Some(_), _) if wire == Wire::Http2 => Err(Refusal::ConnectionHeader),
        (Some(_), _) if length.is_some() => Err(Refusal::LengthAndEncoding),
        (Some(coding), None) if head.version == Version::HTTP_11 && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(None),
        _ => Err(Refusal::TransferEncoding),
    }
}

fn decimal(digits: &[u8]) -> Option<u64> {
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

/// Whether this is an extended CONNECT (RFC 8441).
fn method(head: &Parts, wire: Wire) -> Result<bool, Refusal> {
    let protocol = head.extensions.get::<Protocol>();
    match head.method {
        Method::TRACE => Err(Refusal::MethodTrace),
        // IIS's name for the same thing.
        ref method if method.as_str().eq_ignore_ascii_case("track") => Err(Refusal::MethodTrace),
        Method::CONNECT => match protocol {
            None => Err(Refusal::MethodConnect),
            Some(_) if wire != Wire::Http2 => Err(Refusal::MethodConnect),
            Some(protocol) if protocol.as_str() == "websocket" => Ok(true),
            Some(_) => Err(Refusal::ProtocolUnknown),
        },
        _ if protocol.is_some() => Err(Refusal::PseudoHeader),
        _ => Ok(false),
    }
}

fn connection(headers: &HeaderMap, wire: Wire) -> Result<Vec<HeaderName>, Refusal> {
    if wire == Wire::Http1 {
        return fields::connection_options(headers);
    }
    let te_is_plain = headers.get_all(header::TE).iter().all(|value| value == "trailers");
    if fields::has_connection_specific(headers) || !te_is_plain { Err(Refusal::ConnectionHeader) } else { Ok(Vec::new()) }
}

/// Host and authority name the same host, and at least one of them is there (RFC 9112 section 3.2.2, RFC 9113 section 8.3.1).
fn host(head: &Parts, wire: Wire) -> Result<Host, Refusal> {
    let mut fields = head.headers.get_all(header::HOST).iter();
    let named = match (fields.next(), fields.next()) {
        (_, Some(_)) => return Err(Refusal::HostRepeated),
        (None, None) => None,
        (Some(value), None) => Some(value.to_str().map_err(|_| Refusal::HostMalformed)?.parse::<Host>()?),
    };
    let port = match head.uri.scheme_str() {
        None => None,
        Some("https") => Some(443),
        Some("http") => Some(80),
        Some(_) => return Err(Refusal::TargetForm),
    };
    let target = head.uri.authority().map(|authority| authority.as_str().parse::<Host>()).transpose()?;
    match (named, target) {
        // HTTP/1 has to say it in Host whatever the target says.
        (None, Some(target)) if wire == Wire::Http2 => Ok(target),
        (None, _) => Err(Refusal::HostMissing),
        (Some(named), None) => Ok(named),
        (Some(named), Some(target)) if named.is_same(&target, port.unwrap_or_default()) => Ok(named),
        (Some(_), Some(_)) => Err(Refusal::HostMismatch),
    }
}

fn path(uri: &Uri) -> Result<Path, Refusal> {
    let Some(target) = uri.path_and_query() else {
        return Err(Refusal::TargetForm);
    };
    // An absolute target may leave the path out (`http://host?query`).
    match target.path() {
        "" => Ok(Path::new("/", target.query())?),
        path => Ok(Path::new(path, target.query())?),
    }
}

fn expectation(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => Ok(()),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(()),
        _ => Err(Refusal::Expectation),
    }
}

/// Whether the client asks for a WebSocket over HTTP/1.1. Every other protocol is passed over, as RFC 9110 section 7.8 allows: `h2c` has been a
/// way around proxies, and no other is in use.
fn upgrade(head: &Parts, length: Option<u64>) -> Result<bool, Refusal> {
    let headers = &head.headers;
    let asked = head.version == Version::HTTP_11 && fields::has_element(headers, header::CONNECTION, "upgrade") && {
        let mut protocols = fields::elements(headers, header::UPGRADE);
        protocols.next().is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket")) && protocols.next().is_none()
    };
    if !asked {
        return Ok(false);
    }
    let one = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())
    };
    let version = one(header::SEC_WEBSOCKET_VERSION).is_some_and(|value| value == "13");
    if head.method != Method::GET || !version || one(header::SEC_WEBSOCKET_KEY).is_none() {
        return Err(Refusal::UpgradeMalformed);
    }
    if length.is_some_and(|length| length > 0) || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(Refusal::UpgradeBody);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(version: Version, method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(head: Parts, expect: Result<&str, Refusal>) -> Option<Vetted> {
        let vetted = vet(head, &Limits::default());
        assert_eq!(
            vetted.as_ref().map(|vetted| format!("{} {}{}", vetted.method, vetted.host, vetted.path)).map_err(|refusal| *refusal),
            expect.map(str::to_owned)
        );
        vetted.ok()
    }

    const ONE: Version = Version::HTTP_11;
    const TWO: Version = Version::HTTP_2;
    const HOST: (&str, &str) = ("host", "shop.example");

    #[test]
    fn a_plain_request_comes_in_and_loses_what_was_for_the_connection() {
        let fields = [
            HOST,
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("keep-alive", "1"),
            ("proxy", "x"),
            ("accept", "a"),
            ("expect", "100-continue"),
        ];
        let vetted = check(head(ONE, "GET", "/a/../b?c", &fields), Ok("GET shop.example/b?c")).unwrap();
        assert_eq!(vetted.headers.keys().collect::<Vec<_>>(), ["accept"]);
        assert!(vetted.trailers && !vetted.websocket);
    }

    #[test]
    fn hosts_have_to_agree() {
        check(head(ONE, "GET", "/", &[]), Err(Refusal::HostMissing));
        check(head(ONE, "GET", "http://shop.example/", &[]), Err(Refusal::HostMissing));
        check(head(ONE, "GET", "/", &[HOST, HOST]), Err(Refusal::HostRepeated));
        check(head(ONE, "GET", "/", &[("host", "a/b@c")]), Err(Refusal::HostMalformed));
        check(head(ONE, "GET", "https://SHOP.example:443/x", &[HOST]), Ok("GET shop.example/x"));
        check(head(ONE, "GET", "https://shop.example:444/x", &[HOST]), Err(Refusal::HostMismatch));
        check(head(ONE, "GET", "https://evil.example/x", &[HOST]), Err(Refusal::HostMismatch));
        check(head(ONE, "GET", "ftp://shop.example/x", &[HOST]), Err(Refusal::TargetForm));
        check(head(TWO, "GET", "https://shop.example/x", &[]), Ok("GET shop.example/x"));
        check(head(TWO, "GET", "/x", &[HOST]), Ok("GET shop.example/x"));
        check(head(TWO, "GET", "https://evil.example/x", &[HOST]), Err(Refusal::HostMismatch));
        check(head(TWO, "GET", "https://u@shop.example/x", &[]), Err(Refusal::HostMalformed));
        check(head(TWO, "GET", "/x", &[]), Err(Refusal::HostMissing));
    }

    #[test]
    fn a_body_has_one_frame() {
        let check = |fields: &[(&str, &str)], expect: Result<(), Refusal>| {
            let fields: Vec<_> = [&[HOST], fields].concat();
            assert_eq!(vet(head(ONE, "POST", "/", &fields), &Limits::default()).map(|_| ()), expect, "{fields:?}");
        };
        check(&[("content-length", "5")], Ok(()));
        check(&[("transfer-encoding", "Chunked")], Ok(()));
        for value in ["+5", "5,5", "0x5", "-1", "5 5", "", "18446744073709551616", "5_0"] {
            check(&[("content-length", value)], Err(Refusal::ContentLength));
        }
        check(&[("content-length", "5"), ("content-length", "5")], Err(Refusal::ContentLength));
        check(&[("content-length", "5"), ("transfer-encoding", "chunked")], Err(Refusal::LengthAndEncoding));
        for value in
            ["identity, chunked", "identity", "chunked, identity", "chunked,", "xchunked", "\"chunked\"", "chunked;q=1", "gzip, chunked", "chunked, chunked"]
        {
            check(&[("transfer-encoding", value)], Err(Refusal::TransferEncoding));
        }
        check(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], Err(Refusal::TransferEncoding));
        check(&[("content-length", "99999999999")], Err(Refusal::BodySize));
        let old = head(Version::HTTP_10, "POST", "/", &[HOST, ("transfer-encoding", "chunked")]);
        assert_eq!(vet(old, &Limits::default()).map(|_| ()), Err(Refusal::TransferEncoding));
    }

    #[test]
    fn names_methods_and_expectations() {
        check(head(ONE, "TRACE", "/", &[HOST]), Err(Refusal::MethodTrace));
        check(head(ONE, "TrAcK", "/", &[HOST]), Err(Refusal::MethodTrace));
        check(head(ONE, "CONNECT", "shop.example:443", &[HOST]), Err(Refusal::MethodConnect));
        check(head(ONE, "OPTIONS", "*", &[HOST]), Err(Refusal::TargetForm));
        for name in ["weft_assertion", "x.forwarded.for", "x!y"] {
            check(head(ONE, "GET", "/", &[HOST, (name, "1")]), Err(Refusal::HeaderName));
        }
        check(head(TWO, "GET", "/", &[HOST, ("x-a", " chunked")]), Err(Refusal::HeaderValue));
        check(head(ONE, "GET", "/", &[HOST, ("authorization", "Bearer a"), ("authorization", "Bearer b")]), Err(Refusal::HeaderRepeated));
        check(head(ONE, "GET", "/", &[HOST, ("authorization", "Bearer a"), ("cookie", "a=1"), ("cookie", "a=2")]), Ok("GET shop.example/"));
        check(head(ONE, "GET", "/", &[HOST, ("expect", "200-ok")]), Err(Refusal::Expectation));
        check(head(ONE, "GET", "/", &[HOST, ("connection", "content-length")]), Err(Refusal::ConnectionOption));
        check(head(TWO, "GET", "/", &[HOST, ("connection", "close")]), Err(Refusal::ConnectionHeader));
        check(head(TWO, "GET", "/", &[HOST, ("te", "gzip")]), Err(Refusal::ConnectionHeader));
    }

    #[test]
    fn size_is_bounded() {
        let many: Vec<(String, &str)> = (0..100).map(|i| (format!("x-{i}"), "1")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).chain([HOST]).collect();
        check(head(ONE, "GET", "/", &many[1..]), Ok("GET shop.example/"));
        check(head(ONE, "GET", "/", &many), Err(Refusal::HeaderCount));
        let long = "x".repeat(32 * 1024);
        check(head(ONE, "GET", "/", &[HOST, ("x-a", &long)]), Err(Refusal::HeaderSize));
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let asked = [HOST, ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", "13"), key];
        assert!(check(head(ONE, "GET", "/ws", &asked), Ok("GET shop.example/ws")).unwrap().websocket);
        check(head(ONE, "POST", "/ws", &asked), Err(Refusal::UpgradeMalformed));
        check(head(ONE, "GET", "/ws", &asked[..4]), Err(Refusal::UpgradeMalformed));
        check(head(ONE, "GET", "/ws", &[&asked[..], &[("content-length", "3")]].concat()), Err(Refusal::UpgradeBody));
        for other in [
            &[HOST, ("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")][..],
            &[HOST, ("connection", "upgrade"), ("upgrade", "h2c, websocket")],
            &[HOST, ("upgrade", "websocket")],
        ] {
            let vetted = check(head(ONE, "GET", "/ws", other), Ok("GET shop.example/ws")).unwrap();
            assert!(!vetted.websocket && vetted.headers.is_empty(), "{other:?}");
        }
        let mut extended = head(TWO, "CONNECT", "https://shop.example/ws", &[]);
        extended.extensions.insert(Protocol::from_static("websocket"));
        assert!(check(extended, Ok("GET shop.example/ws")).unwrap().websocket);
        let mut other = head(TWO, "CONNECT", "https://shop.example/ws", &[]);
        other.extensions.insert(Protocol::from_static("connect-udp"));
        check(other, Err(Refusal::ProtocolUnknown));
    }
}
