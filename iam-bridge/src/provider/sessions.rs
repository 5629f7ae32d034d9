//! Logins that are remembered: found by a cookie, ended by time, by the person, or by whoever administers them.

use std::time::SystemTime;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use http::HeaderMap;
use zeroize::Zeroizing;

use super::{Logout, Provider, cookies::Cookie, random, seconds, sha256, unix};
use crate::{
    limits::provider as limits,
    store::{SessionRow, StoreError, UserRow},
};

/// A session that counts, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) session: SessionRow,
    pub(super) user: UserRow,
}

/// A login that was kept.
pub(super) struct Begun {
    pub(super) sid: String,
    /// The cookie's value.
    pub(super) secret: Zeroizing<String>,
}

impl Provider {
    /// The session of the browser that sent these headers.
    pub(super) fn live_session(&self, headers: &HeaderMap, now: SystemTime) -> Result<Option<Live>, StoreError> {
        for hash in self.cookie_hashes(headers) {
            if let Some(session) = self.people.session(&hash)?
                && let Some(live) = self.live(session, now)?
            {
                return Ok(Some(live));
            }
        }
        Ok(None)
    }

    /// The session of this number.
    pub(super) fn live_sid(&self, sid: &str, now: SystemTime) -> Result<Option<Live>, StoreError> {
        match self.people.session_of(sid)? {
            Some(session) => self.live(session, now),
            None => Ok(None),
        }
    }

    pub(super) fn cookie_hashes(&self, headers: &HeaderMap) -> Vec<[u8; 32]> {
        Cookie::Session.values(self.settings.issuer.is_https(), headers).map(|v| sha256(v.as_bytes())).collect()
    }

    /// Keeps a login whose password was right. The sessions that the browser had before are ended, or this is one of them going on.
    /// `None`: there are too many sessions.
    pub(super) fn begin_session(&mut self, user: &UserRow, had: &[[u8; 32]], now: SystemTime) -> Result<Option<Begun>, StoreError> {
        let mut goes_on = None;
        for hash in had {
            match self.people.session(hash)? {
                Some(session) if session.subject == user.subject && goes_on.is_none() => goes_on = Some(session.sid),
                Some(session) => self.end_session(&session, now)?,
                None => {}
            }
        }
        let secret = random::secret(&mut *self.random);
        let is_new = goes_on.is_none();
        let sid = goes_on.unwrap_or_else(|| random::id(&mut *self.random));
        let cookie_hash = sha256(secret.as_bytes());
        let session = SessionRow { sid: sid.clone(), cookie_hash, subject: user.subject.clone(), auth_at: unix(now), seen_at: unix(now) };
        if is_new && !self.make_room(user, now)? {
            return Ok(None);
        }
        let change = self.people.change()?;
        if is_new {
            change.add_session(&session)?;
        } else {
            change.renew_session(&session)?;
        }
        change.commit()?;
        Ok(Some(Begun { sid, secret }))
    }

    /// Notes that a session is used, now and then.
    pub(super) fn touch(&mut self, sid: &str, now: SystemTime) -> Result<(), StoreError> {
        let now = unix(now);
        let Some(session) = self.people.session_of(sid)? else { return Ok(()) };
        if now.saturating_sub(session.seen_at) < seconds(limits::SESSION_TOUCH) {
            return Ok(());
        }
        let change = self.people.change()?;
        change.touch_session(sid, now)?;
        change.commit()
    }

    /// With it ends all that it gave, and its clients are told.
    pub(super) fn end_session(&mut self, session: &SessionRow, now: SystemTime) -> Result<(), StoreError> {
        let logouts = self.logouts_of(session, now)?;
        let change = self.people.change()?;
        change.remove_session(&session.sid)?;
        change.commit()?;
        self.tell(logouts);
        Ok(())
    }

    /// For the clients that hold something of this session and want to know when it ends.
    pub(super) fn logouts_of(&mut self, session: &SessionRow, now: SystemTime) -> Result<Vec<Logout>, StoreError> {
        let mut clients: Vec<String> = self.people.grants_of(&session.sid)?.into_iter().map(|g| g.client).collect();
        clients.sort();
        clients.dedup();
        let clients: Vec<_> = clients.iter().filter_map(|id| self.settings.client(id)).collect();
        Ok(clients.iter().filter_map(|client| self.logout_token(client, session, now)).collect())
    }

    pub(super) fn tell(&mut self, logouts: Vec<Logout>) {
        for logout in logouts {
            if self.outbox.len() >= limits::LOGOUTS_MAX {
                tracing::warn!(client = logout.client, "too many logout tokens wait: the client learns of the end of a session when it refreshes");
                continue;
            }
            self.outbox.push(logout);
        }
    }

    /// What binds a form to a browser: the cookie's value, and whether the browser has to be given it.
    pub(super) fn form_binding(&mut self, headers: &HeaderMap) -> (Zeroizing<String>, bool) {
        match Cookie::Form.values(self.settings.issuer.is_https(), headers).next() {
            Some(value) => (Zeroizing::new(value.to_owned()), false),
            None => (random::secret(&mut *self.random), true),
        }
    }

    /// What a form must carry that this browser was given for this purpose and this request.
    pub(super) fn proof(&self, binding: &str, purpose: &str, request: &str) -> String {
        B64.encode(hmac::sign(&self.forms, signed(binding, purpose, request).as_bytes()))
    }

    pub(super) fn proves(&self, headers: &HeaderMap, purpose: &str, request: &str, proof: &str) -> bool {
        let Ok(proof) = B64.decode(proof) else { return false };
        Cookie::Form
            .values(self.settings.issuer.is_https(), headers)
            .any(|binding| hmac::verify(&self.forms, signed(binding, purpose, request).as_bytes(), &proof).is_ok())
    }

    fn live(&self, session: SessionRow, now: SystemTime) -> Result<Option<Live>, StoreError> {
        let now = unix(now);
        let alive = now < session.auth_at.saturating_add(seconds(self.settings.session_life))
            && now < session.seen_at.saturating_add(seconds(self.settings.session_idle));
        if !alive {
            return Ok(None);
        }
        let user = self.people.user_of(&session.subject)?.filter(|u| !u.disabled);
        Ok(user.map(|user| Live { session, user }))
    }

    /// Room for one more session of this user: their least recently used one goes for it. False: there is none, because of all others.
    fn make_room(&mut self, user: &UserRow, now: SystemTime) -> Result<bool, StoreError> {
        let (auth_before, seen_before) = (unix(now) - seconds(self.settings.session_life), unix(now) - seconds(self.settings.session_idle));
        let change = self.people.change()?;
        change.drop_stale_sessions(auth_before, seen_before)?;
        let count = change.count_sessions()?;
        change.commit()?;
        let own = self.people.sessions_of(&user.subject)?;
        for oldest in own.iter().take((own.len() + 1).saturating_sub(limits::SESSIONS_PER_USER_MAX)) {
            self.end_session(oldest, now)?;
        }
        Ok(count < limits::SESSIONS_MAX)
    }
}

/// None of the three has a blank in it: a cookie is base64, a purpose a word, a request form-encoded.
fn signed(binding: &str, purpose: &str, request: &str) -> String {
    format!("{binding} {purpose} {request}")
}
