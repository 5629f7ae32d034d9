//! A browser: cookies per host, redirects followed, pages shown. It keeps `__Host-` cookies only as browsers do.

use std::{collections::BTreeMap, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use url::Url;
use weft_gateway::sso::{Access, Answer, Head, Identified, Sso, Who};

use crate::{
    provider::Provider,
    world::{AUTH, PORT, World},
};

/// What a page navigation ends in.
#[derive(Debug)]
pub(crate) enum Seen {
    /// The application at this address, as this person.
    App(String, Box<Identified>),
    Page(StatusCode, String),
}

pub(crate) struct Browser {
    pub(crate) sso: Arc<Sso>,
    provider: Arc<Provider>,
    /// Host, name, value.
    pub(crate) jar: BTreeMap<(String, String), String>,
    pub(crate) keeps_cookies: bool,
    /// Addresses that were opened, in order.
    pub(crate) trail: Vec<String>,
}

impl Browser {
    pub(crate) fn new(world: &World) -> Self {
        Self { sso: Arc::clone(&world.sso), provider: Arc::clone(&world.provider), jar: BTreeMap::new(), keeps_cookies: true, trail: Vec::new() }
    }

    /// Opens a page and follows redirects to the end.
    pub(crate) async fn open(&mut self, url: &str) -> Seen {
        let mut url = url.to_owned();
        for _ in 0..60 {
            match self.step(&url).await {
                Ok(next) => url = next,
                Err(seen) => return *seen,
            }
        }
        panic!("redirected without end: {:?}", self.trail);
    }

    /// Opens a page that must be an application's.
    pub(crate) async fn app(&mut self, url: &str) -> Box<Identified> {
        match self.open(url).await {
            Seen::App(at, who) => {
                assert_eq!(at, url, "{:?}", self.trail);
                who
            }
            other => panic!("{url}: {other:?} after {:?}", self.trail),
        }
    }

    pub(crate) async fn page(&mut self, url: &str) -> (StatusCode, String) {
        match self.open(url).await {
            Seen::Page(status, html) => (status, html),
            other => panic!("{url}: {other:?}"),
        }
    }

    /// One request. `Ok`: where it is redirected to.
    pub(crate) async fn step(&mut self, url: &str) -> Result<String, Box<Seen>> {
        self.trail.push(url.to_owned());
        if url.starts_with(&self.provider.issuer()) {
            return if url.contains("/authorize") {
                Ok(self.provider.authorize(url))
            } else {
                Err(Box::new(Seen::Page(StatusCode::OK, "provider".to_owned())))
            };
        }
        let parsed = Url::parse(url).unwrap();
        let host = parsed.host_str().unwrap().to_owned();
        assert_eq!((parsed.scheme(), parsed.port()), ("https", Some(PORT)), "{url}");
        let answer = if parsed.path().starts_with("/.weft/") {
            self.weft(Method::GET, url, &[], b"").await
        } else {
            match self.ask(url, &[("sec-fetch-mode", "navigate")], Access::SignedIn).await {
                Who::Identified(who) => {
                    if let Some(cookie) = &who.set_cookie {
                        self.keep(&host, cookie);
                    }
                    return Err(Box::new(Seen::App(url.to_owned(), who)));
                }
                Who::Answer(answer) => *answer,
                Who::Anonymous => panic!("anonymous at {url}"),
            }
        };
        self.take(&host, &answer);
        match answer.headers().get(header::LOCATION) {
            Some(to) => Ok(to.to_str().unwrap().to_owned()),
            None => Err(Box::new(Seen::Page(answer.status(), String::from_utf8(answer.body().to_vec()).unwrap()))),
        }
    }

    /// One request to an application.
    pub(crate) async fn ask(&self, url: &str, fields: &[(&'static str, &str)], access: Access) -> Who {
        let url = Url::parse(url).unwrap();
        let headers = self.headers(url.host_str().unwrap(), fields);
        let head = Head { method: &Method::GET, host: url.host_str().unwrap(), path: url.path(), query: url.query(), headers: &headers };
        self.sso.identify(&head, access).await
    }

    /// One request to a path of the gateway's own.
    pub(crate) async fn weft(&self, method: Method, url: &str, fields: &[(&'static str, &str)], body: &[u8]) -> Answer {
        let url = Url::parse(url).unwrap();
        let headers = self.headers(url.host_str().unwrap(), fields);
        let head = Head { method: &method, host: url.host_str().unwrap(), path: url.path(), query: url.query(), headers: &headers };
        self.sso.serve(&head, body).await.expect("a path of the gateway")
    }

    fn headers(&self, host: &str, fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let cookies: Vec<String> = self.jar.iter().filter(|((of, _), _)| of == host).map(|((_, name), value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, cookies.join("; ").parse().unwrap());
        }
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    pub(crate) fn take<T>(&mut self, host: &str, answer: &Response<T>) {
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            self.keep(host, cookie);
        }
    }

    fn keep(&mut self, host: &str, cookie: &HeaderValue) {
        let text = cookie.to_str().unwrap();
        assert!(text.len() <= 4096, "a cookie of {} bytes", text.len());
        assert!(text.starts_with("__Host-") && text.contains("; Secure") && text.contains("; Path=/;") && !text.contains("Domain"), "{text}");
        let (pair, attributes) = text.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        let key = (host.to_owned(), name.to_owned());
        if attributes.ends_with("Max-Age=0") || !self.keeps_cookies {
            self.jar.remove(&key);
        } else {
            self.jar.insert(key, value.to_owned());
        }
    }

    pub(crate) fn ticket(&self, host: &str) -> Option<String> {
        self.jar.get(&(host.to_owned(), "__Host-weft".to_owned())).cloned()
    }

    pub(crate) fn set_ticket(&mut self, host: &str, ticket: &str) {
        self.jar.insert((host.to_owned(), "__Host-weft".to_owned()), ticket.to_owned());
    }
}

/// `https://HOST:8443PATH`.
pub(crate) fn at(host: &str, path: &str) -> String {
    format!("https://{host}:{PORT}{path}")
}

pub(crate) fn portal(path: &str) -> String {
    at(AUTH, path)
}
