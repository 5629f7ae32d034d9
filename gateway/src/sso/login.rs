//! The way in: `/.weft/start` and `/.weft/callback` on the auth host, `/.weft/enter` on an app host.
//!
//! A sign-in is bound to the browser that began it, twice: at the auth host by a cookie of the transaction, at the app host by a cookie whose hash goes along,
//! so that nobody can be signed in as somebody else by a link.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, Method, StatusCode};
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    limits,
    sso::{
        Sso,
        answer::{self, Answer, Page},
        claims::Person,
        cookie,
        exchange::Vouched,
        head::Head,
        identify::{crowd, transaction_cookie},
        opaque::{Opaque, OpaqueHash},
        place::Place,
        provider::{Provider, ProviderError},
        session::{Session, Tokens},
        sessions::End,
        store::StoreError,
        transaction::{Entry, Transaction},
    },
};

const CALLBACK: &str = "/.weft/callback";

impl Sso {
    /// Answers the paths of sign-on. `None`: the path is none of them. `body` is the whole body, of at most [`limits::FORM_MAX_BYTES`].
    pub async fn serve(self: &Arc<Self>, head: &Head<'_>, body: &[u8]) -> Option<Answer> {
        let path = head.path.strip_prefix("/.weft/")?;
        let at_auth_host = head.host == self.outside.auth_host;
        if body.len() > limits::FORM_MAX_BYTES {
            return Some(answer::empty(StatusCode::PAYLOAD_TOO_LARGE));
        }
        let method = head.method;
        let answer = match path {
            "start" | "callback" | "signed-out" if at_auth_host && method != Method::GET => answer::empty(StatusCode::METHOD_NOT_ALLOWED),
            "start" if at_auth_host => self.start(head).await,
            "callback" if at_auth_host => self.callback(head).await,
            "signed-out" if at_auth_host => self.signed_out(),
            "backchannel-logout" if at_auth_host && method == Method::POST => self.backchannel_logout(head, body).await,
            "enter" if !at_auth_host && method == Method::GET => self.enter(head).await,
            "logout" if method == Method::GET => self.ask_to_sign_out(),
            "logout" if method == Method::POST => self.sign_out(head, body).await,
            "backchannel-logout" | "enter" | "logout" => answer::empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => return None,
        };
        Some(answer)
    }

