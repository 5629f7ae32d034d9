//! One request, from its vetted head to its answer: which route, who asks, may they, and then on to the application.
//!
//! Every request is judged by one revision of the policy from beginning to end, by the same functions that `weft can` asks.

mod answers;
mod forward;
mod own;
mod record;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use ipnet::IpNet;
use weft_http::{Body, Handler, Pool, Refusal, Request, Tcp, Vetted};
use weft_policy::{AccessReason, Admission, Request as Asked, Who as Asker, allowed_origin, preflight};
use weft_snapshot::{Access as RouteAccess, Route};
use weft_types::{FlowId, ServiceRef, builtin};

pub use record::{AccessLog, Teller};

use crate::{
    identity::{Identities, Identity},
    live::Live,
    metrics::{Metrics, Why},
    random,
    sso::{Access, Head, Identified, Who},
    world::{World, Worlds},
};
use record::Story;

/// What all connections share.
pub struct Gate {
    pub worlds: Worlds,
    pub identities: Arc<Identities>,
    pub pool: Arc<Pool<Tcp>>,
    pub backends: forward::Backends,
    pub live: Arc<Live>,
    pub teller: Arc<Teller>,
    pub metrics: Arc<Metrics>,
    pub trusted_proxies: Vec<IpNet>,
}

/// One public connection.
pub struct Door {
    pub gate: Arc<Gate>,
    pub peer: SocketAddr,
}

pub use forward::Backends;

/// A request on its way through the gate.
struct Visit<'a> {
    gate: &'a Arc<Gate>,
    world: &'a Arc<World>,
    identity: Option<&'a Arc<Identity>>,
    client: IpAddr,
    flow: FlowId,
}

impl Handler for Door {
    async fn handle(&self, request: Request) -> Response<Body> {
        let client = self.client(&request.head.headers);
        let flow = FlowId(random::bytes().map_or(0, u64::from_be_bytes));
        let mut story = Story::begin(&request.head, client, flow);
        let world = self.gate.worlds.borrow().clone();
        let identity = self.gate.identities.current();
        let response = match &world {
            None => answers::not_ready(&request.head),
            Some(world) => {
                let visit = Visit { gate: &self.gate, world, identity: identity.as_ref(), client, flow };
                visit.receive(request, &mut story).await
            }
        };
        self.gate.teller.told(story, response)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.gate.metrics.refused.get_or_create(&Why { reason: refusal.word() }).inc();
        answers::refused(refusal)
    }
}

impl Door {
    /// A proxy that is trusted says whom it speaks for; nobody else is asked.
    fn client(&self, headers: &HeaderMap) -> IpAddr {
        let trusted = |address: &IpAddr| self.gate.trusted_proxies.iter().any(|network| network.contains(address));
        let mut client = self.peer.ip().to_canonical();
        if self.gate.trusted_proxies.is_empty() {
            return client;
        }
        let said = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        let mut said: Vec<&str> = said.map(str::trim).collect();
        while trusted(&client) {
            match said.pop().and_then(|address| address.parse::<IpAddr>().ok()) {
                Some(before) => client = before.to_canonical(),
                None => break,
            }
        }
        client
    }
}

