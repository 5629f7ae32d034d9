//! The authorization endpoint: who asks, for what, and whether a session answers it already (OpenID Connect Core 1.0 section 3.1.2).

use std::{sync::Arc, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};

use super::{
    Client, Provider,
    codes::Code,
    cookies::Cookie,
    pages::{self, Problem},
    params::{Params, with_params},
    random,
    respond::{self, Answer},
    seconds,
    sessions::Live,
    sha256,
    token::IdHint,
    unix,
};
use crate::{limits::provider as limits, store::StoreError};

/// What may be asked for; a scope that is not known is passed over (section 3.1.2.1).
pub(super) const SCOPES: [&str; 4] = ["openid", "profile", "groups", "offline_access"];

/// An authorization request that is wholly in order.
pub(crate) struct Ask {
    pub(super) client: Arc<Client>,
    pub(super) redirect_uri: String,
    state: Option<String>,
    nonce: Option<String>,
    challenge: String,
    scope: String,
    prompt: Prompt,
    /// Seconds since the password was typed, at most.
    max_age: Option<i64>,
    pub(super) login_hint: Option<String>,
    /// Whom an ID token names that the client holds already.
    subject: Option<String>,
    /// The same, as a query: what the login form carries.
    pub(super) query: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prompt {
    /// No page may be shown.
    None,
    /// The password must be typed, whatever session there is.
    Login,
    IfNeeded,
}

/// An authorization request that is not in order.
pub(super) enum Refusal {
    /// Nobody registered the address, so nothing is sent there (RFC 6749 section 4.1.2.1).
    Page(String),
    /// The client is told.
    Back(Back),
}

pub(super) struct Back {
    redirect_uri: String,
    state: Option<String>,
    error: &'static str,
    description: String,
}

impl Provider {
    pub(super) fn authorize(&mut self, request: &Request<Bytes>, now: SystemTime) -> Result<Answer, StoreError> {
        let params = match *request.method() {
            Method::POST => Params::form(request),
            _ => Params::query(request.uri().query().unwrap_or_default()),
        };
        let ask = match params.map_err(|e| Refusal::Page(e.to_string())).and_then(|p| self.read_ask(&p)) {
            Ok(ask) => ask,
            Err(refusal) => return Ok(self.refuse(refusal)),
        };
        let live = self.live_session(request.headers(), now)?.filter(|live| ask.is_answered_by(live, now));
        match live {
            Some(live) => self.give_code(&ask, &live.session.sid, now),
            None if ask.prompt == Prompt::None => Ok(self.refuse(ask.back("login_required", "nobody is signed in, or not lately enough"))),
            None => Ok(self.login_form(request.headers(), &ask, ask.login_hint.as_deref().unwrap_or_default(), None)),
        }
    }

    /// Reads a request whose bounds are kept already.
    pub(super) fn read_ask(&self, params: &Params) -> Result<Ask, Refusal> {
        let page = |words: &str| Refusal::Page(words.to_owned());
        // Which of two is meant decides where an error may go, so that neither is.
        if let Some(name) = ["client_id", "redirect_uri"].into_iter().find(|name| params.repeated().contains(*name)) {
            return Err(Refusal::Page(format!("The request names {name} more than once.")));
        }
        let id = params.get("client_id").ok_or_else(|| page("The request does not say which app it comes from (client_id)."))?;
        let client = self.settings.client(id).ok_or_else(|| page("The app that sent you here is not registered (client_id)."))?;
        let redirect_uri = params.get("redirect_uri").ok_or_else(|| page("The request does not say where to return to (redirect_uri)."))?;
        if !client.redirect_uris.iter().any(|u| u == redirect_uri) {
            return Err(page("The address to return to is not registered for this app (redirect_uri)."));
        }
        // One that cannot be given back as it came is not given back.
        let state = params.get("state").filter(|s| s.len() <= limits::CARRIED_MAX_BYTES && !params.repeated().contains("state"));
        let back = |error, description: String| Refusal::Back(Back::new(redirect_uri, state, error, description));
        let prompt = check(params).and_then(|()| prompt(params.get("prompt"))).map_err(|(error, text)| back(error, text))?;
        let (challenge, max_age) = (challenge(params), max_age(params.get("max_age")));
        let scope = scope(params.get("scope").unwrap_or_default());
        Ok(Ask {
            challenge: challenge.map_err(|text| back("invalid_request", text))?,
            max_age: max_age.map_err(|text| back("invalid_request", text))?,
            scope: scope.ok_or_else(|| back("invalid_scope", "the scope must have openid in it".to_owned()))?,
            prompt,
            state: state.map(str::to_owned),
            nonce: params.get("nonce").map(str::to_owned),
            login_hint: params.get("login_hint").map(str::to_owned),
            subject: params.get("id_token_hint").map(|hint| self.read_hint(hint).map_or(String::new(), |h: IdHint| h.sub)),
            query: params.to_query(),
            redirect_uri: redirect_uri.to_owned(),
            client,
        })
    }

    /// Sends the browser back with a code.
    pub(super) fn give_code(&mut self, ask: &Ask, sid: &str, now: SystemTime) -> Result<Answer, StoreError> {
        self.touch(sid, now)?;
        let code = random::secret(&mut *self.random);
        let kept = Code {
            client: ask.client.id.clone(),
            redirect_uri: ask.redirect_uri.clone(),
            challenge: ask.challenge.clone(),
            nonce: ask.nonce.clone(),
            scope: ask.scope.clone(),
            sid: sid.to_owned(),
            expires_at: unix(now).saturating_add(seconds(limits::CODE_TTL)),
        };
        if !self.codes.add(sha256(code.as_bytes()), kept, now) {
            return Ok(self.refuse(ask.back("temporarily_unavailable", "too many logins are under way")));
        }
        let state = ask.state.as_deref().map(|s| ("state", s));
        // RFC 9207: the client sees whose answer this is.
        let params = [Some(("code", code.as_str())), state, Some(("iss", self.settings.issuer.as_str()))];
        Ok(respond::redirect(&with_params(&ask.redirect_uri, params.into_iter().flatten())))
    }

