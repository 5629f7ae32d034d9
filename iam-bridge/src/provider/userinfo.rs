//! Who somebody is: the claims of ID tokens and of the userinfo endpoint (OpenID Connect Core 1.0 section 5.3), read anew each time.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

use super::{
    Provider,
    respond::{self, Answer},
};
use crate::store::{StoreError, UserRow};

impl Provider {
    pub(super) fn userinfo(&mut self, request: &Request<Bytes>, now: SystemTime) -> Result<Answer, StoreError> {
        // RFC 6750 section 3.1: who shows nothing is not told that it is wrong.
        let Some(token) = bearer(request) else {
            return Ok(respond::challenge(respond::refused(StatusCode::UNAUTHORIZED, "invalid_request", "an access token is needed"), "Bearer realm=\"weft\""));
        };
        match self.read_access(token, now)? {
            Some(live) => Ok(respond::json_of(StatusCode::OK, &claims(&live.user))),
            None => {
                let refused = respond::refused(StatusCode::UNAUTHORIZED, "invalid_token", "the access token is not valid any more");
                Ok(respond::challenge(refused, "Bearer realm=\"weft\", error=\"invalid_token\""))
            }
        }
    }
}

/// `sub` names one person for ever, `preferred_username` is what they type and what policy speaks of.
pub(super) fn claims(user: &UserRow) -> Value {
    json!({ "sub": user.subject, "preferred_username": user.name, "name": user.name, "groups": user.groups })
}

/// In the header alone (RFC 6750 section 2.1): a token in a query or a form ends in logs.
fn bearer(request: &Request<Bytes>) -> Option<&str> {
    let mut all = request.headers().get_all(header::AUTHORIZATION).iter();
    let (scheme, token) = all.next()?.to_str().ok()?.split_once(' ')?;
    (all.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then(|| token.trim())
}
