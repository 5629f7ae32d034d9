//! The gateway's own pages: the portal, sign-on below `/.weft/`, a person's sessions, assets, and the keys of assertions.

use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use url::form_urlencoded;
use weft_http::{Body, Request, Vetted};
use weft_policy::Tile;

use super::{Visit, answers, asker, head_of, record::Story};
use crate::{
    csrf,
    identity::Identity,
    limits,
    pages::{self, App, Kind, Line, Portal, Sessions, paths},
    sso::{Access, End, Head, Identified, SessionId, Who},
    world::World,
};

pub(super) const BACK_CHANNEL: &str = "/.weft/backchannel-logout";
const KEYS: &str = "/.weft/jwks.json";

/// What lies at and below `/.weft`, on every host of ours.
pub(super) async fn answer(visit: &Visit<'_>, request: Request, story: &mut Story) -> Response<Body> {
    let host = request.head.host.name();
    let nobody = visit.to(None);
    if !visit.world.is_own_host(host) {
        return nobody.not_found(&request.head);
    }
    if let Some(name) = request.head.path.as_str().strip_prefix(paths::ASSETS) {
        return asset(visit.world, name, &request.head).unwrap_or_else(|| nobody.not_found(&request.head));
    }
    if Some(host) == visit.world.provider_host() {
        return nobody.not_found(&request.head);
    }
    let Some(identity) = visit.identity else { return answers::no_provider(visit.world, &request.head) };
    let at_portal = host == visit.world.portal_host();
    match request.head.path.as_str() {
        KEYS if at_portal => keys(visit.world, identity, &request),
        paths::APPS | paths::SESSIONS | paths::END_SESSION | paths::END_OTHERS if at_portal => portal(visit, request, story).await,
        _ => {
            let not_found = nobody.not_found(&request.head);
            sign_on(identity, visit.world, request, None).await.unwrap_or(not_found)
        }
    }
}

/// The sign-on's own answers; `None`: the path is none of them. `host`: the one that is spoken for, where it is not the one that was asked.
pub(super) async fn sign_on(identity: &Identity, world: &World, request: Request, host: Option<&str>) -> Option<Response<Body>> {
    let Request { head, body, .. } = request;
    let body = match form(body).await {
        Ok(body) => body,
        Err(response) => return Some(*response),
    };
    let own = head.host.name().to_owned();
    let head = Head { host: host.unwrap_or(&own), ..head_of(&head) };
    identity.sso.serve(&head, &body).await.map(|answer| answers::of(world, answer))
}

async fn form(body: Body) -> Result<bytes::Bytes, Box<Response<Body>>> {
    match Limited::new(body, limits::FORM_MAX_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(Box::new(answers::empty(StatusCode::PAYLOAD_TOO_LARGE))),
    }
}

/// For applications, which check assertions with them.
fn keys(world: &World, identity: &Identity, request: &Request) -> Response<Body> {
    if !is_read(&request.head) {
        return allow("GET, HEAD");
    }
    answers::of(world, identity.assertions.jwks_answer())
}

/// Style, script and pictures of our pages: the same for everybody, kept by browsers.
fn asset(world: &World, name: &str, head: &Vetted) -> Option<Response<Body>> {
    let asset = world.brand().asset(name)?;
    if !is_read(head) {
        return Some(allow("GET, HEAD"));
    }
    let known = head.headers.get(header::IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == asset.etag.as_bytes());
    let mut response = if known { answers::empty(StatusCode::NOT_MODIFIED) } else { Response::new(Body::full(asset.bytes.clone())) };
    *response.headers_mut() = pages::headers(if world.brand().is_logo(asset) { Kind::Logo(asset) } else { Kind::Asset(asset) });
    Some(response)
}