    /// Somebody comes to sign in, or is signed in already and goes on at once.
    async fn start(self: &Arc<Self>, head: &Head<'_>) -> Answer {
        let to = match head.query.map(|query| form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "to")) {
            Some(true) => head.field("to").and_then(|to| self.outside.parse(&to, &self.parts.has_routes)),
            _ => Some(Place::start(&self.outside.auth_host)),
        };
        let Some(to) = to else {
            let page = Page::new("This address is not one of ours", "The link that led here names a place that is not behind this gateway. Nothing was done.");
            return self.page(StatusCode::BAD_REQUEST, &page.link("To the start page", self.outside.auth("/")));
        };
        let bind = head.field("bind").and_then(|bind| OpaqueHash::parse(&bind));
        let now = self.now();
        match self.found(head, now).await {
            Ok(Some(found)) => return self.lead_back(&found.live.session(), to, bind, now),
            Ok(None) => {}
            Err(error) => return self.broken(head, &error),
        }
        let named = head.field("provider").and_then(|name| self.provider(&name));
        let provider = match (named, &self.providers()[..]) {
            (Some(provider), _) => provider,
            (None, [only]) => Arc::clone(only),
            (None, several) => return self.choose(several, &to, bind),
        };
        self.send_to(&provider, head, to, bind, now).await
    }

    fn choose(&self, providers: &[Arc<Provider>], to: &Place, bind: Option<OpaqueHash>) -> Answer {
        let mut page = Page::new("How do you want to sign in?", "Choose where you have an account.");
        for provider in providers {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("to", &self.outside.url(to)).append_pair("provider", &provider.config.name);
            if let Some(bind) = bind {
                query.append_pair("bind", &bind.text());
            }
            page = page.link(&provider.config.title, self.outside.auth("/.weft/start?") + &query.finish());
        }
        self.page(StatusCode::OK, &page)
    }

    async fn send_to(self: &Arc<Self>, provider: &Arc<Provider>, head: &Head<'_>, to: Place, bind: Option<OpaqueHash>, now: u64) -> Answer {
        let counted = match self.count_loop(head, &to) {
            Ok(counted) => counted,
            Err(page) => return *page,
        };
        let (Ok(state), Ok(browser)) = (Opaque::generate(), Opaque::generate()) else { return answer::empty(StatusCode::SERVICE_UNAVAILABLE) };
        let begun = match provider.begin(state.reveal().to_string(), &self.outside.auth(CALLBACK), now).await {
            Ok(begun) => begun,
            Err(error) => return self.failed(&error, &to),
        };
        let name = transaction_cookie(state.hash());
        let transaction = Transaction {
            provider: provider.config.name.clone(),
            verifier: begun.verifier,
            nonce: begun.nonce,
            browser: browser.hash(),
            to,
            bind,
            used: false,
        };
        self.under_way().sign_ins.insert(state.hash(), transaction, now);
        let mut cookies = crowd(head);
        cookies.push(counted);
        cookies.push(cookie::set(&name, &cookie::Value::Secret(&browser), limits::TRANSACTION_SECONDS));
        answer::with_cookies(answer::redirect(&begun.url), cookies)
    }

    /// The provider has sent somebody back.
    async fn callback(self: &Arc<Self>, head: &Head<'_>) -> Answer {
        let now = self.now();
        let state = head.field("state").and_then(|state| Opaque::parse(state.as_bytes())).map(|state| state.hash());
        let Some(taken) = state.and_then(|state| self.take_sign_in(head, state, now)) else {
            let to = state.and_then(|state| self.under_way().sign_ins.get(state, now).map(|sign_in| sign_in.to.clone()));
            return self.go_on_or_explain(head, to, now).await;
        };
        let clear = cookie::set(&transaction_cookie(taken.state), &cookie::Value::Gone, 0);
        if let Some(error) = head.field("error") {
            return answer::with_cookies(self.provider_said(head, &error, taken.to, now).await, [clear]);
        }
        // A provider that names itself must be the one that was asked (RFC 9207 section 2.4).
        let asked = |provider: &Arc<Provider>| head.field("iss").is_none_or(|iss| iss == provider.config.issuer);
        let (Some(code), Some(provider)) = (head.field("code"), self.provider(&taken.provider).filter(asked)) else {
            return answer::with_cookies(self.go_on_or_explain(head, Some(taken.to), now).await, [clear]);
        };
        let answer = match provider.redeem(&code, (&taken.verifier, &taken.nonce), &self.outside.auth(CALLBACK), now).await {
            Ok(vouched) => match self.signed_in(head, vouched, now).await {
                Ok((session, ticket)) => answer::with_cookies(self.lead_back(&session, taken.to, taken.bind, now), ticket),
                Err(StoreError::TooMany) => {
                    let page = Page::new("Too many people are signed in", "No further session can be begun at the moment. Try again in a few minutes.");
                    self.page(StatusCode::SERVICE_UNAVAILABLE, &page.link("Try again", self.outside.url(&taken.to)))
                }
                Err(error) => self.broken(head, &error),
            },
            Err(error) => self.failed(&error, &taken.to),
        };
        answer::with_cookies(answer, [clear])
    }

    /// A sign-in is used once, by the browser that began it; whoever comes with another browser does not use it up.
    fn take_sign_in(&self, head: &Head<'_>, state: OpaqueHash, now: u64) -> Option<Taken> {
        let mut under_way = self.under_way();
        let sign_in = under_way.sign_ins.get(state, now).filter(|sign_in| !sign_in.used && holds(head, state, sign_in.browser))?;
        sign_in.used = true;
        Some(Taken {
            state,
            provider: sign_in.provider.clone(),
            verifier: std::mem::take(&mut sign_in.verifier),
            nonce: std::mem::take(&mut sign_in.nonce),
            to: sign_in.to.clone(),
            bind: sign_in.bind,
        })
    }

    /// Begins a session, or goes on with the one that another tab has just begun for the same person: one browser has one session.
    async fn signed_in(self: &Arc<Self>, head: &Head<'_>, vouched: Vouched, now: u64) -> Result<(Arc<Session>, Option<HeaderValue>), StoreError> {
        let before = self.found(head, now).await?.map(|found| found.live.session());
        let Vouched { person, tokens, ends_at } = vouched;
        if let Some(before) = before {
            if (&before.person.provider, &before.person.subject) == (&person.provider, &person.subject) {
                let refresh_at = Some(self.sessions.refresh_at(ends_at, now));
                let next = Session { person, tokens, refreshed_at: now, refresh_at, ..Session::clone(&before) };
                let kept = next.clone();
                if self.blocking(move |sessions| sessions.refreshed(next)).await? {
                    return Ok((Arc::new(kept), None));
                }
                return self.begin(head, kept.person, kept.tokens, ends_at, now).await;
            }
            let id = before.id;
            self.blocking(move |sessions| sessions.end(id, End::SignedOut)).await?;
        }
        self.begin(head, person, tokens, ends_at, now).await
    }

    async fn begin(
        &self,
        head: &Head<'_>,
        person: Person,
        tokens: Tokens,
        token_ends_at: Option<u64>,
        now: u64,
    ) -> Result<(Arc<Session>, Option<HeaderValue>), StoreError> {
        let agent = head.headers.get(http::header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()).unwrap_or_default();
        let host = head.host.to_owned();
        let (session, ticket) = self
            .blocking(move |sessions| {
                let session = sessions.begin(person, tokens, &agent, token_ends_at, now)?;
                let ticket = sessions.give_ticket(session.id, &host, now)?;
                Ok((session, ticket))
            })
            .await?;
        let cookie = cookie::set(cookie::TICKET, &cookie::Value::Secret(&ticket), session.ends_at.saturating_sub(now));
        tracing::info!(session = %session.id, provider = session.person.provider, "session begins");
        Ok((session, Some(cookie)))
    }

    /// To where somebody wanted to go: with a code, when that is an app host which has bound the sign-in to this browser.
    fn lead_back(&self, session: &Session, to: Place, bind: Option<OpaqueHash>, now: u64) -> Answer {
        let (false, Some(bind)) = (to.host == self.outside.auth_host, bind) else { return answer::redirect(&self.outside.url(&to)) };
        let Ok(code) = Opaque::generate() else { return answer::empty(StatusCode::SERVICE_UNAVAILABLE) };
        let enter = format!("{}/.weft/enter?code={}", self.outside.origin(&to.host), code.reveal().as_str());
        self.under_way().codes.insert(code.hash(), Entry { session: session.id, to, bind, used: false }, now);
        answer::redirect(&enter)
    }

    /// An app host takes a code for a ticket of its own.
    async fn enter(self: &Arc<Self>, head: &Head<'_>) -> Answer {
        let now = self.now();
        let code = head.field("code").and_then(|code| Opaque::parse(code.as_bytes())).map(|code| code.hash());
        let taken = code.and_then(|code| {
            let mut under_way = self.under_way();
            let entry = under_way.codes.get(code, now).filter(|entry| entry.to.host == head.host)?;
            let usable = !entry.used && holds(head, entry.bind, entry.bind);
            entry.used |= usable;
            Some((usable, entry.session, entry.to.clone(), entry.bind))
        });
        let Some((true, id, to, bind)) = taken else {
            return self.enter_without(head, taken.map(|(_, _, to, _)| to), now).await;
        };
        let host = head.host.to_owned();
        let given = self.blocking(move |sessions| {
            let Some(session) = sessions.get(id, now)? else { return Ok(None) };
            Ok(Some((sessions.give_ticket(id, &host, now)?, session.ends_at)))
        });
        let clear = cookie::set(&transaction_cookie(bind), &cookie::Value::Gone, 0);
        match given.await {
            Ok(Some((ticket, ends_at))) => {
                let ticket = cookie::set(cookie::TICKET, &cookie::Value::Secret(&ticket), ends_at.saturating_sub(now));
                answer::with_cookies(answer::redirect(&self.outside.url(&to)), [ticket, clear])
            }
            // It has ended in these few seconds: the address itself leads to sign in again.
            Ok(None) => answer::with_cookies(answer::redirect(&self.outside.url(&to)), [clear]),
            Err(error) => self.broken(head, &error),
        }
    }

    /// A code that is used, too old, or another browser's: with a session that is no matter, and without one the way begins anew.
    async fn enter_without(self: &Arc<Self>, head: &Head<'_>, to: Option<Place>, now: u64) -> Answer {
        let live = match self.found(head, now).await {
            Ok(found) => found.is_some(),
            Err(error) => return self.broken(head, &error),
        };
        if !live && cookie::transactions(head.headers).is_empty() && cookie::values(head.headers, cookie::LOOP).is_empty() {
            let text = "Signing in needs cookies, and the browser sent none. Allow cookies for this site, or open the page in the browser that you began to sign in with.";
            let page = Page::new("Your browser did not send the cookie of this sign-in", text).link("Try again", self.outside.url(&Place::start(head.host)));
            return self.page(StatusCode::BAD_REQUEST, &page);
        }
        answer::redirect(&self.outside.url(&to.unwrap_or_else(|| Place::start(head.host))))
    }

    /// A callback that belongs to no sign-in of this browser. Whoever is signed in goes on to where they wanted; nobody else gets in by it.
    async fn go_on_or_explain(self: &Arc<Self>, head: &Head<'_>, to: Option<Place>, now: u64) -> Answer {
        let to = to.unwrap_or_else(|| Place::start(&self.outside.auth_host));
        match self.found(head, now).await {
            Ok(Some(_)) => answer::redirect(&self.outside.url(&to)),
            Ok(None) => {
                let text = "It was begun too long ago, in another browser, or was finished already. Nothing is lost: sign in once more.";
                self.page(StatusCode::BAD_REQUEST, &Page::new("This sign-in cannot be finished", text).link("Sign in", self.outside.url(&to)))
            }
            Err(error) => self.broken(head, &error),
        }
    }

    async fn provider_said(self: &Arc<Self>, head: &Head<'_>, error: &str, to: Place, now: u64) -> Answer {
        if matches!(self.found(head, now).await, Ok(Some(_))) {
            return answer::redirect(&self.outside.url(&to));
        }
        let detail = head.field("error_description").unwrap_or(Cow::Borrowed(""));
        let detail: String = detail.chars().filter(|c| !c.is_control()).take(300).collect();
        let error: String = error.chars().filter(|c| !c.is_control()).take(100).collect();
        let text = format!("The identity provider answered \"{error}\". {detail}");
        self.page(StatusCode::FORBIDDEN, &Page::new("The identity provider did not sign you in", text).link("Try again", self.outside.url(&to)))
    }

    fn failed(&self, error: &ProviderError, to: &Place) -> Answer {
        tracing::warn!(%error, "somebody could not sign in");
        let again = self.outside.url(to);
        let (status, title, text) = match error {
            ProviderError::Unreachable { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The identity provider cannot be reached",
                "Whoever is signed in can go on working; new sign-ins have to wait until the provider answers again. Try again in a minute.".to_owned(),
            ),
            ProviderError::Refused { .. } => {
                (StatusCode::FORBIDDEN, "The identity provider did not accept this sign-in", "It may have taken too long. Try again.".to_owned())
            }
            ProviderError::Token { .. } => (
                StatusCode::BAD_GATEWAY,
                "The identity provider's answer is not accepted",
                "Nobody was signed in. Trying again will rarely help: tell the people who run this site.".to_owned(),
            ),
            ProviderError::Claims { source, .. } => {
                (StatusCode::FORBIDDEN, "The identity provider's answer is not accepted", format!("{source}. Tell the people who run this site."))
            }
        };
        self.page(status, &Page::new(title, text).link("Try again", again))
    }
}

struct Taken {
    state: OpaqueHash,
    provider: String,
    verifier: Zeroizing<String>,
    nonce: Zeroizing<String>,
    to: Place,
    bind: Option<OpaqueHash>,
}

/// Whether the browser has the cookie of this sign-in, under whichever of its values.
fn holds(head: &Head<'_>, name: OpaqueHash, expected: OpaqueHash) -> bool {
    cookie::values(head.headers, &transaction_cookie(name)).into_iter().filter_map(Opaque::parse).any(|secret| expected.is_of(&secret))
}
