//! A browser: cookies, redirects across gateway and provider, and a person who fills in the provider's forms.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, bail};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use url::Url;
use weft_gateway::sso::{Access, Answer, Head, HttpClient, Identified, Sso, Who};

use crate::{
    provider::Foreign,
    world::{PORT, WIKI, World, http_client},
};

/// Cookies by origin and name; requests over the wire.
pub(crate) struct Web {
    http: HttpClient,
    jar: BTreeMap<(String, String), String>,
}

impl Web {
    pub(crate) fn new() -> Self {
        Self { http: http_client(), jar: BTreeMap::new() }
    }

    pub(crate) async fn send(&mut self, method: Method, url: &str, content_type: &str, body: &str) -> Result<Response<Vec<u8>>> {
        let origin = origin(&Url::parse(url)?);
        let request =
            Request::builder().method(method).uri(url).header(header::ACCEPT, "text/html, application/json").header(header::COOKIE, self.cookies(&origin));
        let request = request.header(header::CONTENT_TYPE, content_type).header(header::CONTENT_LENGTH, body.len());
        let answer = (self.http)(request.body(body.as_bytes().to_vec())?).await?;
        self.take(&origin, answer.headers());
        Ok(answer)
    }

    fn cookies(&self, origin: &str) -> String {
        self.jar.iter().filter(|((of, _), _)| of == origin).map(|((_, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take(&mut self, origin: &str, headers: &HeaderMap) {
        for cookie in headers.get_all(header::SET_COOKIE) {
            self.keep(origin, cookie);
        }
    }

    fn keep(&mut self, origin: &str, cookie: &HeaderValue) {
        let Some((pair, attributes)) = cookie.to_str().ok().map(|text| text.split_once(';').unwrap_or((text, ""))) else { return };
        let Some((name, value)) = pair.split_once('=') else { return };
        let key = (origin.to_owned(), name.to_owned());
        if value.is_empty() || attributes.contains("Max-Age=0") {
            self.jar.remove(&key);
        } else {
            self.jar.insert(key, value.to_owned());
        }
    }
}

/// What opening a page ends in.
pub(crate) enum Seen {
    App(String, Box<Identified>),
    Page(String, StatusCode, String),
}

pub(crate) struct Browser<P> {
    user: &'static str,
    provider: Arc<P>,
    sso: Arc<Sso>,
    wiki: Arc<Sso>,
    web: Web,
    /// How often a password was asked for.
    pub(crate) typed: usize,
    pub(crate) trail: Vec<String>,
}

impl<P: Foreign> Browser<P> {
    pub(crate) fn new(world: &World<P>, user: &'static str) -> Self {
        let (provider, sso, wiki) = (Arc::clone(&world.provider), Arc::clone(&world.sso), Arc::clone(&world.wiki));
        Self { user, provider, sso, wiki, web: Web::new(), typed: 0, trail: Vec::new() }
    }

    /// From now on to the gateway that there is now.
    pub(crate) fn follow(&mut self, world: &World<P>) {
        self.sso = Arc::clone(&world.sso);
    }

    /// Opens a page of an application, signing in on the way where that is asked for.
    pub(crate) async fn app(&mut self, url: &str) -> Result<Box<Identified>> {
        match self.open(url).await? {
            Seen::App(at, who) if at == url => Ok(who),
            Seen::App(at, _) => bail!("{at} instead of {url} after {:?}", self.trail),
            Seen::Page(at, status, html) => bail!("{status} at {at}: {html} after {:?}", self.trail),
        }
    }

    /// Opens a page of an application while the provider is away: gives the page that says so.
    pub(crate) async fn sent_away(&mut self, url: &str) -> Result<String> {
        let mut url = url.to_owned();
        // A browser would show its own page here; what comes back to the gateway meanwhile gets one of the gateway's.
        for _ in 0..10 {
            if url.starts_with(&self.provider.issuer()) {
                let sent = Url::parse(&url)?;
                let state = sent.query_pairs().find(|(name, _)| name == "state").context("no state")?.1.into_owned();
                url = format!("{}?code=none&state={state}", at(crate::world::PORTAL, "/.weft/callback"));
            }
            match self.step(&url).await? {
                Ok(next) => url = next,
                Err(Seen::Page(_, StatusCode::SERVICE_UNAVAILABLE, html)) => return Ok(html),
                Err(_) => bail!("not sent away: {:?}", self.trail),
            }
        }
        bail!("redirected without end: {:?}", self.trail)
    }

    pub(crate) async fn open(&mut self, url: &str) -> Result<Seen> {
        self.trail.clear();
        let mut url = url.to_owned();
        for _ in 0..40 {
            match self.step(&url).await? {
                Ok(next) => url = next,
                Err(seen) => return Ok(seen),
            }
        }
        bail!("redirected without end: {:?}", self.trail)
    }

    /// One page. `Ok`: where it leads.
    async fn step(&mut self, url: &str) -> Result<Result<String, Seen>> {
        self.trail.push(url.to_owned());
        let parsed = Url::parse(url)?;
        if parsed.scheme() == "http" {
            return self.at_provider(&parsed).await.map(Ok);
        }
        let answer = if parsed.path().starts_with("/.weft/") {
            self.weft(Method::GET, url, &[], b"").await
        } else {
            match self.who(url, Access::SignedIn).await {
                Who::Identified(who) => return Ok(Err(Seen::App(url.to_owned(), who))),
                Who::Answer(answer) => *answer,
                Who::Anonymous => bail!("anonymous at {url}"),
            }
        };
        self.web.take(&origin(&parsed), answer.headers());
        match answer.headers().get(header::LOCATION) {
            Some(to) => Ok(Ok(parsed.join(to.to_str()?)?.into())),
            None => Ok(Err(Seen::Page(url.to_owned(), answer.status(), String::from_utf8(answer.body().to_vec())?))),
        }
    }

    async fn at_provider(&mut self, url: &Url) -> Result<String> {
        let answer = self.web.send(Method::GET, url.as_str(), "text/plain", "").await?;
        if let Some(to) = answer.headers().get(header::LOCATION) {
            return Ok(url.join(to.to_str()?)?.into());
        }
        let html = String::from_utf8_lossy(answer.body()).into_owned();
        let provider = Arc::clone(&self.provider);
        let done = provider.at_page(&mut self.web, self.user, url.as_str(), &html).await?;
        self.typed += usize::from(done.typed_password);
        Ok(done.next)
    }

    /// Who the gateway takes a request to an application for.
    pub(crate) async fn who(&mut self, url: &str, access: Access) -> Who {
        let url = Url::parse(url).expect("an address");
        let headers = self.headers(&url, &[("sec-fetch-mode", "navigate")]);
        let head = Head { method: &Method::GET, host: url.host_str().expect("a host"), path: url.path(), query: url.query(), headers: &headers };
        let who = self.sso_of(&url).identify(&head, access).await;
        if let Who::Identified(who) = &who
            && let Some(cookie) = &who.set_cookie
        {
            self.web.keep(&origin(&url), cookie);
        }
        who
    }

    pub(crate) async fn ask(&mut self, url: &str) -> Option<Box<Identified>> {
        match self.who(url, Access::SignedIn).await {
            Who::Identified(who) => Some(who),
            _ => None,
        }
    }

    /// A path of the gateway's own.
    pub(crate) async fn weft(&mut self, method: Method, url: &str, fields: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let url = Url::parse(url).expect("an address");
        let headers = self.headers(&url, fields);
        let head = Head { method: &method, host: url.host_str().expect("a host"), path: url.path(), query: url.query(), headers: &headers };
        let answer = self.sso_of(&url).serve(&head, body).await.expect("a path of the gateway");
        self.web.take(&origin(&url), answer.headers());
        answer
    }

    pub(crate) fn ticket(&self, host: &str) -> Option<&String> {
        self.web.jar.get(&(at(host, ""), "__Host-weft".to_owned()))
    }

    /// As if this browser had never been there.
    pub(crate) fn forget(&mut self, host: &str) {
        self.web.jar.retain(|(of, _), _| *of != at(host, ""));
    }

    fn sso_of(&self, url: &Url) -> &Arc<Sso> {
        if url.host_str() == Some(WIKI) { &self.wiki } else { &self.sso }
    }

    fn headers(&self, url: &Url, fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let cookies = self.web.cookies(&origin(url));
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, cookies.parse().expect("cookies"));
        }
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// `https://HOST:8443PATH`.
pub(crate) fn at(host: &str, path: &str) -> String {
    format!("https://{host}:{PORT}{path}")
}
