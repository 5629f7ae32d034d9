//! A person's browser: cookies per host, redirects followed, the provider's page passed at once.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, header};
use serde_json::json;
use url::Url;

use crate::{
    client::Answer,
    world::{PORT, World},
};

#[derive(Clone)]
pub(crate) struct Browser<'a> {
    world: &'a World,
    /// Host, name, value.
    pub(crate) jar: BTreeMap<(String, String), String>,
    /// Addresses that were opened, in order.
    pub(crate) trail: Vec<String>,
}

/// `https://HOST.corp.example:8443PATH`.
pub(crate) fn at(host: &str, path: &str) -> String {
    format!("https://{host}.corp.example:{PORT}{path}")
}

impl World {
    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser { world: self, jar: BTreeMap::new(), trail: Vec::new() }
    }

    /// Whoever signs in at the provider from now on.
    pub(crate) fn person(&self, user: &str, groups: &[&str]) {
        self.provider.set(|b| {
            let claims = json!({"sub": format!("id-of-{user}"), "preferred_username": user, "name": user, "email": format!("{user}@corp.example"), "email_verified": true,
                "groups": groups, "sid": format!("sid-of-{user}")});
            b.claims = claims.as_object().unwrap().clone();
        });
    }

    /// A browser in which this person has signed in, at the portal.
    pub(crate) async fn signed_in(&self, user: &str, groups: &[&str]) -> Browser<'_> {
        self.person(user, groups);
        let mut browser = self.browser();
        let seen = browser.open(&at("portal", "/")).await;
        assert_eq!(seen.status, 200, "{seen:?} after {:?}", browser.trail);
        browser
    }
}

impl Browser<'_> {
    /// Opens a page and follows redirects to the end.
    pub(crate) async fn open(&mut self, url: &str) -> Answer {
        let mut url = url.to_owned();
        for _ in 0..30 {
            self.trail.push(url.clone());
            if url.starts_with(&self.world.provider.issuer()) {
                url = self.world.provider.authorize(&url);
                continue;
            }
            let answer = self.ask(Method::GET, &url, &[("sec-fetch-mode", "navigate"), ("accept", "text/html")], "").await;
            match answer.headers.get(header::LOCATION) {
                Some(to) => url = Url::parse(&url).unwrap().join(to.to_str().unwrap()).unwrap().to_string(),
                None => return answer,
            }
        }
        panic!("redirected without end: {:?}", self.trail);
    }

    /// One request, with this browser's cookies.
    pub(crate) async fn ask(&mut self, method: Method, url: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let cookies = self.cookies(url);
        let mut all = fields.to_vec();
        if !cookies.is_empty() {
            all.push(("cookie", &cookies));
        }
        let answer = self.world.ask(method, url, &all, body).await;
        self.take(url, &answer.headers);
        answer
    }

    /// As a script does it.
    pub(crate) async fn get(&mut self, url: &str) -> Answer {
        self.ask(Method::GET, url, &[], "").await
    }

    /// Posts a form, as a page of the same host does.
    pub(crate) async fn post(&mut self, url: &str, form: &str) -> Answer {
        let origin = Url::parse(url).unwrap().origin().ascii_serialization();
        let fields = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
        self.ask(Method::POST, url, &fields, form).await
    }

    pub(crate) fn cookies(&self, url: &str) -> String {
        let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
        let own = self.jar.iter().filter(|((of, _), _)| *of == host);
        own.map(|((_, name), value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    fn take(&mut self, url: &str, headers: &HeaderMap) {
        let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
        for cookie in headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
            let (name, value) = pair.split_once('=').unwrap();
            let key = (host.clone(), name.to_owned());
            if attributes.contains("Max-Age=0") {
                self.jar.remove(&key)
            } else {
                self.jar.insert(key, value.to_owned())
            };
        }
    }
}
