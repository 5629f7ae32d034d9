//! What is asked of a request's head here: whether a page is wanted, whether it is a preflight, and which fields its query holds.
//!
//! The head was vetted before: one Host, one normalised path. Nothing here takes a host, a path or an address from a header.

use std::borrow::Cow;

use http::{HeaderMap, Method, header};
use url::form_urlencoded;

/// A vetted request head.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    pub method: &'a Method,
    /// Lower-case, without a port.
    pub host: &'a str,
    /// Normalised, beginning with a slash.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
}

/// How a refusal has to look for the client to understand it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    Page,
    Grpc,
    Json,
}

impl Head<'_> {
    /// A preflight carries no credentials (Fetch standard, section 3.2.2), so nobody may be asked to sign in by it: it is answered from the route's rule.
    pub fn is_preflight(&self) -> bool {
        let has = |name: header::HeaderName| self.headers.contains_key(name);
        self.method == Method::OPTIONS && has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    pub(crate) fn wants(&self) -> Wants {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text("content-type").get(..16).is_some_and(|start| start.eq_ignore_ascii_case("application/grpc")) {
            return Wants::Grpc;
        }
        let page = match text("sec-fetch-mode") {
            "" => text("accept").to_ascii_lowercase().contains("text/html"),
            mode => mode.eq_ignore_ascii_case("navigate"),
        };
        let script = !text("x-requested-with").is_empty() || self.headers.contains_key(header::UPGRADE);
        if self.method == Method::GET && page && !script { Wants::Page } else { Wants::Json }
    }

    /// The first field of this name in the query; `None` also when there are several: which of them counts is not for their order to say.
    pub(crate) fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        field(self.query.unwrap_or_default().as_bytes(), name)
    }

    pub(crate) fn path_and_query(&self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }
}

/// One field of a form, `None` if it is absent or there more than once.
pub(crate) fn field<'a>(form: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let mut found = form_urlencoded::parse(form).filter(|(n, _)| n == name);
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, fields: &[(&'static str, &str)], expect: Wants) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let method: Method = method.parse().unwrap();
        let head = Head { method: &method, host: "a", path: "/", query: None, headers: &headers };
        assert_eq!(head.wants(), expect, "{method} {fields:?}");
    }

    #[test]
    fn only_a_page_navigation_is_sent_to_sign_in() {
        const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        check("GET", &[HTML], Wants::Page);
        check("GET", &[("sec-fetch-mode", "navigate"), ("accept", "*/*")], Wants::Page);
        check("GET", &[("sec-fetch-mode", "cors"), HTML], Wants::Json);
        check("GET", &[("sec-fetch-mode", "websocket")], Wants::Json);
        check("GET", &[("upgrade", "websocket"), HTML], Wants::Json);
        check("GET", &[("x-requested-with", "XMLHttpRequest"), HTML], Wants::Json);
        check("GET", &[("accept", "application/json")], Wants::Json);
        check("GET", &[("accept", "text/event-stream")], Wants::Json);
        check("GET", &[], Wants::Json);
        check("POST", &[("sec-fetch-mode", "navigate"), HTML], Wants::Json);
        check("HEAD", &[HTML], Wants::Json);
        check("POST", &[("content-type", "application/grpc")], Wants::Grpc);
        check("POST", &[("content-type", "application/grpc+proto")], Wants::Grpc);
        check("POST", &[("content-type", "application/grpc-web")], Wants::Grpc);
        check("POST", &[("content-type", "application/json")], Wants::Json);
    }

    #[test]
    fn a_preflight_is_one_only_with_all_of_its_signs() {
        let (options, get) = (Method::OPTIONS, Method::GET);
        let mut headers = HeaderMap::new();
        headers.insert("origin", "https://a".parse().unwrap());
        fn head(method: &Method, headers: &HeaderMap) -> bool {
            Head { method, host: "a", path: "/", query: None, headers }.is_preflight()
        }
        assert!(!head(&options, &headers));
        headers.insert("access-control-request-method", "PUT".parse().unwrap());
        assert!(head(&options, &headers));
        assert!(!head(&get, &headers));
    }

    #[test]
    fn a_field_that_is_there_twice_is_none() {
        assert_eq!(field(b"a=1&b=%20x&b2=3", "b").as_deref(), Some(" x"));
        assert_eq!(field(b"code=1&code=2", "code"), None);
        assert_eq!(field(b"", "code"), None);
    }
}
