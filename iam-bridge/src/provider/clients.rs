//! Who asks on a person's behalf: the registered clients, and how they prove who they are (RFC 6749 section 2.3.1).

use std::{fmt, sync::Arc};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, header};

use super::{params::Params, sha256};

/// A relying party, as the configuration registers it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) secret: SecretHash,
    /// Compared character by character, as are the next.
    pub(crate) redirect_uris: Vec<String>,
    pub(crate) post_logout_redirect_uris: Vec<String>,
    /// Where it hears that a session has ended.
    pub(crate) backchannel_logout_uri: Option<String>,
    /// Origins that it leads a browser to after a login, besides its own and the issuer's siblings.
    pub(crate) origins: Vec<String>,
}

/// What recognises a client's secret. The secret itself is random and long, so that a plain hash is as good as a slow one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretHash([u8; 32]);

/// Why a client is not believed. The client hears which of the two it is, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientError {
    /// It proves itself in more ways than one, or in none that can be read.
    Request,
    Unknown,
}

impl SecretHash {
    pub(crate) fn of(secret: &str) -> Self {
        Self(sha256(secret.as_bytes()))
    }

    fn fits(&self, secret: &str) -> bool {
        verify_slices_are_equal(&self.0, &sha256(secret.as_bytes())).is_ok()
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// The client that a request to the token endpoint comes from.
pub(super) fn authenticate<'c>(clients: &'c [Arc<Client>], headers: &HeaderMap, params: &Params) -> Result<&'c Arc<Client>, ClientError> {
    let basic = basic(headers)?;
    let (id, secret) = match (&basic, params.get("client_id"), params.get("client_secret")) {
        (Some(_), _, Some(_)) => return Err(ClientError::Request),
        (Some((id, _)), Some(named), None) if id != named => return Err(ClientError::Request),
        (Some((id, secret)), _, None) => (id.as_str(), secret.as_str()),
        (None, Some(id), Some(secret)) => (id, secret),
        (None, _, _) => return Err(ClientError::Unknown),
    };
    clients.iter().find(|c| c.id == id).filter(|c| c.secret.fits(secret)).ok_or(ClientError::Unknown)
}

/// Id and secret of an `Authorization: Basic` header; both were written as in a form before they were joined.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, ClientError> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let read = || {
        let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
        let pair = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(rest.trim()).ok())??;
        let (id, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        Some((decoded(id)?, decoded(secret)?))
    };
    match (read(), all.next()) {
        (Some(pair), None) => Ok(Some(pair)),
        _ => Err(ClientError::Request),
    }
}

/// One value as a form writes it. It has neither `&` nor `=` of its own, as those would be escaped.
fn decoded(text: &str) -> Option<String> {
    if text.contains(['&', '=']) {
        return None;
    }
    let (value, _) = form_urlencoded::parse(text.as_bytes()).next()?;
    Some(value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str, secret: &str) -> Client {
        let nothing = Vec::new;
        let secret = SecretHash::of(secret);
        Client { id: id.into(), secret, redirect_uris: nothing(), post_logout_redirect_uris: nothing(), backchannel_logout_uri: None, origins: nothing() }
    }

    #[track_caller]
    fn check(authorization: &[&str], body: &str, expect: Result<&str, ClientError>) {
        let clients = [client("portal", "portal-secret"), client("a b:c", "p+q%")].map(Arc::new);
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let found = authenticate(&clients, &headers, &Params::query(body).unwrap()).map(|c| c.id.clone());
        assert_eq!(found, expect.map(str::to_owned), "{authorization:?} {body}");
    }

    #[test]
    fn a_client_proves_itself_once_and_with_its_own_secret() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        let right = basic("portal:portal-secret");
        check(&[&right], "", Ok("portal"));
        check(&[&right], "client_id=portal", Ok("portal"));
        check(&[], "client_id=portal&client_secret=portal-secret", Ok("portal"));
        check(&[&basic("a+b%3Ac:p%2Bq%25")], "", Ok("a b:c"));
        check(&[&basic("portal:portal-secre")], "", Err(ClientError::Unknown));
        check(&[&basic("a+b%3Ac:portal-secret")], "", Err(ClientError::Unknown));
        check(&[&basic("nobody:portal-secret")], "", Err(ClientError::Unknown));
        check(&[], "client_id=portal&client_secret=x", Err(ClientError::Unknown));
        check(&[], "client_id=portal", Err(ClientError::Unknown));
        check(&[], "", Err(ClientError::Unknown));
        check(&[&right], "client_secret=portal-secret", Err(ClientError::Request));
        check(&[&right], "client_id=other", Err(ClientError::Request));
        check(&[&right, &right], "", Err(ClientError::Request));
        check(&["Bearer x"], "client_id=portal&client_secret=portal-secret", Err(ClientError::Request));
        check(&["Basic ???"], "", Err(ClientError::Request));
    }

    #[test]
    fn a_secret_is_not_shown() {
        assert!(!format!("{:?}", client("portal", "portal-secret")).contains("portal-secret"));
    }
}