/// The auth host beside sign-on: the launcher and a person's sessions, for whoever has signed in.
pub(super) async fn portal(visit: &Visit<'_>, request: Request, story: &mut Story) -> Response<Body> {
    let Some(identity) = visit.identity else { return answers::no_provider(visit.world, &request.head) };
    let path = request.head.path.as_str().to_owned();
    let posted = matches!(path.as_str(), paths::END_SESSION | paths::END_OTHERS);
    if !matches!(path.as_str(), "/" | paths::APPS | paths::SESSIONS) && !posted {
        return visit.to(None).not_found(&request.head);
    }
    match (posted, is_read(&request.head), request.head.method == Method::POST) {
        (true, _, false) => return allow("POST"),
        (false, false, _) => return allow("GET, HEAD"),
        _ => {}
    }
    let who = match identity.sso.identify(&head_of(&request.head), Access::SignedIn).await {
        Who::Identified(who) => *who,
        Who::Anonymous => return answers::empty(StatusCode::UNAUTHORIZED),
        Who::Answer(answer) => return answers::of(visit.world, *answer),
    };
    story.person(Some(&who));
    let mut response = match path.as_str() {
        paths::APPS => reach(visit, &who).await,
        paths::SESSIONS => sessions(visit, identity, &who).await,
        paths::END_SESSION | paths::END_OTHERS => end_sessions(visit, identity, &who, request, path == paths::END_OTHERS).await,
        _ => launcher(visit, &who, request.head.path.query()),
    };
    if let Some(cookie) = who.set_cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

fn launcher(visit: &Visit<'_>, who: &Identified, query: Option<&str>) -> Response<Body> {
    let index = visit.world.index();
    let tiles = index.portal(asker(Some(who)));
    let apps: Vec<App<'_>> = tiles.iter().map(App::from).collect();
    let bookmarks = index.bookmarks(asker(Some(who)));
    let asked = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).find(|(name, _)| name == "q").map(|(_, value)| value).unwrap_or_default();
    visit.to(Some(who)).framed_page(|frame| pages::portal(&Portal { frame, apps: &apps, bookmarks: &bookmarks, query: &asked }))
}

/// Which of a person's apps answer, for the portal's script.
async fn reach(visit: &Visit<'_>, who: &Identified) -> Response<Body> {
    let tiles: Vec<Tile<'_>> = visit.world.index().portal(asker(Some(who)));
    let looked = futures::future::join_all(tiles.iter().map(|tile| async { (tile.route.rule, visit.gate.reaches.look(visit, tile.route).await) })).await;
    answers::json_answer(StatusCode::OK, &pages::apps_json(looked))
}

async fn sessions(visit: &Visit<'_>, identity: &Identity, who: &Identified) -> Response<Body> {
    let Some(this) = who.session.as_ref().map(|session| session.id) else { return answers::empty(StatusCode::FORBIDDEN) };
    let (all, person, now) = (identity.sso.sessions().clone(), who.person.clone(), visit.gate.identities.now());
    let listed = tokio::task::spawn_blocking(move || all.of(&person.provider, &person.subject, now)).await;
    let Ok(Ok(listed)) = listed else { return answers::internal() };
    let titles = &visit.world.gateway().providers;
    let title = |name: &str| titles.iter().find(|p| p.name == name && !p.title.is_empty()).map_or_else(|| name.to_owned(), |p| p.title.clone());
    let title = title(&who.person.provider);
    let lines: Vec<Line<'_>> = listed.iter().map(|one| Line::of(one, this, &title)).collect();
    visit.to(Some(who)).framed_page(|frame| pages::sessions(&Sessions { frame, sessions: &lines }))
}

/// One session of the person, or all others; a form of ours says so.
async fn end_sessions(visit: &Visit<'_>, identity: &Identity, who: &Identified, request: Request, others: bool) -> Response<Body> {
    let Some(this) = who.session.as_ref().map(|session| session.id) else { return answers::empty(StatusCode::FORBIDDEN) };
    let body = match form(request.body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let field = |name: &str| form_urlencoded::parse(&body).find(|(n, _)| n == name).map(|(_, value)| value.into_owned()).unwrap_or_default();
    if !csrf::fits(this, &field("csrf")) {
        return answers::empty(StatusCode::FORBIDDEN);
    }
    let one: Option<SessionId> = field("session").parse().ok();
    let (all, person, now) = (identity.sso.sessions().clone(), who.person.clone(), visit.gate.identities.now());
    let ended = tokio::task::spawn_blocking(move || {
        let ids: Vec<SessionId> = match (others, one) {
            (true, _) => all.of(&person.provider, &person.subject, now)?.iter().map(|listed| listed.session.id).filter(|id| *id != this).collect(),
            (false, one) => one.into_iter().collect(),
        };
        ids.into_iter().try_for_each(|id| all.end_own(&person, id, End::Revoked, now).map(drop))
    });
    match ended.await {
        Ok(Ok(())) => answers::see_other(&format!("{}{}", visit.world.portal(), paths::SESSIONS)),
        _ => answers::internal(),
    }
}

fn is_read(head: &Vetted) -> bool {
    matches!(head.method, Method::GET | Method::HEAD)
}

fn allow(methods: &'static str) -> Response<Body> {
    let mut response = answers::empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}