    /// The form, bound to this browser by a cookie.
    pub(super) fn login_form(&mut self, headers: &HeaderMap, ask: &Ask, name: &str, problem: Option<Problem>) -> Answer {
        let (binding, fresh) = self.form_binding(headers);
        let proof = self.proof(&binding, "login", &ask.query);
        let targets = self.settings.form_targets(&ask.client);
        let page = pages::login(&pages::Login { request: &ask.query, proof: &proof, name, problem, targets: &targets });
        let https = self.settings.issuer.is_https();
        if fresh { respond::with_cookie(page, &Cookie::Form.set(https, &binding, None)) } else { page }
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Answer {
        match refusal {
            Refusal::Page(words) => pages::refused(StatusCode::BAD_REQUEST, &words),
            Refusal::Back(back) => {
                let state = back.state.as_deref().map(|s| ("state", s));
                let error = [Some(("error", back.error)), Some(("error_description", back.description.as_str())), state];
                let params = error.into_iter().flatten().chain([("iss", self.settings.issuer.as_str())]);
                respond::redirect(&with_params(&back.redirect_uri, params))
            }
        }
    }
}

impl Ask {
    fn is_answered_by(&self, live: &Live, now: SystemTime) -> bool {
        // No time at all means anew, even within the same second (section 3.1.2.1).
        let recent = |max: i64| max > 0 && unix(now).saturating_sub(live.session.auth_at) <= max;
        self.prompt != Prompt::Login && self.max_age.is_none_or(recent) && self.subject.as_ref().is_none_or(|s| *s == live.session.subject)
    }

    pub(super) fn back(&self, error: &'static str, description: &str) -> Refusal {
        Refusal::Back(Back::new(&self.redirect_uri, self.state.as_deref(), error, description.to_owned()))
    }
}

impl Back {
    fn new(redirect_uri: &str, state: Option<&str>, error: &'static str, description: String) -> Self {
        Self { redirect_uri: redirect_uri.to_owned(), state: state.map(str::to_owned), error, description }
    }
}

type Wrong = (&'static str, String);

/// What is too much, and what is asked for in ways that are not offered.
fn check(params: &Params) -> Result<(), Wrong> {
    if !params.repeated().is_empty() {
        return Err(("invalid_request", "a parameter is given more than once".to_owned()));
    }
    if let Some(name) = ["state", "nonce", "login_hint"].into_iter().find(|name| params.get(name).is_some_and(|v| v.len() > limits::CARRIED_MAX_BYTES)) {
        return Err(("invalid_request", format!("{name} is longer than {} bytes", limits::CARRIED_MAX_BYTES)));
    }
    match params.get("response_type") {
        Some("code") => {}
        None => return Err(("invalid_request", "response_type is missing".to_owned())),
        Some(_) => return Err(("unsupported_response_type", "only the response type code is offered".to_owned())),
    }
    if params.get("request").is_some() {
        return Err(("request_not_supported", "request objects are not offered".to_owned()));
    }
    if params.get("request_uri").is_some() {
        return Err(("request_uri_not_supported", "request objects are not offered".to_owned()));
    }
    match params.get("response_mode") {
        None | Some("query") => Ok(()),
        Some(_) => Err(("invalid_request", "only the response mode query is offered".to_owned())),
    }
}

/// RFC 7636 section 4.3, with S256 alone: without a challenge or with a plain one, a stolen code would be worth something.
fn challenge(params: &Params) -> Result<String, String> {
    let challenge = params.get("code_challenge").ok_or("code_challenge is missing: PKCE is required")?;
    if params.get("code_challenge_method") != Some("S256") {
        return Err("code_challenge_method must be S256".to_owned());
    }
    match B64.decode(challenge) {
        Ok(hash) if hash.len() == 32 => Ok(challenge.to_owned()),
        _ => Err("code_challenge is no SHA-256 in base64url without padding".to_owned()),
    }
}

fn prompt(text: Option<&str>) -> Result<Prompt, Wrong> {
    let wrong = |text: &str| Err(("invalid_request", text.to_owned()));
    let words: Vec<&str> = text.unwrap_or_default().split(' ').filter(|w| !w.is_empty()).collect();
    if words.iter().any(|w| !["none", "login", "consent", "select_account"].contains(w)) {
        return wrong("prompt has a value that is not known");
    }
    match (words.contains(&"none"), words.len()) {
        (true, 1) => Ok(Prompt::None),
        (true, _) => wrong("prompt none goes with no other"),
        // Whoever types a password chooses an account; consent is never asked for.
        (false, _) if words.contains(&"login") || words.contains(&"select_account") => Ok(Prompt::Login),
        (false, _) => Ok(Prompt::IfNeeded),
    }
}

fn max_age(text: Option<&str>) -> Result<Option<i64>, String> {
    let Some(text) = text else { return Ok(None) };
    let age = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    age.map(Some).ok_or_else(|| "max_age is no number of seconds".to_owned())
}

/// `None`: openid is not in it.
fn scope(text: &str) -> Option<String> {
    let asked: Vec<&str> = text.split(' ').collect();
    let known: Vec<&str> = SCOPES.into_iter().filter(|s| asked.contains(s)).collect();
    known.contains(&"openid").then(|| known.join(" "))
}
