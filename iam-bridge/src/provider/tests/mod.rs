//! The core, driven as a browser and a client would, with a clock that the tests hold.

mod authorize;
mod login;
mod logout;
mod outside;
mod token;
mod users;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{Method, Request, header};
use serde_json::Value;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::{Client, Issuer, NewUser, Provider, SecretHash, Settings, Step, random::System, respond::Answer, sha256};
use crate::{files::StateDir, store::People};

const ISSUER: &str = "https://id.apps.example";
const CALLBACK: &str = "https://portal.apps.example/.weft/callback";
const BYE: &str = "https://portal.apps.example/bye";
const SECRET: &str = "portal-secret-portal-secret-portal-secret";
const OTHER_SECRET: &str = "other-secret-other-secret-other-secret-o";
const VERIFIER: &str = "0123456789-0123456789-0123456789-0123456789";
/// Of every user.
const PASSWORD: &str = "correct horse battery";

/// A provider with two clients, and one browser.
struct World {
    dir: TempDir,
    provider: Option<Provider>,
    now: SystemTime,
    cookies: BTreeMap<String, String>,
    /// Sent with every request.
    headers: Vec<(header::HeaderName, String)>,
    peer: &'static str,
}

impl World {
    fn new() -> Self {
        let (dir, now) = (tempfile::tempdir().unwrap(), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let mut world = Self { dir, provider: None, now, cookies: BTreeMap::new(), headers: vec![], peer: "192.0.2.1" };
        world.restart();
        world
    }

    /// With alice, who is in sales.
    fn with_alice() -> Self {
        let mut world = Self::new();
        world.add("alice", &["sales"]);
        world
    }

    fn restart(&mut self) {
        self.provider = None;
        let state = StateDir::open(&self.dir.path().join("state")).unwrap();
        let client = |id: &str, secret: &str| {
            let host = format!("https://{id}.apps.example");
            Arc::new(Client {
                id: id.into(),
                secret: SecretHash::of(secret),
                redirect_uris: vec![format!("{host}/.weft/callback"), format!("{host}/cb?tenant=a")],
                post_logout_redirect_uris: vec![format!("{host}/bye")],
                backchannel_logout_uri: Some(format!("http://{id}.internal/backchannel")),
                origins: vec!["https://shop.elsewhere.example".into()],
            })
        };
        let settings = Settings {
            issuer: Issuer::parse(ISSUER).unwrap(),
            session_idle: Duration::from_secs(3600),
            session_life: Duration::from_secs(86_400),
            token_ttl: Duration::from_secs(300),
            clients: vec![client("portal", SECRET), client("other", OTHER_SECRET)],
        };
        let people = People::open(&state.file("bridge.db")).unwrap();
        self.provider = Some(Provider::open(&state, people, settings, Box::new(System), Arc::default(), self.now).unwrap());
    }

    fn provider(&mut self) -> &mut Provider {
        self.provider.as_mut().unwrap()
    }

    fn add(&mut self, name: &str, groups: &[&str]) {
        let now = self.now;
        let groups = groups.iter().map(|g| (*g).into()).collect();
        let new = NewUser { name: name.into(), groups, password: Some(Zeroizing::new(PASSWORD.into())) };
        assert!(self.provider().add_user(new, now).unwrap().1.is_none());
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn request(&self, method: Method, path: &str, form: Option<&[(&str, &str)]>) -> Request<Bytes> {
        let mut request = Request::builder().method(method).uri(path);
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = form.map(|f| form_urlencoded::Serializer::new(String::new()).extend_pairs(f).finish());
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        request.body(Bytes::from(body.unwrap_or_default())).unwrap()
    }

    fn send(&mut self, request: Request<Bytes>) -> Answer {
        let (peer, now) = (self.peer.parse().unwrap(), self.now);
        let answer = self.provider().handle(request, peer, now);
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.into(), value.into()),
            };
        }
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path, None);
        self.send(request)
    }

    fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::POST, path, Some(form));
        self.send(request)
    }

    /// What the login form that is shown for `path` would post.
    fn form(&mut self, path: &str, name: &str, password: &str) -> Vec<(String, String)> {
        let page = text(&self.get(path));
        let fields = [("request", hidden(&page, "request")), ("proof", hidden(&page, "proof")), ("username", name.into()), ("password", password.into())];
        fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
    }

    fn post_form(&mut self, form: &[(String, String)]) -> Answer {
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        self.post("/login", &form)
    }

    fn login(&mut self, name: &str) -> Answer {
        let form = self.form(&authorize(&[]), name, PASSWORD);
        self.post_form(&form)
    }

    /// A fresh code, by a login or by the session that is there.
    fn code(&mut self) -> String {
        let answer = self.get(&authorize(&[]));
        let answer = if answer.status() == 200 { self.login("alice") } else { answer };
        location(&answer).1["code"].clone()
    }

    fn redeem(&mut self, code: &str) -> Value {
        let answer = self.token(&redemption(code, &[]));
        assert_eq!(answer.status(), 200, "{}", text(&answer));
        json(&answer)
    }

    /// What a login gives.
    fn tokens(&mut self) -> Value {
        let code = self.code();
        self.redeem(&code)
    }

    fn refresh(&mut self, token: &Value) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap()), ("client_id", "portal"), ("client_secret", SECRET)])
    }

    /// A client has none of the browser's cookies.
    fn token(&mut self, form: &[(&str, &str)]) -> Answer {
        let cookies = std::mem::take(&mut self.cookies);
        let answer = self.post("/token", form);
        self.cookies = cookies;
        answer
    }

    fn userinfo(&mut self, token: &Value) -> Answer {
        let mut request = self.request(Method::GET, "/userinfo", None);
        let bearer = format!("Bearer {}", token.as_str().unwrap()).parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        self.send(request)
    }

    /// Whether the browser's session gives a code without a question.
    fn is_signed_in(&mut self) -> bool {
        let answer = self.get(&authorize(&[("prompt", Some("none"))]));
        location(&answer).1.contains_key("code")
    }

    /// The first half of a login alone.
    fn begin(&mut self, form: &[(String, String)]) -> Step {
        let form: Vec<(&str, &str)> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let request = self.request(Method::POST, "/login", Some(&form));
        let (peer, now) = (self.peer.parse().unwrap(), self.now);
        self.provider().begin(&request, peer, now)
    }
}

