//! Answers: JSON for clients, pages and redirects for browsers. Nothing of them is kept by anybody unless it is public.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::limits::provider as limits;

pub(super) type Answer = Response<Bytes>;

/// An answer that nobody keeps.
fn plain(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Not "no-referrer": browsers then say no origin with a form either, and it could not be checked.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

pub(super) fn json_of(status: StatusCode, value: &Value) -> Answer {
    let mut answer = plain(status, "application/json", value.to_string());
    answer.headers_mut().insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

/// What everybody may know, and keep for a while.
pub(super) fn public(value: &Value) -> Answer {
    let mut answer = plain(StatusCode::OK, "application/json", value.to_string());
    let age = format!("public, max-age={}", limits::PUBLIC_MAX_AGE.as_secs());
    answer.headers_mut().insert(header::CACHE_CONTROL, text(&age));
    answer.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    answer
}

/// RFC 6749 section 5.2.
pub(super) fn refused(status: StatusCode, error: &str, description: &str) -> Answer {
    json_of(status, &json!({ "error": error, "error_description": description }))
}

/// A page without a script. `targets`: where its form may lead a browser, besides the provider itself.
pub(super) fn page(status: StatusCode, body: String, style_hash: &str, targets: &[String]) -> Answer {
    let mut answer = plain(status, "text/html; charset=utf-8", body);
    let policy = format!("default-src 'none'; style-src 'sha256-{style_hash}'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'");
    let policy = targets.iter().fold(policy, |policy, target| format!("{policy} {target}"));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, text(&policy));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    answer
}

/// 303, so that a form that was posted is not posted again. `uri` is one that was registered.
pub(super) fn redirect(uri: &str) -> Answer {
    let mut answer = plain(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
    answer.headers_mut().insert(header::LOCATION, text(uri));
    answer
}

pub(super) fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "there is nothing here\n")
}

pub(super) fn method_not_allowed(allowed: &[Method]) -> Answer {
    let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "this is not done with this method\n");
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    answer.headers_mut().insert(header::ALLOW, text(&allowed.join(", ")));
    answer
}

pub(super) fn retry_after(mut answer: Answer, wait: Duration) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
    answer
}

pub(super) fn with_cookie(mut answer: Answer, cookie: &str) -> Answer {
    answer.headers_mut().append(header::SET_COOKIE, text(cookie));
    answer
}

pub(super) fn challenge(mut answer: Answer, value: &'static str) -> Answer {
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    answer
}

/// What is put here was encoded or comes from the configuration; anything else is left out rather than sent.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}
