//! One request, from its vetted head to its answer: which route, who asks, may they, and then on to the application.
//!
//! Every request is judged by one revision of the policy from beginning to end, by the same functions that `weft can` asks.

mod answers;
mod backends;
mod cors;
mod fit;
mod forward;
mod log;
mod others;
mod own;
mod reach;
mod record;
mod revocable;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Response, header};
use ipnet::IpNet;
use weft_http::{Body, Handler, Pool, Refusal, Request, Tcp, Vetted};
use weft_policy::{AccessReason, Admission, Request as Asked, Who as Asker};
use weft_snapshot::{Access as RouteAccess, Route, Upstream};
use weft_types::{FlowId, RuleId, ServiceId, ServiceRef};

pub use backends::Backends;
pub use log::AccessLog;
pub use others::{BackChannel, Redirect};
pub use reach::Reaches;
pub use record::Teller;

use crate::{
    assertion::AssertionError,
    identity::{Identities, Identity},
    listen::Place,
    live::{Held, Lease, Live},
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
    pub backends: Backends,
    pub reaches: Reaches,
    pub live: Arc<Live>,
    pub teller: Arc<Teller>,
    pub metrics: Arc<Metrics>,
    pub trusted_proxies: Vec<IpNet>,
}

/// One public connection.
pub struct Door {
    pub gate: Arc<Gate>,
    pub peer: SocketAddr,
    pub place: Arc<Place>,
}

/// A request on its way through the gate.
struct Visit<'a> {
    gate: &'a Arc<Gate>,
    world: &'a Arc<World>,
    identity: Option<&'a Arc<Identity>>,
    client: IpAddr,
    flow: FlowId,
}

impl Handler for Door {
    async fn handle(&self, mut request: Request) -> Response<Body> {
        if let Some(upgrade) = &mut request.upgrade {
            upgrade.hold(Arc::clone(&self.place));
        }
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
        let said = headers.get_all("x-forwarded-for").iter().flat_map(|value| value.to_str().unwrap_or_default().split(','));
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
                self.to(None).not_found(&request.head)
            }
        }
    }

    async fn judge(&self, route: &Route, request: Request, story: &mut Story) -> Response<Body> {
        if let Some(service) = self.world.index().service(route.service) {
            story.of(&service.name, route.rule);
        }
        let head = head_of(&request.head);
        if head.is_preflight() && route.cors.is_some() {
            story.reason = AccessReason::OwnPage;
            return cors::answer(route, &request.head);
        }
        let access = if route.access == RouteAccess::Public { Access::Public } else { Access::SignedIn };
        let who = match (self.identity, access) {
            (Some(identity), _) => identity.sso.identify(&head, access).await,
            (None, Access::Public) => Who::Anonymous,
            (None, Access::SignedIn) => {
                self.deny(story, AccessReason::SignIn);
                return answers::no_provider(self.world, &request.head);
            }
        };
        let identified = match who {
            Who::Identified(identified) => Some(*identified),
            Who::Anonymous => None,
            Who::Answer(answer) => {
                self.deny(story, AccessReason::SignIn);
                return answers::of(self.world, *answer);
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
        let mut response = self.to(identified.as_ref()).denied(&request.head, &decision);
        if let Some(cookie) = identified.and_then(|who| who.set_cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    /// To the application, and what it says back to whoever asked.
    async fn pass_on(&self, route: &Route, who: Option<Identified>, request: Request, story: &mut Story) -> Response<Body> {
        let Some(service) = self.world.index().service(route.service) else { return self.to(None).not_found(&request.head) };
        let assertion = match (&who, self.identity) {
            (Some(who), Some(identity)) => match self.assertion(identity, who, &service.name) {
                Ok(assertion) => Some(assertion),
                Err(error) => {
                    tracing::error!(%error, "no assertion can be signed, so nothing is passed on");
                    return answers::internal();
                }
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
        let on_behalf = forward::For { who: who.as_ref(), assertion, lease: Some(self.hold(service.id, who.as_ref(), &request.head)) };
        let mut response = self.forward(&to, on_behalf, request, story).await;
        let headers = response.headers_mut();
        crate::sso::strip_response(headers);
        if let Some(cookie) = who.and_then(|who| who.set_cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
        if let Some(cors) = &route.cors {
            cors::mark(cors, origin.as_deref(), headers);
        }
        response
    }

    fn hold(&self, service: ServiceId, who: Option<&Identified>, head: &Vetted) -> Lease {
        self.gate.live.hold(Held {
            session: who.and_then(|who| who.session.as_ref()).map(|session| session.id),
            person: who.map(|who| who.person.clone()),
            until: who.and_then(|who| who.until),
            method: head.method.to_string(),
            host: head.host.name().to_owned(),
            path: head.path.as_str().to_owned(),
            service,
            revision: self.world.revision(),
        })
    }

    fn assertion(&self, identity: &Identity, who: &Identified, audience: &ServiceRef) -> Result<HeaderValue, AssertionError> {
        let about = crate::assertion::About { who, audience, flow: self.flow };
        identity.assertions.sign(&about, self.gate.identities.now())
    }

    /// The local provider's pages are everybody's: its cookies are its own.
    async fn to_provider(&self, request: Request, story: &mut Story) -> Response<Body> {
        let Some((service, port)) = self.world.local_provider() else { return self.to(None).not_found(&request.head) };
        story.of(&service.name, RuleId(0));
        story.reason = AccessReason::OwnPage;
        let to = forward::To { service, port, upstream: Upstream::Http, path: None };
        let mut response = self.forward(&to, forward::For { who: None, assertion: None, lease: None }, request, story).await;
        crate::sso::strip_response(response.headers_mut());
        response
    }

    /// For whom an answer of our own is.
    fn to<'a>(&'a self, who: Option<&'a Identified>) -> answers::To<'a> {
        answers::To { world: self.world, who, flow: self.flow }
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
