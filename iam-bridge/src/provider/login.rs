//! The login form comes back: bound to the browser, rationed, and judged at the same cost whatever is wrong with it.

use std::{net::IpAddr, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};

use super::{
    Provider, Step,
    authorize::Ask,
    cookies::Cookie,
    limiter::Key,
    names::UserName,
    pages::{self, Problem},
    params::Params,
    password::{Password, Stored},
    respond,
    respond::Answer,
};
use crate::store::{StoreError, UserRow};

/// A login whose password is still to be looked at.
pub(crate) struct Pending {
    password: Password,
    /// Of the user, or of nobody: the work is the same.
    stored: Stored,
    user: Option<UserRow>,
    ask: Ask,
    typed: String,
    headers: HeaderMap,
    taken: [Key; 2],
    peer: IpAddr,
}

pub(crate) struct Checked {
    pending: Box<Pending>,
    fits: bool,
}

impl Pending {
    /// Some 30 ms of work, with 19 MiB of memory.
    pub(crate) fn check(self: Box<Self>) -> Checked {
        let fits = self.password.fits(&self.stored);
        Checked { pending: self, fits }
    }
}

impl Provider {
    pub(super) fn login(&mut self, request: &Request<Bytes>, peer: IpAddr, now: SystemTime) -> Result<Step, StoreError> {
        if let Some(refused) = self.foreign_form(request) {
            return Ok(Step::Answer(refused));
        }
        let mut form = match Params::form(request) {
            Ok(form) if form.repeated().is_empty() => form,
            Ok(_) => return Ok(page("The form has a field more than once.")),
            Err(error) => return Ok(page(&error.to_string())),
        };
        let ask = match Params::query(form.get("request").unwrap_or_default())
            .map_err(|e| super::authorize::Refusal::Page(e.to_string()))
            .and_then(|p| self.read_ask(&p))
        {
            Ok(ask) => ask,
            Err(refusal) => return Ok(Step::Answer(self.refuse(refusal))),
        };
        let typed = form.get("username").unwrap_or_default().trim().to_owned();
        if !self.proves(request.headers(), "login", &ask.query, form.get("proof").unwrap_or_default()) {
            return Ok(Step::Answer(self.login_form(request.headers(), &ask, &typed, Some(Problem::Stale))));
        }
        let taken = [Key::peer(peer), Key::user(&typed)];
        if let Err(wait) = self.limiter.take(taken[0], now).and_then(|()| self.limiter.take(taken[1], now)) {
            self.metrics.login(None);
            tracing::info!(target: "weft_audit", event = "login-limited", %peer, "too many failed logins");
            let form = self.login_form(request.headers(), &ask, &typed, Some(Problem::TooMany));
            return Ok(Step::Answer(respond::retry_after(form, wait)));
        }
        let user = match UserName::parse(&typed) {
            Ok(name) => self.people.user(name.as_str())?,
            Err(_) => None,
        };
        let stored = match &user {
            Some(user) => user.password.clone(),
            None => Stored::nobody(&mut *self.random),
        };
        let password = Password::typed(&form.take("password"));
        let headers = request.headers().clone();
        Ok(Step::Password(Box::new(Pending { password, stored, user, ask, typed, headers, taken, peer })))
    }

    pub(super) fn logged_in(&mut self, checked: Checked, now: SystemTime) -> Result<Answer, StoreError> {
        let Checked { pending, fits } = checked;
        let Pending { ask, user, typed, headers, peer, .. } = &*pending;
        // Meanwhile the user may have gone, been disabled, or given another password.
        let user = match user {
            Some(seen) if fits => self.people.user_of(&seen.subject)?.filter(|u| !u.disabled && u.password == seen.password),
            _ => None,
        };
        let Some(user) = user else {
            self.metrics.login(Some(false));
            // What was typed is not logged: it may be a password in the wrong field.
            let known = pending.user.as_ref().map_or("", |u| u.name.as_str());
            tracing::info!(target: "weft_audit", event = "login-refused", user = known, %peer, client = ask.client.id, "login refused");
            return Ok(self.login_form(headers, ask, typed, Some(Problem::Wrong)));
        };
        pending.taken.into_iter().for_each(|key| self.limiter.give_back(key));
        let had = self.cookie_hashes(headers);
        let Some(begun) = self.begin_session(&user, &had, now)? else {
            tracing::warn!(user = user.name, "there are too many sessions: a login is refused");
            return Ok(self.login_form(headers, ask, typed, Some(Problem::Busy)));
        };
        self.metrics.login(Some(true));
        tracing::info!(target: "weft_audit", event = "login", user = user.name, %peer, client = ask.client.id, "logged in");
        let answer = self.give_code(ask, &begun.sid, now)?;
        let cookie = Cookie::Session.set(self.settings.issuer.is_https(), &begun.secret, Some(self.settings.session_life));
        Ok(respond::with_cookie(answer, &cookie))
    }

    /// A form that another site sent. Browsers say with every form where it comes from.
    pub(super) fn foreign_form(&self, request: &Request<Bytes>) -> Option<Answer> {
        let ours = |origin: &http::HeaderValue| origin.as_bytes() == self.settings.issuer.as_str().as_bytes();
        let foreign = request.headers().get_all(header::ORIGIN).iter().any(|origin| !ours(origin));
        foreign.then(|| pages::refused(StatusCode::FORBIDDEN, "The form was sent by another site."))
    }

    /// The form again, where a password could not even be looked at.
    pub(super) fn busy(&mut self, pending: &Pending) -> Answer {
        pending.taken.into_iter().for_each(|key| self.limiter.give_back(key));
        self.login_form(&pending.headers, &pending.ask, &pending.typed, Some(Problem::Busy))
    }
}

fn page(words: &str) -> Step {
    Step::Answer(pages::refused(StatusCode::BAD_REQUEST, words))
}
