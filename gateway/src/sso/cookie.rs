//! The gateway's cookies: read from every Cookie header, set with every attribute, and taken out byte by byte before an application sees the request.
//!
//! No cookie can be long: a value is a secret of 43 characters or a small number.

use http::{HeaderMap, HeaderValue, header};

use crate::sso::opaque::Opaque;

/// The ticket, on the auth host and on app hosts alike; each host has its own.
pub const TICKET: &str = "__Host-weft";
/// Binds one sign-in to the browser that began it; the rest of the name tells the tabs apart.
pub const TRANSACTION_PREFIX: &str = "__Host-weft-tx-";
/// Counts sign-ins that begin soon after one another.
pub const LOOP: &str = "__Host-weft-n";
/// Every cookie of the gateway has this name, or begins with it and a dash.
const RESERVED_PREFIX: &[u8] = b"__Host-weft-";

/// What a cookie of the gateway may hold.
pub(crate) enum Value<'a> {
    Secret(&'a Opaque),
    Count(u32),
    /// Clears the cookie.
    Gone,
}

/// A Set-Cookie header. `seconds`: for how long the browser keeps it.
pub(crate) fn set(name: &str, value: &Value<'_>, seconds: u64) -> HeaderValue {
    let (value, seconds) = match value {
        Value::Secret(secret) => (secret.reveal().to_string(), seconds),
        Value::Count(count) => (count.to_string(), seconds),
        Value::Gone => (String::new(), 0),
    };
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    let mut header = HeaderValue::try_from(text).expect("names and values of our own are visible ASCII");
    header.set_sensitive(true);
    header
}

/// Every value of this name, in all Cookie headers: a browser may send several, and which of them is ours is not for the order to say.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    pairs(headers).filter(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value).collect()
}

/// Names of the sign-ins under way in this browser at this host.
pub(crate) fn transactions(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> =
        pairs(headers).filter(|(name, _)| name.starts_with(TRANSACTION_PREFIX.as_bytes())).filter_map(|(name, _)| std::str::from_utf8(name).ok()).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
    names
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(header::COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|b| *b == b';')).filter_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    })
}

/// Takes the gateway's own cookies out of a request. All other bytes stay as they came; a Cookie header that holds nothing else goes.
pub fn strip_request(headers: &mut HeaderMap) {
    let before: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    if !before.iter().any(|value| segments(value.as_bytes()).any(is_reserved)) {
        return;
    }
    headers.remove(header::COOKIE);
    for value in before {
        let Some(rest) = without_reserved(value.as_bytes()) else { continue };
        // Bytes of a header value without some of them are a header value.
        if let Ok(mut rest) = HeaderValue::from_bytes(&rest) {
            rest.set_sensitive(value.is_sensitive());
            headers.append(header::COOKIE, rest);
        }
    }
}

/// Takes attempts of an application to set one of the gateway's cookies out of its response.
pub fn strip_response(headers: &mut HeaderMap) {
    let before: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    if !before.iter().any(|value| segments(value.as_bytes()).next().is_some_and(is_reserved)) {
        return;
    }
    headers.remove(header::SET_COOKIE);
    for value in before.into_iter().filter(|value| !segments(value.as_bytes()).next().is_some_and(is_reserved)) {
        headers.append(header::SET_COOKIE, value);
    }
}

fn segments(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b';')
}

/// `None`: nothing is left.
fn without_reserved(value: &[u8]) -> Option<Vec<u8>> {
    if !segments(value).any(is_reserved) {
        return Some(value.to_vec());
    }
    let mut kept = segments(value).enumerate().filter(|(_, segment)| !is_reserved(segment)).peekable();
    let mut rest = match kept.peek() {
        // The space after a separator goes with the separator.
        Some((at, first)) if *at > 0 => first.trim_ascii_start().to_vec(),
        Some((_, first)) => first.to_vec(),
        None => return None,
    };
    for (_, segment) in kept.skip(1) {
        rest.push(b';');
        rest.extend_from_slice(segment);
    }
    (!rest.trim_ascii().is_empty()).then_some(rest)
}

