//! What an application is told of who asks: `Weft-Assertion`, a JWT signed for this one application and for a minute.
//!
//! [`hand_over`] is the one door: it takes out what came from outside (copies of the assertion, the gateway's cookies, a bearer token that was used up here)
//! and puts in what is true. Applications check signature, audience and expiry with the keys at `/.weft/jwks.json` of the auth host.

mod keys;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Serialize;
use weft_types::{FlowId, ServiceRef};

pub use keys::{AssertionError, Assertions};

use crate::sso::{Identified, strip_request};

/// The header's name.
pub const HEADER: HeaderName = HeaderName::from_static("weft-assertion");

/// For whom and about what an assertion is.
#[derive(Clone, Debug)]
pub struct About<'a> {
    pub who: &'a Identified,
    /// The application, `namespace/name`.
    pub audience: &'a ServiceRef,
    pub flow: FlowId,
}

/// The claims, as documented in docs/gateway.md.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: String,
    iat: u64,
    exp: u64,
    sub: &'a str,
    /// The identity provider that `sub` is unique at.
    idp: &'a str,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    groups_left_out: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    flow: String,
}

/// Makes a request's head fit for an application: `assertion` is what [`Assertions::sign`] made for `who`, both absent for nobody.
///
/// To be called after hop-by-hop headers were taken out: a `Connection` header must not be able to name the assertion.
pub fn hand_over(headers: &mut HeaderMap, who: Option<&Identified>, assertion: Option<HeaderValue>) {
    strip(headers);
    strip_request(headers);
    if who.is_some_and(|who| who.session.is_none()) {
        // The token is good at every application: whoever gets it could be this client elsewhere.
        strip_bearer(headers);
    }
    if let (Some(_), Some(assertion)) = (who, assertion) {
        headers.insert(HEADER, assertion);
    }
}

/// Takes every inbound copy out, of a head or of trailers: servers map several names to one variable (`Weft_Assertion` and `weft.assertion` become
/// `HTTP_WEFT_ASSERTION` too), so whatever is alike to any of them goes.
pub fn strip(headers: &mut HeaderMap) {
    let alike = |name: &HeaderName| {
        let plain = |b: u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' };
        name.as_str().bytes().map(plain).eq(HEADER.as_str().bytes())
    };
    let copies: Vec<HeaderName> = headers.keys().filter(|name| alike(name)).cloned().collect();
    for name in copies {
        headers.remove(name);
    }
}

fn strip_bearer(headers: &mut HeaderMap) {
    let is_bearer = |value: &HeaderValue| value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"Bearer "));
    let others: Vec<HeaderValue> = headers.get_all(header::AUTHORIZATION).iter().filter(|value| !is_bearer(value)).cloned().collect();
    headers.remove(header::AUTHORIZATION);
    for value in others {
        headers.append(header::AUTHORIZATION, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sso::Person;

    fn client() -> Identified {
        let person = Person { provider: "p".into(), subject: "1".into(), user: "robot".into(), email: None, name: None, groups: vec![] };
        Identified { person, session: None, until: None, set_cookie: None }
    }

    #[test]
    fn every_inbound_copy_goes_however_it_is_written() {
        let mut headers = HeaderMap::new();
        for name in ["Weft-Assertion", "WEFT-ASSERTION", "weft_assertion", "Weft_Assertion", "weft.assertion", "weft~assertion", "weft-assertion"] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("forged"));
        }
        for kept in ["weft-assertions", "x-weft-assertion", "weftassertion"] {
            headers.append(HeaderName::from_static(kept), HeaderValue::from_static("other"));
        }
        let mut nobody = headers.clone();
        hand_over(&mut nobody, None, None);
        assert!(!nobody.values().any(|value| value == "forged"), "{nobody:?}");
        assert_eq!(nobody.len(), 3);
        hand_over(&mut headers, Some(&client()), Some(HeaderValue::from_static("ours")));
        assert_eq!(headers.get_all(HEADER).iter().collect::<Vec<_>>(), ["ours"]);
        assert!(!headers.values().any(|value| value == "forged"), "{headers:?}");
    }

    #[test]
    fn secrets_that_are_good_here_never_reach_an_application() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_static("a=1; __Host-weft=ticket; b=2"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("bearer token"));
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Basic dTpw"));
        let mut own = headers.clone();
        hand_over(&mut headers, Some(&client()), None);
        assert_eq!(headers[header::COOKIE], "a=1; b=2");
        assert_eq!(headers.get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>(), ["Basic dTpw"]);
        // A token that said nothing here is the application's own.
        hand_over(&mut own, None, None);
        assert_eq!(own.get_all(header::AUTHORIZATION).iter().count(), 2);
        assert_eq!(own[header::COOKIE], "a=1; b=2");
    }
}
