//! Who a request comes from: a person, nobody, or an answer instead.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use crate::{
    limits,
    sso::{
        Sso,
        answer::{self, Answer, Page},
        bearer::{self, BearerError},
        claims::Person,
        cookie,
        head::{Head, Wants},
        opaque::{Opaque, OpaqueHash},
        place::Place,
        provider::ProviderError,
        session::Session,
        sessions::Found,
        store::StoreError,
    },
};

/// What the route asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody; who is signed in is told to the application all the same.
    Public,
    /// Somebody who is signed in.
    SignedIn,
}

#[derive(Debug)]
pub enum Who {
    Identified(Box<Identified>),
    /// Nobody. Only for [`Access::Public`] and for preflights, which are answered from the route's rule.
    Anonymous,
    /// Send this instead of asking the application.
    Answer(Box<Answer>),
}

#[derive(Clone, Debug)]
pub struct Identified {
    pub person: Person,
    /// `None`: an API client with a bearer token, which the application must not see either.
    pub session: Option<Arc<Session>>,
    /// When the token of an API client ends, in Unix seconds; sessions end by themselves.
    pub until: Option<u64>,
    /// To be added to the response.
    pub set_cookie: Option<HeaderValue>,
}

impl Sso {
    /// Who asks. Never takes a header for somebody's name, and never takes two credentials at once.
    pub async fn identify(self: &Arc<Self>, head: &Head<'_>, access: Access) -> Who {
        if head.is_preflight() {
            return Who::Anonymous;
        }
        let now = self.now();
        let tickets = tickets(head);
        let providers = self.providers();
        let token = match bearer::token(head.headers) {
            // Beside a ticket, a token of somebody else's making is the application's own business.
            Ok(token) => token.filter(|token| tickets.is_empty() || bearer::issuer(token, &providers).is_ok()),
            Err(()) => return self.refuse(access, ambiguous("there are several bearer tokens")),
        };
        match (token, tickets.is_empty()) {
            (Some(_), false) => self.refuse(access, ambiguous("there is a bearer token and a session cookie")),
            (Some(token), true) => match bearer::person(token, &providers, now).await {
                Ok((person, until)) => Who::Identified(Box::new(Identified { person, session: None, until: Some(until), set_cookie: None })),
                Err(error) => self.refuse(access, self.bad_token(head, &error)),
            },
            (None, false) => match self.by_ticket(head, &tickets, now).await {
                Ok(Some(identified)) => Who::Identified(Box::new(identified)),
                Ok(None) => self.nobody(head, access),
                Err(error) => self.refuse(access, self.broken(head, &error)),
            },
            (None, true) => self.nobody(head, access),
        }
    }

    /// The live session of a request at its host, whichever of its cookies it is.
    pub(crate) async fn found(self: &Arc<Self>, head: &Head<'_>, now: u64) -> Result<Option<Found>, StoreError> {
        self.find(head.host, &tickets(head), now).await
    }

