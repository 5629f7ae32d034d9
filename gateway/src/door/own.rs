//! The gateway's own pages: the portal, sign-on below `/.weft/`, a person's sessions, and the keys of assertions.

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use weft_http::{Body, Request};
use weft_policy::Who as Asker;

use super::{Visit, answers, head_of, record::Story};
use crate::{
    identity::Identity,
    limits,
    sso::{Access, Head, Who},
    world::World,
};

pub(super) const BACK_CHANNEL: &str = "/.weft/backchannel-logout";
const KEYS: &str = "/.weft/jwks.json";

/// What lies at and below `/.weft`, on every host of ours.
pub(super) async fn answer(visit: &Visit<'_>, request: Request, story: &mut Story) -> Response<Body> {
    let host = request.head.host.name();
    if !visit.world.is_own_host(host) || Some(host) == visit.world.provider_host() {
        return answers::not_found(visit.world, &request.head, false);
    }
    let Some(identity) = visit.identity else { return answers::no_provider(&request.head) };
    let at_portal = host == visit.world.portal_host();
    if at_portal && request.head.path.as_str() == KEYS {
        return keys(identity, &request);
    }
    let head = (request.head.method.clone(), request.head.path.as_str().to_owned());
    match (head.0, head.1.as_str(), at_portal) {
        (Method::POST, BACK_CHANNEL, _) => {
            // From outside it is taken too: a provider outside the mesh posts there.
            sign_on(identity, visit.world, request, None).await.unwrap_or_else(|| answers::empty(StatusCode::NOT_FOUND))
        }
        (_, "/.weft/apps.json" | "/.weft/me.json", true) => portal(visit, request, story).await,
        _ => {
            let fallback = head_of(&request.head).wants();
            let _ = fallback;
            let not_found = answers::not_found(visit.world, &request.head, true);
            sign_on(identity, visit.world, request, None).await.unwrap_or(not_found)
        }
    }
}

/// The sign-on's own answers; `None`: the path is none of them. `host`: the one that is spoken for, where it is not the one that was asked.
pub(super) async fn sign_on(identity: &Identity, world: &World, request: Request, host: Option<&str>) -> Option<Response<Body>> {
    let Request { head, body, .. } = request;
    let body = match Limited::new(body, limits::FORM_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Some(answers::empty(StatusCode::PAYLOAD_TOO_LARGE)),
    };
    let own = head.host.name().to_owned();
    let head = Head { host: host.unwrap_or(&own), ..head_of(&head) };
    let _ = world;
    identity.sso.serve(&head, &body).await.map(answers::of)
}

/// For applications, which check assertions with them.
fn keys(identity: &Identity, request: &Request) -> Response<Body> {
    if request.head.method != Method::GET && request.head.method != Method::HEAD {
        return answers::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    answers::of(identity.assertions.jwks_answer())
}

/// The auth host beside `/.weft`: the launcher for whoever has signed in.
pub(super) async fn portal(visit: &Visit<'_>, request: Request, story: &mut Story) -> Response<Body> {
    let Some(identity) = visit.identity else { return answers::no_provider(&request.head) };
    let head = head_of(&request.head);
    if head.path != "/" && !head.path.starts_with("/.weft/") {
        return answers::not_found(visit.world, &request.head, true);
    }
    if !matches!(request.head.method, Method::GET | Method::HEAD) {
        let mut response = answers::empty(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let who = match identity.sso.identify(&head, Access::SignedIn).await {
        Who::Identified(who) => *who,
        Who::Anonymous => return answers::empty(StatusCode::UNAUTHORIZED),
        Who::Answer(answer) => return answers::of(*answer),
    };
    story.person(Some(&who));
    let asker = Asker::Person { name: &who.person.user, groups: &who.person.groups };
    let tiles = visit.world.index().portal(asker);
    let list: Vec<_> = tiles.iter().map(|t| json!({"service": t.service.name.to_string(), "title": t.title, "url": t.url, "owner": t.service.owner.to_string()})).collect();
    let mut response = answers::json_answer(StatusCode::OK, &json!({"user": who.person.user, "apps": list}));
    if let Some(cookie) = who.set_cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}
