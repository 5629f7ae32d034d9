//! What scripts of other origins are told, by the route's rule alone.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use weft_http::{Body, Vetted};
use weft_policy::{allowed_origin, preflight};
use weft_snapshot::{Cors, Route};

/// A preflight is answered by the route's rule alone: it carries nobody's session.
pub(super) fn answer(route: &Route, head: &Vetted) -> Response<Body> {
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = text(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let asked: Vec<&str> = asked.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"));
    let Some(granted) = preflight(route, text(header::ORIGIN), text(header::ACCESS_CONTROL_REQUEST_METHOD), &asked) else { return response };
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put(header::ACCESS_CONTROL_ALLOW_ORIGIN, granted.origin);
    put(header::ACCESS_CONTROL_ALLOW_METHODS, granted.method);
    if !granted.headers.is_empty() {
        put(header::ACCESS_CONTROL_ALLOW_HEADERS, &granted.headers.join(", "));
    }
    if granted.credentials {
        put(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    if granted.max_age_seconds > 0 {
        put(header::ACCESS_CONTROL_MAX_AGE, &granted.max_age_seconds.to_string());
    }
    response
}

/// The route's rule says who may read an answer, whatever the application says.
pub(super) fn mark(cors: &Cors, origin: Option<&str>, headers: &mut HeaderMap) {
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    headers.remove(header::ACCESS_CONTROL_ALLOW_CREDENTIALS);
    let Some(allowed) = origin.and_then(|origin| allowed_origin(cors, origin)) else { return };
    if let Ok(value) = HeaderValue::from_str(allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    }
    if cors.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if allowed != "*" {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
