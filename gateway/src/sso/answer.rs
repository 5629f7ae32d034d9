//! What the gateway itself answers: redirects, refusals that each kind of client understands, and pages that say what to do.
//!
//! Pages hold no script and no outside asset. How they look is a parameter; what they say is here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// An answer instead of a request to an application.
pub type Answer = Response<Bytes>;

/// What a page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub title: String,
    pub text: String,
    /// Where to go from here: label and address.
    pub links: Vec<(String, String)>,
    /// What can be done here: label, and the path that a form is posted to.
    pub button: Option<(String, String)>,
}

/// Makes HTML of a page. Everything in a page is text, to be escaped.
pub type Render = Arc<dyn Fn(&Page) -> String + Send + Sync>;

impl Page {
    pub(crate) fn new(title: &str, text: impl Into<String>) -> Self {
        Self { title: title.to_owned(), text: text.into(), links: Vec::new(), button: None }
    }

    pub(crate) fn link(mut self, label: &str, address: String) -> Self {
        self.links.push((label.to_owned(), address));
        self
    }
}

/// The plain rendering.
pub fn plain(page: &Page) -> String {
    let links: String = page.links.iter().map(|(label, to)| format!("<p><a href=\"{}\">{}</a></p>\n", escape(to), escape(label))).collect();
    let form = |(label, path): &(String, String)| format!("<form method=\"post\" action=\"{}\"><button>{}</button></form>\n", escape(path), escape(label));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title></head>\n<body><main>\n<h1>{title}</h1>\n<p>{}</p>\n{links}{}</main></body>\n</html>\n",
        escape(&page.text),
        page.button.as_ref().map(form).unwrap_or_default(),
        title = escape(&page.title),
    )
}

pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

pub(crate) fn page(status: StatusCode, html: String) -> Answer {
    let mut answer = base(status, Bytes::from(html));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    // Without one a form of ours would be posted with an origin of "null".
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'"));
    answer
}

/// See other: what comes next is a GET, whatever this was.
pub(crate) fn redirect(to: &str) -> Answer {
    let mut answer = base(StatusCode::SEE_OTHER, Bytes::new());
    // Addresses are ours or a provider's, percent-encoded by the URL type.
    if let Ok(to) = HeaderValue::try_from(to) {
        answer.headers_mut().insert(header::LOCATION, to);
    }
    answer
}

pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = base(status, Bytes::from(body.to_string()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// 401 for programs (RFC 6750 section 3).
pub(crate) fn unauthorized(error: &str, message: &str, sign_in: &str) -> Answer {
    let mut answer = json(StatusCode::UNAUTHORIZED, &json!({"error": error, "message": message, "sign_in": sign_in}));
    let challenge = match error {
        "sign_in_required" => HeaderValue::from_static("Bearer realm=\"weft\""),
        _ => HeaderValue::from_static("Bearer realm=\"weft\", error=\"invalid_token\""),
    };
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    answer
}

/// An answer without a message whose trailers are in its head (gRPC over HTTP/2, "Trailers-Only").
pub(crate) fn grpc(status: u8, message: &'static str) -> Answer {
    let mut answer = base(StatusCode::OK, Bytes::new());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer.headers_mut().insert("grpc-status", HeaderValue::from(u16::from(status)));
    answer.headers_mut().insert("grpc-message", HeaderValue::from_static(message));
    answer
}

pub(crate) fn empty(status: StatusCode) -> Answer {
    base(status, Bytes::new())
}

pub(crate) fn with_cookies(mut answer: Answer, cookies: impl IntoIterator<Item = HeaderValue>) -> Answer {
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// Nothing here may be kept by a cache, or tell the next site where somebody came from.
fn base(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_says_is_text() {
        let page = Page { button: Some(("<b>".to_owned(), "/a\"b".to_owned())), ..Page::new("<script>", "a & 'b'").link("<i>", "https://x/?a=\"".to_owned()) };
        let html = plain(&page);
        assert!(!html.contains("<script>") && !html.contains("<b>") && !html.contains("<i>"), "{html}");
        assert!(html.contains("a &amp; &#39;b&#39;") && html.contains("href=\"https://x/?a=&quot;\"") && html.contains("action=\"/a&quot;b\""), "{html}");
    }
}
