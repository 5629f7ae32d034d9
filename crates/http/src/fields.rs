//! Fields that concern one connection only, and fields that must not stand where they stand.
//!
//! Pure: works on header maps. RFC 9110 sections 7.6.1 and 6.5.1, RFC 9113 section 8.2.2.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    error::{Error, Fault},
    refusal::Refusal,
};

/// Taken away from every message that is passed on. `Proxy` is no field at all: CGI makes `HTTP_PROXY` of it (CVE-2016-5385).
static HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("proxy"),
];

/// Refused in HTTP/2, which has frames for what they say.
const CONNECTION_SPECIFIC: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/// Meant for whoever serves the request; naming one in `Connection` would have a proxy take away what somebody behind it relies on.
const END_TO_END: [&str; 12] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "authorization",
    "cookie",
    "cache-control",
    "forwarded",
    "origin",
    "referer",
    "range",
    "via",
];
const END_TO_END_PREFIXES: [&str; 3] = ["x-forwarded-", "weft-", "sec-"];

/// Never taken from a trailer: framing, routing, credentials, and what says how the content is to be read (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [&str; 22] = [
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "expires",
    "forwarded",
    "host",
    "location",
    "max-forwards",
    "origin",
    "range",
    "retry-after",
    "set-cookie",
    "trailer",
    "vary",
    "warning",
    "www-authenticate",
];

/// Every comma-separated element of every field of that name, without the white space around it.
pub(crate) fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

pub(crate) fn has_element(headers: &HeaderMap, name: HeaderName, element: &str) -> bool {
    elements(headers, name).any(|found| found.eq_ignore_ascii_case(element.as_bytes()))
}

/// What `Connection` names, if it may name it.
pub(crate) fn connection_options(headers: &HeaderMap) -> Result<Vec<HeaderName>, Refusal> {
    elements(headers, header::CONNECTION)
        .map(|option| HeaderName::from_bytes(option).ok().filter(|name| !is_end_to_end(name)).ok_or(Refusal::ConnectionOption))
        .collect()
}

fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.contains(&name.as_str()) || END_TO_END_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

pub(crate) fn has_connection_specific(headers: &HeaderMap) -> bool {
    CONNECTION_SPECIFIC.iter().any(|name| headers.contains_key(*name))
}

/// Takes away what was for this connection.
pub(crate) fn strip(headers: &mut HeaderMap, options: &[HeaderName]) {
    for name in options.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What an upstream's response says of its own connection goes no further. A response that frames its body in two ways is not believed at all.
pub(crate) fn clean_response(headers: &mut HeaderMap) -> Result<(), Error> {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && headers.contains_key(header::TRANSFER_ENCODING)) {
        return Err(Error::upstream(Fault::Malformed));
    }
    let encodings: Vec<_> = elements(headers, header::TRANSFER_ENCODING).collect();
    if encodings.len() > 1 || encodings.iter().any(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(Error::upstream(Fault::Malformed));
    }
    // An upstream's option is its own affair: what it may not name is left in place instead of failing the response.
    let options: Vec<HeaderName> =
        elements(headers, header::CONNECTION).filter_map(|option| HeaderName::from_bytes(option).ok()).filter(|name| !is_end_to_end(name)).collect();
    strip(headers, &options);
    Ok(())
}

/// Takes away from trailers what must not be merged into a head by whoever reads them.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    let refused: Vec<HeaderName> = trailers.keys().filter(|name| !is_trailer(name)).cloned().collect();
    for name in refused {
        trailers.remove(name);
    }
}

fn is_trailer(name: &HeaderName) -> bool {
    let is_hop_by_hop = HOP_BY_HOP.contains(name);
    let name = name.as_str();
    is_plain_name(name) && !is_hop_by_hop && !NOT_IN_TRAILERS.contains(&name) && !END_TO_END_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Letters, digits and hyphens: the names that gateways to programs (CGI, WSGI, FastCGI) do not turn into another one.
pub(crate) fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// HTTP/2 splits cookies for better compression; everybody else reads one field (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[track_caller]
    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn trailers_are_filtered() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("grpc-message", "ok"),
            ("server-timing", "x"),
            ("content-length", "5"),
            ("host", "evil"),
            ("weft-assertion", "x"),
            ("x-forwarded-for", "1.2.3.4"),
            ("transfer-encoding", "chunked"),
            ("x_y", "1"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["grpc-message", "grpc-status", "server-timing"]);
    }

    #[test]
    fn a_response_loses_what_was_for_its_connection() {
        let mut headers =
            map(&[("connection", "close, x-hop"), ("x-hop", "1"), ("keep-alive", "5"), ("upgrade", "h2"), ("transfer-encoding", "chunked"), ("etag", "x")]);
        clean_response(&mut headers).unwrap();
        assert_eq!(names(&headers), ["etag"]);
        for bad in [
            &[("content-length", "5"), ("transfer-encoding", "chunked")][..],
            &[("content-length", "5"), ("content-length", "5")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "identity")],
        ] {
            assert!(clean_response(&mut map(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cookies_are_one_field() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn options_name_fields_of_the_connection_only() {
        assert_eq!(connection_options(&map(&[("connection", "close, X-Hop,, upgrade")])).unwrap().len(), 3);
        for bad in ["host", "Content-Length", "cookie", "X-Forwarded-For", "weft-assertion", "a b"] {
            assert_eq!(connection_options(&map(&[("connection", bad)])), Err(Refusal::ConnectionOption), "{bad}");
        }
    }
}