/// An authorization request in order, but for these changes; `None` leaves a parameter out.
fn authorize(changes: &[(&str, Option<&str>)]) -> String {
    let challenge = B64.encode(sha256(VERIFIER.as_bytes()));
    let mut params = BTreeMap::from([
        ("response_type", "code"),
        ("client_id", "portal"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid profile groups"),
        ("state", "the state"),
        ("nonce", "the nonce"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ]);
    for (name, value) in changes {
        match value {
            Some(value) => params.insert(name, value),
            None => params.remove(name),
        };
    }
    format!("/authorize?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish())
}

/// A code's redemption in order, but for these changes.
fn redemption<'a>(code: &'a str, changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut params = BTreeMap::from([
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("client_id", "portal"),
        ("client_secret", SECRET),
    ]);
    params.extend(changes.iter().copied());
    params.into_iter().collect()
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body().to_vec()).unwrap()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(answer.body()).unwrap()
}

/// Where a browser is sent, and with which parameters.
#[track_caller]
fn location(answer: &Answer) -> (String, BTreeMap<String, String>) {
    assert_eq!(answer.status(), 303, "{}", text(answer));
    let to = answer.headers()[header::LOCATION].to_str().unwrap();
    let (base, query) = to.split_once('?').unwrap_or((to, ""));
    (base.to_owned(), form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no field {name}: {page}"));
    rest.split_once('"').unwrap().0.replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// A token's claims, unchecked: the signature is the affair of `jwt`, and of the relying party that the tests over a socket have.
fn claims(token: &Value) -> Value {
    let part = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&B64.decode(part).unwrap()).unwrap()
}