    async fn find(self: &Arc<Self>, host: &str, tickets: &[OpaqueHash], now: u64) -> Result<Option<Found>, StoreError> {
        for ticket in tickets.iter().copied() {
            if let Some(found) = self.sessions.find_in_memory(ticket, host, now) {
                return Ok(Some(found));
            }
            let host = host.to_owned();
            if let Some(found) = self.blocking(move |sessions| sessions.find(ticket, &host, now)).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn by_ticket(self: &Arc<Self>, head: &Head<'_>, tickets: &[OpaqueHash], now: u64) -> Result<Option<Identified>, StoreError> {
        let Some(found) = self.find(head.host, tickets, now).await? else { return Ok(None) };
        let Some(session) = self.fresh(Arc::clone(&found.live), now).await? else { return Ok(None) };
        let mut set_cookie = None;
        // A page's answer sets a cookie for sure; that of a picture may be thrown away, or kept by a cache.
        if head.wants() == Wants::Page && found.ticket_issued_at < session.refreshed_at {
            let host = head.host.to_owned();
            let rotated = self.blocking(move |sessions| sessions.rotate_ticket(&found, &host, now)).await?;
            set_cookie = rotated.map(|ticket| cookie::set(cookie::TICKET, &cookie::Value::Secret(&ticket), session.ends_at.saturating_sub(now)));
        }
        Ok(Some(Identified { person: session.person.clone(), session: Some(session), until: None, set_cookie }))
    }

    fn refuse(&self, access: Access, answer: Answer) -> Who {
        match access {
            Access::Public => Who::Anonymous,
            Access::SignedIn => Who::Answer(Box::new(answer)),
        }
    }

    fn nobody(&self, head: &Head<'_>, access: Access) -> Who {
        self.refuse(access, self.ask_to_sign_in(head))
    }

    /// A page navigation is led to sign in; a program is told that it has to.
    fn ask_to_sign_in(&self, head: &Head<'_>) -> Answer {
        match head.wants() {
            Wants::Page => self.lead_to_sign_in(head),
            Wants::Grpc => answer::grpc(16, "sign in, or send a bearer token"),
            Wants::Json => answer::unauthorized("sign_in_required", "sign in, or send a bearer token", &self.start_url(&Place::start(head.host), None)),
        }
    }

    fn lead_to_sign_in(&self, head: &Head<'_>) -> Answer {
        let to = Place::new(head.host, &head.path_and_query());
        if head.host == self.outside.auth_host {
            return answer::redirect(&self.start_url(&to, None));
        }
        let counted = match self.count_loop(head, &to) {
            Ok(counted) => counted,
            Err(page) => return *page,
        };
        let Ok(secret) = Opaque::generate() else { return answer::empty(StatusCode::SERVICE_UNAVAILABLE) };
        let bind = secret.hash();
        let mut cookies = crowd(head);
        cookies.push(counted);
        cookies.push(cookie::set(&transaction_cookie(bind), &cookie::Value::Secret(&secret), limits::TRANSACTION_SECONDS));
        answer::with_cookies(answer::redirect(&self.start_url(&to, Some(bind))), cookies)
    }

    /// Counts sign-ins that one browser begins at one host; too many of them lead nowhere, and a page says so.
    pub(crate) fn count_loop(&self, head: &Head<'_>, to: &Place) -> Result<HeaderValue, Box<Answer>> {
        let count = cookie::values(head.headers, cookie::LOOP).into_iter().filter_map(|value| std::str::from_utf8(value).ok()?.parse::<u32>().ok()).max();
        let count = count.unwrap_or(0).saturating_add(1);
        if count <= limits::LOOP_MAX {
            return Ok(cookie::set(cookie::LOOP, &cookie::Value::Count(count), limits::LOOP_SECONDS));
        }
        let text = "Signing in has led back here several times within a minute. Most often the browser does not keep the cookies of this site: allow them, \
                    close other tabs of this site, check that this computer's clock is right, and try again. If it stays so, tell the people who run this site.";
        let page = Page::new("Signing in goes round in circles", text).link("Try again", self.outside.url(to));
        let answer = self.page(StatusCode::BAD_REQUEST, &page);
        Err(Box::new(answer::with_cookies(answer, [cookie::set(cookie::LOOP, &cookie::Value::Gone, 0)])))
    }

    fn start_url(&self, to: &Place, bind: Option<OpaqueHash>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("to", &self.outside.url(to));
        if let Some(bind) = bind {
            query.append_pair("bind", &bind.text());
        }
        self.outside.auth("/.weft/start?") + &query.finish()
    }

    fn bad_token(&self, head: &Head<'_>, error: &BearerError) -> Answer {
        if let BearerError::Provider(ProviderError::Unreachable { .. }) = error {
            return answer::json(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"error": "provider_unavailable", "message": "the token cannot be checked at the moment"}),
            );
        }
        match head.wants() {
            Wants::Grpc => answer::grpc(16, "the bearer token is not accepted"),
            _ => answer::unauthorized("invalid_token", &error.to_string(), &self.start_url(&Place::start(head.host), None)),
        }
    }

    pub(crate) fn broken(&self, head: &Head<'_>, error: &StoreError) -> Answer {
        tracing::error!(%error, "sessions cannot be used");
        const MESSAGE: &str = "Sessions cannot be read or kept at the moment. Try again in a minute; if it stays so, tell the people who run this site.";
        match head.wants() {
            Wants::Page => self.page(StatusCode::SERVICE_UNAVAILABLE, &Page::new("Nobody can be recognised at the moment", MESSAGE)),
            Wants::Grpc => answer::grpc(14, MESSAGE),
            Wants::Json => answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": "sessions_unavailable", "message": MESSAGE})),
        }
    }

    pub(crate) fn page(&self, status: StatusCode, page: &Page) -> Answer {
        answer::page(status, (self.parts.render)(page))
    }
}

/// The cookie of one sign-in: tabs do not get in each other's way.
pub(crate) fn transaction_cookie(of: OpaqueHash) -> String {
    format!("{}{}", cookie::TRANSACTION_PREFIX, &of.text()[..12])
}

/// Clears the cookies of other sign-ins when there are too many, so that no header grows without bound.
pub(crate) fn crowd(head: &Head<'_>) -> Vec<HeaderValue> {
    let names = cookie::transactions(head.headers);
    if names.len() < limits::TRANSACTIONS_PER_BROWSER_MAX {
        return Vec::new();
    }
    names.into_iter().map(|name| cookie::set(name, &cookie::Value::Gone, 0)).collect()
}

fn tickets(head: &Head<'_>) -> Vec<OpaqueHash> {
    let values = cookie::values(head.headers, cookie::TICKET);
    values.into_iter().filter_map(Opaque::parse).take(limits::TICKETS_TRIED_MAX).map(|ticket| ticket.hash()).collect()
}

fn ambiguous(problem: &str) -> Answer {
    answer::json(StatusCode::BAD_REQUEST, &json!({"error": "ambiguous_credentials", "message": format!("{problem}: send one of them")}))
}
