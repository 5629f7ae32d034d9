//! The way out: by a person (here alone, or at the provider too), or by the provider over its back channel. Each ends the session everywhere at once.

use std::sync::Arc;

use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{
    limits,
    sso::{
        Sso,
        answer::{self, Answer, Page},
        cookie,
        head::{Head, field},
        jws::{self, JwsError},
        logout,
        sessions::End,
    },
};

impl Sso {
    /// A link cannot sign anybody out: it asks first.
    pub(crate) fn ask_to_sign_out(&self) -> Answer {
        let page = Page::new("Sign out?", "You will be signed out of every app behind this gateway, and of the identity provider where it offers that.");
        let page = Page { button: Some(("Sign out".to_owned(), "/.weft/logout".to_owned())), ..page };
        self.page(StatusCode::OK, &page.link("Stay signed in", self.outside.auth("/")))
    }

    /// `local=1` in the form leaves the provider's own session alone.
    pub(crate) async fn sign_out(self: &Arc<Self>, head: &Head<'_>, body: &[u8]) -> Answer {
        if !self.is_from_here(head) {
            return self
                .page(StatusCode::FORBIDDEN, &Page::new("Not signed out", "Another site asked for it.").link("Sign out", self.outside.auth("/.weft/logout")));
        }
        let now = self.now();
        let session = match self.found(head, now).await {
            Ok(found) => found.map(|found| found.live.session()),
            Err(error) => return self.broken(head, &error),
        };
        let mut to = self.outside.auth("/.weft/signed-out");
        if let Some(session) = session {
            let id = session.id;
            if let Err(error) = self.blocking(move |sessions| sessions.end(id, End::SignedOut)).await {
                return self.broken(head, &error);
            }
            let local = field(body, "local").as_deref() == Some("1");
            let provider = self.provider_of(&session).filter(|_| !local);
            to = provider.and_then(|provider| provider.logout_url(&session, &to)).unwrap_or(to);
        }
        answer::with_cookies(answer::redirect(&to), [cookie::TICKET, cookie::LOOP].map(gone))
    }

    pub(crate) fn signed_out(&self) -> Answer {
        let text = "Your session has ended in every app behind this gateway.";
        self.page(StatusCode::OK, &Page::new("You are signed out", text).link("Sign in again", self.outside.auth("/")))
    }

    /// A form of ours has our origin. A browser that says neither is none that could have a session here.
    fn is_from_here(&self, head: &Head<'_>) -> bool {
        let text = |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        match text(header::ORIGIN) {
            Some(origin) => origin == self.outside.origin(head.host) || origin == self.outside.origin(&self.outside.auth_host),
            None => matches!(text(header::HeaderName::from_static("sec-fetch-site")), Some("same-origin" | "none")),
        }
    }

    /// OpenID Connect Back-Channel Logout 1.0 section 2.5: 200 when the sessions have ended, 400 when the token is not believed.
    pub(crate) async fn backchannel_logout(self: &Arc<Self>, head: &Head<'_>, body: &[u8]) -> Answer {
        let form = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let Some(token) = field(body, "logout_token").filter(|_| form.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded")) else {
            return refused("a form with one logout_token is expected");
        };
        let now = self.now();
        let issuer = jws::claimed_issuer(&token).ok();
        let providers = self.providers();
        let Some(provider) = providers.iter().find(|provider| Some(&provider.config.issuer) == issuer.as_ref()) else {
            return refused("the logout token's issuer is not configured here");
        };
        let Ok(known) = provider.known(now).await else { return answer::empty(StatusCode::SERVICE_UNAVAILABLE) };
        let verified = match jws::verify(&token, &known.jwks) {
            Err(JwsError::UnknownKey) => match provider.newer(&known, now, limits::DISCOVERY_SPACING_SECONDS).await {
                Some(newer) => jws::verify(&token, &newer.jwks),
                None => Err(JwsError::UnknownKey),
            },
            other => other,
        };
        let checked = verified.map_err(|e| e.to_string()).and_then(|token| logout::check(&token, &provider.config, now).map_err(|e| e.to_string()));
        let out = match checked {
            Ok(out) => out,
            Err(problem) => return refused(&problem),
        };
        let name = provider.config.name.clone();
        let used = self.under_way().logouts.take(&name, &out.id, out.remember_until, now);
        match used {
            Ok(()) => {}
            Err(logout::LogoutError::Busy) => return answer::empty(StatusCode::SERVICE_UNAVAILABLE),
            Err(error) => return refused(&error.to_string()),
        }
        let (of, id) = (name.clone(), out.id.clone());
        match self.blocking(move |sessions| sessions.end_by_provider(&of, out.subject.as_deref(), out.sid.as_deref())).await {
            Ok(count) => {
                tracing::info!(provider = name, count, "the provider has signed somebody out");
                answer::empty(StatusCode::OK)
            }
            Err(error) => {
                self.under_way().logouts.give_back(&name, &id);
                self.broken(head, &error)
            }
        }
    }
}

fn gone(name: &str) -> HeaderValue {
    cookie::set(name, &cookie::Value::Gone, 0)
}

fn refused(problem: &str) -> Answer {
    tracing::warn!(problem, "a logout of the provider is refused");
    answer::json(StatusCode::BAD_REQUEST, &json!({"error": "invalid_request", "error_description": problem}))
}