impl Visit<'_> {
    async fn receive(&self, request: Request, story: &mut Story) -> Response<Body> {
        let host = request.head.host.name().to_owned();
        let path = request.head.path.as_str().to_owned();
        story.revision = self.world.revision();
        if weft_types::url_path::is_own(&path) {
            story.own();
            return own::answer(self, request, story).await;
        }
        if Some(host.as_str()) == self.world.provider_host() {
            return self.to_provider(request, story).await;
        }
        if host == self.world.portal_host() {
            story.own();
            return own::portal(self, request, story).await;
        }
        match self.world.index().route(&host, &path) {
            Some(route) => self.judge(route, request, story).await,
            None => {
                let known = self.world.is_own_host(&host);
                self.deny(story, if known { AccessReason::NoRoute } else { AccessReason::NoHost });
                answers::not_found(self.world, &request.head, known)
            }
        }
    }

    async fn judge(&self, route: &Route, request: Request, story: &mut Story) -> Response<Body> {
        if let Some(service) = self.world.index().service(route.service) {
            story.of(&service.name, route.rule);
        }
        let head = head_of(&request.head);
        if head.is_preflight() && route.cors.is_some() {
            return cors_answer(route, &request.head);
        }
        let access = if route.access == RouteAccess::Public { Access::Public } else { Access::SignedIn };
        let who = match (self.identity, access) {
            (Some(identity), _) => identity.sso.identify(&head, access).await,
            (None, Access::Public) => Who::Anonymous,
            (None, Access::SignedIn) => {
                self.deny(story, AccessReason::SignIn);
                return answers::no_provider(&request.head);
            }
        };
        let identified = match who {
            Who::Identified(identified) => Some(*identified),
            Who::Anonymous => None,
            Who::Answer(answer) => {
                self.deny(story, AccessReason::SignIn);
                return answers::of(*answer);
            }
        };
        story.person(identified.as_ref());
        let asker = asker(identified.as_ref());
        let admission = self.world.index().admit(route, asker, request.head.method.as_str());
        if let Admission::Allow(_) = admission {
            story.reason = admission.reason();
            return self.pass_on(route, identified, request, story).await;
        }
        self.deny(story, admission.reason());
        let asked = Asked { who: asker, method: request.head.method.as_str(), host: request.head.host.name(), path: request.head.path.as_str() };
        let decision = self.world.index().explain_request(route, &asked, &admission);
        story.missing.clone_from(&decision.missing);
        answers::denied(self.world, &request.head, &decision, identified.as_ref(), self.flow)
    }

    /// To the application, and what it says back to whoever asked.
    async fn pass_on(&self, route: &Route, who: Option<Identified>, request: Request, story: &mut Story) -> Response<Body> {
        let Some(service) = self.world.index().service(route.service) else { return answers::not_found(self.world, &request.head, true) };
        let assertion = match (&who, self.identity) {
            (Some(who), Some(identity)) => match self.assertion(identity, who, &service.name) {
                Ok(assertion) => Some(assertion),
                Err(response) => return response,
            },
            _ => None,
        };
        let origin = request.head.headers.get(header::ORIGIN).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let to = forward::To {
            service,
            port: route.port,
            upstream: route.upstream,
            path: Some(route.upstream_path(request.head.path.as_str())).filter(|path| path != request.head.path.as_str()),
        };
        let mut response = self.forward(&to, who.as_ref(), assertion, request, story).await;
        let headers = response.headers_mut();
        crate::sso::strip_response(headers);
        if let Some(cookie) = who.and_then(|who| who.set_cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
        if let Some(cors) = &route.cors {
            mark_cors(cors, origin.as_deref(), headers);
        }
        response
    }

    fn assertion(&self, identity: &Identity, who: &Identified, audience: &ServiceRef) -> Result<HeaderValue, Response<Body>> {
        let about = crate::assertion::About { who, audience, flow: self.flow };
        identity.assertions.sign(&about, self.gate.identities.now()).map_err(|error| {
            tracing::error!(%error, "no assertion can be signed, so nothing is passed on");
            answers::internal()
        })
    }

    /// The local provider's pages are everybody's: its cookies are its own.
    async fn to_provider(&self, request: Request, story: &mut Story) -> Response<Body> {
        let Some((service, port)) = self.world.local_provider() else { return answers::not_found(self.world, &request.head, true) };
        story.of(&service.name, weft_types::RuleId(0));
        story.reason = AccessReason::OwnPage;
        let to = forward::To { service, port, upstream: weft_snapshot::Upstream::Http, path: None };
        let mut response = self.forward(&to, None, None, request, story).await;
        crate::sso::strip_response(response.headers_mut());
        response
    }

    fn deny(&self, story: &mut Story, reason: AccessReason) {
        story.reason = reason;
        self.gate.metrics.denied.get_or_create(&Why { reason: reason.as_str() }).inc();
    }
}

fn head_of(head: &Vetted) -> Head<'_> {
    Head { method: &head.method, host: head.host.name(), path: head.path.as_str(), query: head.path.query(), headers: &head.headers }
}

fn asker(identified: Option<&Identified>) -> Asker<'_> {
    identified.map_or(Asker::Anonymous, |who| Asker::Person { name: &who.person.user, groups: &who.person.groups })
}

/// A preflight is answered by the route's rule alone: it carries nobody's session.
fn cors_answer(route: &Route, head: &Vetted) -> Response<Body> {
    let text = |name: header::HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let asked = text(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let asked: Vec<&str> = asked.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"));
    let Some(granted) = preflight(route, text(header::ORIGIN), text(header::ACCESS_CONTROL_REQUEST_METHOD), &asked) else { return response };
    let mut put = |name: header::HeaderName, value: &str| {
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
fn mark_cors(cors: &weft_snapshot::Cors, origin: Option<&str>, headers: &mut HeaderMap) {
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

/// Answers the back channel, which only the identity provider's workload reaches.
#[derive(Clone)]
pub struct BackChannel {
    pub gate: Arc<Gate>,
}

impl Handler for BackChannel {
    async fn handle(&self, request: Request) -> Response<Body> {
        let identity = self.gate.identities.current();
        let world = self.gate.worlds.borrow().clone();
        let (Some(identity), Some(world)) = (identity, world) else { return answers::not_ready(&request.head) };
        if request.head.method != Method::POST || request.head.path.as_str() != own::BACK_CHANNEL {
            return answers::empty(StatusCode::NOT_FOUND);
        }
        own::sign_on(&identity, &world, request, Some(world.portal_host())).await.unwrap_or_else(|| answers::empty(StatusCode::NOT_FOUND))
    }
}

/// Leads from plain HTTP to HTTPS, and does nothing else.
#[derive(Clone)]
pub struct Redirect {
    pub worlds: Worlds,
}

impl Handler for Redirect {
    async fn handle(&self, request: Request) -> Response<Body> {
        let Some(world) = self.worlds.borrow().clone() else { return answers::not_ready(&request.head) };
        let host = request.head.host.name();
        if !world.is_own_host(host) {
            return answers::empty(StatusCode::NOT_FOUND);
        }
        answers::moved(&format!("{}{}", world.origin(host), request.head.path))
    }
}

/// Name of the gateway's own pages in log and metrics.
fn own_service() -> ServiceRef {
    builtin::gateway()
}

