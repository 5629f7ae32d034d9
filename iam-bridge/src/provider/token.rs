//! The token endpoint: a code or a refresh token becomes tokens (RFC 6749 sections 4.1.3 and 6, OpenID Connect Core 1.0 sections 3.1.3 and 12).
//!
//! A refresh token is the name of a grant and the number of its turn, sealed: nothing of it is kept, and the one before the last can be told from older ones.

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Client, Provider,
    clients::{self, ClientError},
    jwt::{self, Kind},
    params::Params,
    random,
    respond::{self, Answer},
    seconds,
    sessions::Live,
    sha256, unix,
};
use crate::{
    limits::provider as limits,
    store::{GrantRow, StoreError},
};

/// Grant, turn, seal.
const REFRESH_BYTES: usize = 16 + 4 + 32;

/// What an ID token says about a login, to whoever shows it again. Whether it has expired is no question here (RP-Initiated Logout 1.0 section 2).
#[derive(Clone, Debug, Deserialize)]
pub(super) struct IdHint {
    iss: String,
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) sid: String,
}

/// What our own access tokens say.
#[derive(Deserialize)]
pub(super) struct AccessClaims {
    iss: String,
    aud: String,
    exp: i64,
    /// The grant, in base64url.
    grant: String,
}

impl Provider {
    pub(super) fn token(&mut self, request: &Request<Bytes>, now: SystemTime) -> Result<Answer, StoreError> {
        let params = match Params::form(request) {
            Ok(params) if params.repeated().is_empty() => params,
            Ok(_) => return Ok(bad("invalid_request", "a parameter is given more than once")),
            Err(error) => return Ok(bad("invalid_request", &error.to_string())),
        };
        let client = match clients::authenticate(&self.settings.clients, request.headers(), &params) {
            Ok(client) => client.clone(),
            Err(ClientError::Request) => return Ok(bad("invalid_request", "the client proves itself in one way, client_secret_basic or client_secret_post")),
            Err(ClientError::Unknown) => {
                let refused = respond::refused(StatusCode::UNAUTHORIZED, "invalid_client", "the client is not known, or its secret is another");
                return Ok(respond::challenge(refused, "Basic realm=\"weft\""));
            }
        };
        match params.get("grant_type") {
            Some("authorization_code") => self.redeem(&client, &params, now),
            Some("refresh_token") => self.refresh(&client, &params, now),
            Some(_) => Ok(bad("unsupported_grant_type", "authorization_code and refresh_token are offered")),
            None => Ok(bad("invalid_request", "grant_type is missing")),
        }
    }

    fn redeem(&mut self, client: &Arc<Client>, params: &Params, now: SystemTime) -> Result<Answer, StoreError> {
        let needed = ["code", "redirect_uri", "code_verifier"].map(|name| params.get(name).ok_or(name));
        let [code, redirect_uri, verifier] = match needed {
            [Ok(code), Ok(uri), Ok(verifier)] => [code, uri, verifier],
            [Err(name), ..] | [_, Err(name), _] | [.., Err(name)] => return Ok(bad("invalid_request", &format!("{name} is missing"))),
        };
        let refused = || Ok(bad("invalid_grant", "the code is not valid: it was used, has expired, or was given for something else"));
        let hash = sha256(code.as_bytes());
        let Some(code) = self.codes.take(&hash, now) else {
            self.revoke_replayed(&hash)?;
            return refused();
        };
        let challenge = B64.encode(sha256(verifier.as_bytes()));
        let fits = code.client == client.id
            && code.redirect_uri == redirect_uri
            && is_verifier(verifier)
            && verify_slices_are_equal(challenge.as_bytes(), code.challenge.as_bytes()).is_ok();
        let Some(live) = self.live_sid(&code.sid, now)?.filter(|_| fits) else { return refused() };
        let grant = GrantRow {
            id: *random::bytes(&mut *self.random),
            sid: code.sid,
            client: client.id.clone(),
            code_hash: hash,
            scope: code.scope,
            generation: 0,
            rotated_at: unix(now),
            created_at: unix(now),
        };
        let held = self.people.grants_of(&grant.sid)?;
        let change = self.people.change()?;
        for oldest in held.iter().take((held.len() + 1).saturating_sub(limits::GRANTS_PER_SESSION_MAX)) {
            change.remove_grant(&oldest.id)?;
        }
        change.add_grant(&grant)?;
        change.commit()?;
        Ok(self.tokens(&grant, &live, code.nonce.as_deref(), now))
    }

    /// A code that comes again was stolen, before or after: what it gave is taken back (RFC 6749 section 4.1.2).
    fn revoke_replayed(&mut self, hash: &[u8; 32]) -> Result<(), StoreError> {
        let Some(grant) = self.people.grant_of_code(hash)? else { return Ok(()) };
        tracing::warn!(target: "weft_audit", event = "code-replayed", client = grant.client, "a code was used twice: what it gave is taken back");
        self.revoke(&grant)
    }