/// The browser's rule for names that begin so is blind to case, and so are some applications: the bound for what goes out is drawn as wide.
fn is_reserved(segment: &[u8]) -> bool {
    let name = segment.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
    name.eq_ignore_ascii_case(TICKET.as_bytes()) || name.get(..RESERVED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn headers(name: header::HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(sent: &[&str], expect: &[&str]) {
        let mut headers = headers(header::COOKIE, sent);
        strip_request(&mut headers);
        let left: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(left, expect.iter().map(|v| v.as_bytes()).collect::<Vec<_>>(), "{sent:?}");
    }

    #[test]
    fn own_cookies_go_and_all_other_bytes_stay() {
        check(&["a=1; b=2"], &["a=1; b=2"]);
        check(&["a=1; __Host-weft=x; b=2"], &["a=1; b=2"]);
        check(&["__Host-weft=x; a=1"], &["a=1"]);
        check(&["__Host-weft=x;a=1;  b = \"2\" ;c"], &["a=1;  b = \"2\" ;c"]);
        check(&["a=1; __Host-weft=x"], &["a=1"]);
        check(&["__Host-weft=x"], &[]);
        check(&["__Host-weft=x; __Host-weft=y; __Host-weft-tx-Ab_1=z; __Host-weft-n=3"], &[]);
        check(&["a=1", "__Host-weft=x", "b=2; __Host-weft=y"], &["a=1", "b=2"]);
        check(&["a=__Host-weft; __Host-weftx=1; x__Host-weft=2"], &["a=__Host-weft; __Host-weftx=1; x__Host-weft=2"]);
        check(&["a=1;\t__Host-weft = x; b=2"], &["a=1; b=2"]);
        check(&["__host-WEFT=x; a=1"], &["a=1"]);
        check(&["__Host-weft; a=1"], &["a=1"]);
        check(&["a=\u{e4}=; __Host-weft=x; =b; ;"], &["a=\u{e4}=; =b; ;"]);
        check(&[], &[]);
        check(&["; __Host-weft=x"], &[]);
    }

    #[test]
    fn an_application_cannot_set_them() {
        let mut headers = headers(header::SET_COOKIE, &["a=1; Path=/", "__Host-weft=x; Path=/; Secure", " __Host-weft-tx-a=x", "b=__Host-weft=1"]);
        strip_response(&mut headers);
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1; Path=/", "b=__Host-weft=1"]);
    }

    #[test]
    fn every_value_of_a_name_is_found() {
        let headers =
            headers(header::COOKIE, &["__Host-weft=a; x=1; __Host-weft = b", "__Host-weft=c", "__Host-weft-tx-T1=d; __Host-weft-tx-T1=e; __Host-weft-tx-<=f"]);
        assert_eq!(values(&headers, TICKET), [b"a", b"b", b"c"]);
        assert_eq!(transactions(&headers), ["__Host-weft-tx-T1"]);
    }

    #[test]
    fn a_cookie_is_bound_to_its_host_and_short() {
        let secret = Opaque::generate().unwrap();
        for (name, value) in [(TICKET, Value::Secret(&secret)), (LOOP, Value::Count(u32::MAX)), (TICKET, Value::Gone)] {
            let header = set(name, &value, u64::MAX);
            let text = header.to_str().unwrap();
            assert!(header.is_sensitive() && text.len() <= limits::COOKIE_MAX_BYTES, "{}", text.len());
            // `__Host-` asks for exactly this (RFC 6265bis section 4.1.3.2).
            assert!(text.contains("; Path=/; Secure; HttpOnly; SameSite=Lax") && !text.contains("Domain"), "{text}");
        }
        assert!(set(TICKET, &Value::Gone, 9).to_str().unwrap().ends_with("Max-Age=0"));
    }
}
