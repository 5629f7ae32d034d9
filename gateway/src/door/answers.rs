//! What the gateway itself answers about requests that reach no application: a page for people, JSON for programs, a status for gRPC.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use weft_http::{Body, Error, Refusal, Vetted, plain};
use weft_policy::{AccessReason, Contact, RequestDecision};
use weft_snapshot::Service;
use weft_types::FlowId;

use super::head_of;
use crate::{
    csrf,
    pages::{self, Brand, Denied, Fault, Frame, Kind, Problem, Reply, Retry, Trouble, Upstream},
    sso::{Answer, Identified, Page, Wants},
    world::World,
};

/// gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html).
const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;
const UNAVAILABLE: u8 = 14;

/// Who an answer is for, and what stands around it.
pub(super) struct To<'a> {
    pub(super) world: &'a World,
    pub(super) who: Option<&'a Identified>,
    pub(super) flow: FlowId,
}

/// What the sign-on answers. Its pages look like all others, so they need the same of the browser.
pub(super) fn of(world: &World, answer: Answer) -> Response<Body> {
    let is_page = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let mut response = answer.map(Body::full);
    if is_page {
        replace(response.headers_mut(), pages::headers(Kind::Page { form_targets: world.form_targets() }));
    }
    response
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Over plain HTTP; kept by browsers, method and body included (RFC 9110 section 15.4.9).
pub(super) fn moved(to: &str) -> Response<Body> {
    leading(StatusCode::PERMANENT_REDIRECT, to)
}

/// What comes next is a GET, whatever this was.
pub(super) fn see_other(to: &str) -> Response<Body> {
    let mut response = leading(StatusCode::SEE_OTHER, to);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn leading(status: StatusCode, to: &str) -> Response<Body> {
    let Ok(to) = HeaderValue::from_str(to) else { return empty(StatusCode::BAD_REQUEST) };
    let mut response = empty(status);
    response.headers_mut().insert(header::LOCATION, to);
    response
}

pub(super) fn page(world: &World, status: StatusCode, html: String) -> Response<Body> {
    with(status, pages::headers(Kind::Page { form_targets: world.form_targets() }), html)
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    with(status, pages::headers(Kind::Json), body.to_string())
}

fn with(status: StatusCode, headers: HeaderMap, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn replace(all: &mut HeaderMap, with: HeaderMap) {
    for (name, value) in with {
        if let Some(name) = name {
            all.insert(name, value);
        }
    }
}

fn grpc(status: u8, message: &str) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::from_str(message) {
        headers.insert("grpc-message", message);
    }
    response
}

/// Who sends such a head may misread anything but the plainest answer.
pub(super) fn refused(refusal: Refusal) -> Response<Body> {
    plain(refusal.status(), refusal.sentence())
}

/// Said where there is no policy, and so neither brand nor hosts.
pub(super) fn not_ready(head: &Vetted) -> Response<Body> {
    unavailable(None, head, "Not ready yet", "not_ready", "The gateway has no policy yet, or nothing is exposed. Try again in a moment.")
}

pub(super) fn internal() -> Response<Body> {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway has a fault of its own; its log says which")
}

pub(super) fn no_provider(world: &World, head: &Vetted) -> Response<Body> {
    let text = "No identity provider can be used at the moment. Tell the people who run this site.";
    unavailable(Some(world), head, "Nobody can sign in", "no_identity_provider", text)
}

fn unavailable(world: Option<&World>, head: &Vetted, title: &str, word: &str, text: &str) -> Response<Body> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = match (head_of(head).wants(), world) {
        (Wants::Page, Some(world)) => page(world, status, pages::sign_on(world.brand(), world.portal(), &Page::new(title, text))),
        (Wants::Page, None) => with(status, pages::headers(Kind::Page { form_targets: &[] }), pages::sign_on(&Brand::default(), "", &Page::new(title, text))),
        (Wants::Grpc, _) => grpc(UNAVAILABLE, text),
        (Wants::Json, _) => json_answer(status, &json!({"error": word, "message": text})),
    };
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// While it was under way, what had let it in ended.
pub(super) fn revoked(world: &World, wants: Wants) -> Response<Body> {
    const TEXT: &str = "While this was under way, what had let it in ended: the sign-in, a group, or the address. Open it again to see how things stand.";
    match wants {
        Wants::Page => page(world, StatusCode::FORBIDDEN, pages::sign_on(world.brand(), world.portal(), &Page::new("This has been closed", TEXT))),
        Wants::Grpc => grpc(PERMISSION_DENIED, TEXT),
        Wants::Json => json_answer(StatusCode::FORBIDDEN, &json!({"error": "revoked", "message": TEXT})),
    }
}

impl To<'_> {
    /// Runs with what stands around every page.
    fn framed<T>(&self, f: impl FnOnce(Frame<'_>) -> T) -> T {
        let csrf = self.who.and_then(|who| who.session.as_ref()).map(|session| csrf::token(session.id)).unwrap_or_default();
        let visitor = self.who.map(|who| &who.person);
        f(Frame { brand: self.world.brand(), portal: self.world.portal(), visitor, csrf: &csrf })
    }

    fn reply(&self, reply: Reply) -> Response<Body> {
        page(self.world, reply.status, reply.html)
    }

    pub(super) fn framed_page(&self, f: impl FnOnce(Frame<'_>) -> String) -> Response<Body> {
        page(self.world, StatusCode::OK, self.framed(f))
    }

    /// Nothing is at the address; whoever is signed in is told what they may open instead.
    pub(super) fn not_found(&self, head: &Vetted) -> Response<Body> {
        self.trouble(head_of(head).wants(), UNIMPLEMENTED, Trouble::NotFound { apps: &[] })
    }

    /// `again`: where the same is asked for once more, if it is a page.
    pub(super) fn failed(&self, wants: Wants, service: &Service, error: &Error, idempotent: bool, again: Option<&str>) -> Response<Body> {
        let ask = self.contacts(service);
        let upstream = Upstream {
            app: &service.title,
            owner: service.owner.as_str(),
            ask: &ask,
            status: error.status(),
            fault: Fault::of(error),
            retry: Retry::of(error, idempotent),
            again,
        };
        let mut response = self.trouble(wants, UNAVAILABLE, Trouble::Upstream(upstream));
        if error.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }

    fn trouble(&self, wants: Wants, code: u8, trouble: Trouble<'_>) -> Response<Body> {
        let flow = self.flow.to_string();
        self.framed(|frame| {
            let view = Problem { frame, trouble, flow: &flow };
            match wants {
                Wants::Page => self.reply(pages::problem(&view)),
                Wants::Grpc => grpc(code, "the reference is in the weft-flow header"),
                Wants::Json => {
                    let (status, body) = pages::problem_json(&view);
                    json_answer(status, &body)
                }
            }
        })
    }

    /// Who is refused learns which application it is, whose, what is missing, and whom to ask.
    pub(super) fn denied(&self, head: &Vetted, decision: &RequestDecision) -> Response<Body> {
        let flow = self.flow.to_string();
        let mut response = self.framed(|frame| {
            let view = Denied { frame, decision, method: head.method.as_str(), flow: &flow, apps: &[] };
            match head_of(head).wants() {
                Wants::Grpc => grpc(PERMISSION_DENIED, decision.reason.explain()),
                Wants::Page => self.reply(pages::denied(&view)),
                Wants::Json => {
                    let (status, body) = pages::denied_json(&view);
                    json_answer(status, &body)
                }
            }
        });
        if decision.reason == AccessReason::Method
            && let Ok(methods) = HeaderValue::from_str(&decision.methods.join(", "))
        {
            response.headers_mut().insert(header::ALLOW, methods);
        }
        response
    }

    /// The team that owns it.
    fn contacts(&self, service: &Service) -> Vec<Contact> {
        let teams = &self.world.index().snapshot().teams;
        let owner = teams.iter().find(|team| team.name == service.owner);
        owner.map(|team| Contact { team: team.name.clone(), lead: team.lead.clone(), contact: team.contact.clone(), group: None }).into_iter().collect()
    }
}
