//! What scripts of other origins may ask of a route (Fetch standard, "CORS protocol"). A preflight carries nobody's session, so it is answered by
//! the route's rule alone, before anybody is asked to sign in; the request that follows is admitted like any other.

use weft_snapshot::{Cors, Route};

/// What the browser is told that may send the request it asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight<'a> {
    /// `Access-Control-Allow-Origin`. Where it is not `*` the answer depends on the origin, and must say so (`Vary: Origin`).
    pub origin: &'a str,
    /// `Access-Control-Allow-Credentials: true`, or nothing.
    pub credentials: bool,
    /// `Access-Control-Allow-Methods`: the one that was asked for.
    pub method: &'a str,
    /// `Access-Control-Allow-Headers`, in lower case.
    pub headers: &'a [String],
    /// `Access-Control-Max-Age`.
    pub max_age_seconds: u32,
}

/// The answer to a preflight with this `Origin`, `Access-Control-Request-Method` and `Access-Control-Request-Headers`; `None`: the browser is told nothing,
/// and so sends nothing.
pub fn preflight<'a>(route: &'a Route, origin: &str, method: &'a str, headers: &[&str]) -> Option<Preflight<'a>> {
    let cors = route.cors.as_ref()?;
    let origin = allowed_origin(cors, origin)?;
    let named = cors.methods.is_empty() || cors.methods.iter().any(|m| m.as_str() == method);
    let known = |asked: &&str| cors.headers.iter().any(|h| h.eq_ignore_ascii_case(asked.trim()));
    if !named || !route.admits_method(method) || !headers.iter().all(known) {
        return None;
    }
    Some(Preflight { origin, credentials: cors.credentials, method, headers: &cors.headers, max_age_seconds: cors.max_age_seconds })
}

/// What an answer to a request of this `Origin` is marked with; `None`: its script does not get to read it. Compared byte for byte, as the standard has it.
pub fn allowed_origin<'a>(cors: &'a Cors, origin: &str) -> Option<&'a str> {
    cors.origins.iter().find(|allowed| *allowed == "*" || *allowed == origin).map(String::as_str)
}