    fn refresh(&mut self, client: &Arc<Client>, params: &Params, now: SystemTime) -> Result<Answer, StoreError> {
        let Some(token) = params.get("refresh_token") else { return Ok(bad("invalid_request", "refresh_token is missing")) };
        let refused = || Ok(bad("invalid_grant", "the refresh token is not valid: the login has ended, or it was used before"));
        let Some((id, generation)) = self.unseal(token) else { return refused() };
        let Some(mut grant) = self.people.grant(&id)?.filter(|g| g.client == client.id) else { return refused() };
        let Some(live) = self.live_sid(&grant.sid, now)? else { return refused() };
        if let Some(scope) = params.get("scope")
            && !scope.split(' ').all(|s| grant.scope.split(' ').any(|held| held == s))
        {
            return Ok(bad("invalid_scope", "more is asked for than was given"));
        }
        let within_grace = unix(now).saturating_sub(grant.rotated_at) <= seconds(limits::REFRESH_GRACE);
        if generation == grant.generation {
            let Some(next) = generation.checked_add(1) else { return refused() };
            (grant.generation, grant.rotated_at) = (next, unix(now));
            let change = self.people.change()?;
            change.rotate_grant(&grant.id, next, unix(now))?;
            change.commit()?;
        } else if generation.checked_add(1) != Some(grant.generation) || !within_grace {
            // Two hold it, and one of them is a thief (RFC 9700 section 4.14.2).
            tracing::warn!(target: "weft_audit", event = "refresh-replayed", user = live.user.name, client = client.id, "an old refresh token came: the login is taken back");
            self.revoke(&grant)?;
            return refused();
        }
        self.touch(&grant.sid, now)?;
        Ok(self.tokens(&grant, &live, None, now))
    }

    /// Who the ID token that a client shows again speaks of; `None`: it is none of ours.
    pub(super) fn read_hint(&self, token: &str) -> Option<IdHint> {
        jwt::open(Kind::Id, token, self.keys.all()).filter(|h: &IdHint| h.iss == self.settings.issuer.as_str())
    }

    /// Whose an access token is; `None`: it is not valid any more, or never was.
    pub(super) fn read_access(&self, token: &str, now: SystemTime) -> Result<Option<Live>, StoreError> {
        let issuer = self.settings.issuer.as_str();
        let ours = |c: &AccessClaims| c.iss == issuer && c.aud == issuer && unix(now) < c.exp;
        let claims = jwt::open(Kind::Access, token, self.keys.all()).filter(ours);
        let id = claims.and_then(|c| B64.decode(c.grant).ok()).and_then(|id| <[u8; 16]>::try_from(id).ok());
        let grant = id.map(|id| self.people.grant(&id)).transpose()?.flatten();
        grant.map(|g| self.live_sid(&g.sid, now)).transpose().map(Option::flatten)
    }

    fn revoke(&mut self, grant: &GrantRow) -> Result<(), StoreError> {
        let change = self.people.change()?;
        change.remove_grant(&grant.id)?;
        change.commit()
    }

    fn tokens(&mut self, grant: &GrantRow, live: &Live, nonce: Option<&str>, now: SystemTime) -> Answer {
        let issued = unix(now);
        let expires = issued.saturating_add(seconds(self.settings.token_ttl));
        let (issuer, signer) = (self.settings.issuer.as_str(), self.keys.signer(now));
        let access = json!({
            "iss": issuer, "sub": live.user.subject, "aud": issuer, "client_id": grant.client, "scope": grant.scope, "iat": issued, "exp": expires,
            "jti": random::id(&mut *self.random), "grant": B64.encode(grant.id),
        });
        let access = signer.sign(Kind::Access, &access);
        let mut id = super::userinfo::claims(&live.user);
        let more = json!({
            "iss": issuer, "aud": grant.client, "iat": issued, "exp": expires, "auth_time": live.session.auth_at, "sid": grant.sid,
            // Core section 3.1.3.6: the left half of the hash.
            "at_hash": B64.encode(&sha256(access.as_bytes())[..16]),
        });
        merge(&mut id, more);
        if let Some(nonce) = nonce {
            id["nonce"] = nonce.into();
        }
        let answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": self.settings.token_ttl.as_secs(), "scope": grant.scope,
            "refresh_token": self.seal(&grant.id, grant.generation), "id_token": signer.sign(Kind::Id, &id),
        });
        respond::json_of(StatusCode::OK, &answer)
    }

    fn seal(&self, grant: &[u8; 16], generation: u32) -> String {
        let mut token = [grant.as_slice(), &generation.to_be_bytes()].concat();
        let seal = hmac::sign(&self.refresh, &token);
        token.extend_from_slice(seal.as_ref());
        B64.encode(token)
    }

    fn unseal(&self, token: &str) -> Option<([u8; 16], u32)> {
        let bytes: [u8; REFRESH_BYTES] = B64.decode(token).ok()?.try_into().ok()?;
        let (body, seal) = bytes.split_at(20);
        hmac::verify(&self.refresh, body, seal).ok()?;
        let (grant, generation) = body.split_at(16);
        Some((grant.try_into().ok()?, u32::from_be_bytes(generation.try_into().ok()?)))
    }
}

fn bad(error: &str, description: &str) -> Answer {
    respond::refused(StatusCode::BAD_REQUEST, error, description)
}

/// RFC 7636 section 4.1.
fn is_verifier(text: &str) -> bool {
    (43..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

fn merge(claims: &mut Value, more: Value) {
    if let (Value::Object(claims), Value::Object(more)) = (claims, more) {
        claims.extend(more);
    }
}
