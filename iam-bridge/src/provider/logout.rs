//! Ending a login from the browser (OpenID Connect RP-Initiated Logout 1.0), and telling its clients (Back-Channel Logout 1.0).

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::json;

use super::{
    Client, Provider,
    cookies::Cookie,
    jwt::Kind,
    pages,
    params::{Params, with_params},
    random,
    respond::{self, Answer},
    seconds,
    token::IdHint,
    unix,
};
use crate::{
    limits::provider as limits,
    store::{SessionRow, StoreError},
};

/// A logout token on its way to one client.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Logout {
    pub(crate) client: String,
    /// Where it is to be posted, as the form field `logout_token`.
    pub(crate) uri: String,
    pub(crate) token: String,
}

/// A logout request that is in order.
struct Leave {
    hint: Option<IdHint>,
    /// Registered by the client that the request names.
    return_to: Option<String>,
    client: Option<Arc<Client>>,
    state: Option<String>,
    query: String,
}

impl Provider {
    pub(super) fn logout(&mut self, request: &Request<Bytes>, now: SystemTime) -> Result<Answer, StoreError> {
        let params = match *request.method() {
            Method::POST => Params::form(request),
            _ => Params::query(request.uri().query().unwrap_or_default()),
        };
        let leave = match params.map_err(|e| e.to_string()).and_then(|p| self.read_leave(&p)) {
            Ok(leave) => leave,
            Err(words) => return Ok(pages::refused(StatusCode::BAD_REQUEST, &words)),
        };
        let here = self.live_session(request.headers(), now)?;
        match (&leave.hint, here) {
            (Some(hint), here) if here.as_ref().is_none_or(|live| live.session.subject == hint.sub) => {
                let named = self.people.session_of(&hint.sid)?.filter(|s| s.subject == hint.sub);
                let here = here.map(|live| live.session).filter(|s| s.sid != hint.sid);
                for session in named.into_iter().chain(here) {
                    self.leave(&session, now)?;
                }
                Ok(self.left(&leave))
            }
            // Nothing shows that the person wants it, so the person is asked.
            (_, Some(_)) => Ok(self.ask_to_leave(request, &leave)),
            (_, None) => Ok(self.left(&leave)),
        }
    }

    pub(super) fn confirm_logout(&mut self, request: &Request<Bytes>, now: SystemTime) -> Result<Answer, StoreError> {
        if let Some(refused) = self.foreign_form(request) {
            return Ok(refused);
        }
        let read = |form: &Params| Params::query(form.get("request").unwrap_or_default());
        let leave = Params::form(request)
            .and_then(|form| Ok((read(&form)?, form.get("proof").unwrap_or_default().to_owned())))
            .map_err(|e| e.to_string())
            .and_then(|(params, proof)| Ok((self.read_leave(&params)?, proof)));
        let (leave, proof) = match leave {
            Ok(read) => read,
            Err(words) => return Ok(pages::refused(StatusCode::BAD_REQUEST, &words)),
        };
        if !self.proves(request.headers(), "logout", &leave.query, &proof) {
            return Ok(self.ask_to_leave(request, &leave));
        }
        if let Some(live) = self.live_session(request.headers(), now)? {
            self.leave(&live.session, now)?;
        }
        Ok(self.left(&leave))
    }

    /// `None`: the client does not want to hear of it.
    pub(super) fn logout_token(&mut self, client: &Client, session: &SessionRow, now: SystemTime) -> Option<Logout> {
        let uri = client.backchannel_logout_uri.clone()?;
        let issued = unix(now);
        let claims = json!({
            "iss": self.settings.issuer.as_str(), "aud": client.id, "sub": session.subject, "sid": session.sid, "iat": issued,
            "exp": issued.saturating_add(seconds(limits::LOGOUT_TTL)), "jti": random::id(&mut *self.random),
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        });
        Some(Logout { client: client.id.clone(), uri, token: self.keys.signer(now).sign(Kind::Logout, &claims) })
    }

    fn read_leave(&self, params: &Params) -> Result<Leave, String> {
        if !params.repeated().is_empty() {
            return Err("The request has a parameter more than once.".to_owned());
        }
        // A hint that is none of ours says nothing: it is as if there were none.
        let hint = params.get("id_token_hint").and_then(|token| self.read_hint(token));
        let named = params.get("client_id");
        if let (Some(hint), Some(id)) = (&hint, named)
            && hint.aud != id
        {
            return Err("The request names an app that the ID token was not given to (client_id).".to_owned());
        }
        let client = hint.as_ref().map(|h| h.aud.as_str()).or(named).and_then(|id| self.settings.client(id));
        let return_to = params.get("post_logout_redirect_uri").map(str::to_owned);
        if let Some(uri) = &return_to
            && !client.as_ref().is_some_and(|c| c.post_logout_redirect_uris.contains(uri))
        {
            return Err("The address to return to is not registered for this app (post_logout_redirect_uri).".to_owned());
        }
        let state = params.get("state").map(str::to_owned);
        if state.as_ref().is_some_and(|s| s.len() > limits::CARRIED_MAX_BYTES) {
            return Err("The request is too long (state).".to_owned());
        }
        Ok(Leave { hint, return_to, client, state, query: params.to_query() })
    }

    fn leave(&mut self, session: &SessionRow, now: SystemTime) -> Result<(), StoreError> {
        self.end_session(session, now)?;
        let user = self.people.user_of(&session.subject)?.map_or(String::new(), |u| u.name);
        tracing::info!(target: "weft_audit", event = "logout", user, "logged out");
        Ok(())
    }

    fn left(&self, leave: &Leave) -> Answer {
        let answer = match &leave.return_to {
            Some(uri) => respond::redirect(&with_params(uri, leave.state.as_deref().map(|s| ("state", s)))),
            None => pages::logged_out(),
        };
        respond::with_cookie(answer, &Cookie::Session.clear(self.settings.issuer.is_https()))
    }

    fn ask_to_leave(&mut self, request: &Request<Bytes>, leave: &Leave) -> Answer {
        let (binding, fresh) = self.form_binding(request.headers());
        let proof = self.proof(&binding, "logout", &leave.query);
        let targets = leave.client.as_ref().map_or(vec![], |c| self.settings.form_targets(c));
        let page = pages::confirm_logout(&leave.query, &proof, &targets);
        let https = self.settings.issuer.is_https();
        if fresh { respond::with_cookie(page, &Cookie::Form.set(https, &binding, None)) } else { page }
    }
}

impl fmt::Debug for Logout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logout({} at {})", self.client, self.uri)
    }
}
