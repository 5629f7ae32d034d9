//! The head of a request as an application may see it, and of its answer.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use weft_types::FlowId;

use crate::{assertion, random};

/// Nobody says for themselves who they are, where they come from, or how: names that programs behind proxies believe.
pub(super) fn strip_claims(headers: &mut HeaderMap) {
    const NAMES: [&str; 12] = [
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "remote-user",
        "x-remote-user",
        "x-remote-group",
        "x-webauth-user",
        "x-authenticated-user",
        "x-original-url",
        "x-rewrite-url",
    ];
    const PREFIXES: [&str; 4] = ["x-forwarded-", "x-auth-request-", "x-remote-", "weft-"];
    let goes = |name: &HeaderName| {
        let name = name.as_str();
        name != assertion::HEADER.as_str() && (NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
    };
    let gone: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

pub(super) fn say_who_asks(headers: &mut HeaderMap, client: IpAddr, host: &str) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("x-forwarded-for", &client.to_string());
    put("x-forwarded-host", host);
    put("x-forwarded-proto", "https");
}

/// W3C Trace Context: what is there is passed on; where there is none, one begins here.
pub(super) fn trace(headers: &mut HeaderMap) {
    const NAME: &str = "traceparent";
    let mut all = headers.get_all(NAME).iter();
    let good = match (all.next(), all.next()) {
        (Some(value), None) => is_traceparent(value.as_bytes()),
        _ => false,
    };
    if good {
        return;
    }
    headers.remove(NAME);
    headers.remove("tracestate");
    let (Ok(trace), Ok(span)) = (random::bytes::<16>(), random::bytes::<8>()) else { return };
    let value = format!("00-{:032x}-{:016x}-00", u128::from_be_bytes(trace), u64::from_be_bytes(span));
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(HeaderName::from_static(NAME), value);
    }
}

/// Section 3.2 of the specification, version 00.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let dashes = value.len() == 55 && [2, 35, 52].iter().all(|at| value[*at] == b'-');
    dashes && value.starts_with(b"00") && hex(&value[3..35]) && hex(&value[36..52]) && hex(&value[53..]) && !zero(&value[3..35]) && !zero(&value[36..52])
}

/// Set by the gateway on every answer of an application.
pub(super) fn mark_flow(headers: &mut HeaderMap, flow: FlowId) {
    if let Ok(value) = HeaderValue::from_str(&flow.to_string()) {
        headers.insert(HeaderName::from_static("weft-flow"), value);
    }
    headers.remove(header::SERVER);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_says_for_themselves_who_they_are() {
        let mut headers = HeaderMap::new();
        for name in ["x-forwarded-for", "X-Forwarded-User", "forwarded", "Remote-User", "x-remote-user", "weft-flow", "x-auth-request-email", "x-real-ip"] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("root"));
        }
        headers.insert(assertion::HEADER, HeaderValue::from_static("ours"));
        headers.insert("x-request-id", HeaderValue::from_static("kept"));
        strip_claims(&mut headers);
        say_who_asks(&mut headers, "2001:db8::1".parse().unwrap(), "shop.example:8443");
        assert!(!headers.values().any(|value| value == "root"), "{headers:?}");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!((headers[assertion::HEADER].as_bytes(), headers["x-request-id"].as_bytes()), (&b"ours"[..], &b"kept"[..]));
    }

    #[test]
    fn a_trace_goes_on_and_a_broken_one_begins_anew() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let check = |values: &[&str], kept: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            headers.insert("tracestate", HeaderValue::from_static("a=b"));
            trace(&mut headers);
            let now = headers["traceparent"].to_str().unwrap().to_owned();
            assert!(is_traceparent(now.as_bytes()), "{now}");
            assert_eq!((now == values.first().copied().unwrap_or_default(), headers.contains_key("tracestate")), (kept, kept), "{values:?}");
        };
        check(&[good], true);
        check(&[], false);
        check(&[good, good], false);
        for bad in [
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "x",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            check(&[bad], false);
        }
    }
}
