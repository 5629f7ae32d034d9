//! What the gateway itself answers about requests that reach no application: a page for people, JSON for programs, a status for gRPC.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use weft_http::{Body, Error, Fault, Refusal, Retry, Vetted, plain};
use weft_policy::{AccessReason, RequestDecision};
use weft_snapshot::Service;
use weft_types::FlowId;

use super::head_of;
use crate::{
    sso::{Answer, Identified, Page, Wants},
    world::World,
};

/// gRPC status codes (grpc.github.io/grpc/core/md_doc_statuscodes.html).
const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;
const UNAVAILABLE: u8 = 14;

pub(super) fn of(answer: Answer) -> Response<Body> {
    answer.map(Body::full)
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Over plain HTTP; kept by browsers, method and body included (RFC 9110 section 15.4.9).
pub(super) fn moved(to: &str) -> Response<Body> {
    let mut response = empty(StatusCode::PERMANENT_REDIRECT);
    match HeaderValue::from_str(to) {
        Ok(to) => {
            response.headers_mut().insert(header::LOCATION, to);
            response
        }
        Err(_) => empty(StatusCode::BAD_REQUEST),
    }
}

pub(super) fn see_other(to: &str) -> Response<Body> {
    let mut response = moved(to);
    if response.status() == StatusCode::PERMANENT_REDIRECT {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// For whoever asks in whichever way: title and text of a page, word and text of a JSON answer, or a gRPC status.
struct Say<'a> {
    status: StatusCode,
    grpc: u8,
    title: &'a str,
    word: &'a str,
    text: &'a str,
}

impl Say<'_> {
    fn to(&self, wants: Wants) -> Response<Body> {
        match wants {
            Wants::Page => html(self.status, crate::sso::plain(&Page::new(self.title, self.text))),
            Wants::Grpc => grpc(self.grpc, self.text),
            Wants::Json => json_answer(self.status, &json!({"error": self.word, "message": self.text})),
        }
    }
}

pub(super) fn html(status: StatusCode, page: String) -> Response<Body> {
    with(status, "text/html; charset=utf-8", page)
}

pub(super) fn json_answer(status: StatusCode, body: &Value) -> Response<Body> {
    with(status, "application/json", body.to_string())
}

fn with(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"));
    response
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

/// Not by [`Say`]: who sends such a head may misread anything but the plainest answer.
pub(super) fn refused(refusal: Refusal) -> Response<Body> {
    plain(refusal.status(), refusal.sentence())
}

pub(super) fn not_ready(head: &Vetted) -> Response<Body> {
    let text = "The gateway has no policy yet, or nothing is exposed. Try again in a moment.";
    Say { status: StatusCode::SERVICE_UNAVAILABLE, grpc: UNAVAILABLE, title: "Not ready yet", word: "not_ready", text }.to(head_of(head).wants())
}

pub(super) fn internal() -> Response<Body> {
    plain(StatusCode::INTERNAL_SERVER_ERROR, "the gateway has a fault of its own; its log says which")
}

pub(super) fn no_provider(head: &Vetted) -> Response<Body> {
    let text = "Nobody can sign in at the moment: no identity provider can be used. Tell the people who run this site.";
    Say { status: StatusCode::SERVICE_UNAVAILABLE, grpc: UNAVAILABLE, title: "Nobody can sign in", word: "no_identity_provider", text }
        .to(head_of(head).wants())
}

pub(super) fn not_found(_world: &World, head: &Vetted, known: bool) -> Response<Body> {
    let text = if known { "Nothing is at this address. It may have moved, or the link is wrong." } else { "No application is at this host." };
    let word = if known { "no_route" } else { "no_host" };
    Say { status: StatusCode::NOT_FOUND, grpc: UNIMPLEMENTED, title: "Not found", word, text }.to(head_of(head).wants())
}

pub(super) fn failed(wants: Wants, service: &Service, error: &Error) -> Response<Body> {
    let status = error.status();
    let again = if error.retry() == Retry::Never && error.fault() != Fault::Connect { "" } else { " Trying again may help." };
    let what = match error.fault() {
        Fault::Connect | Fault::ConnectTimeout | Fault::Closed | Fault::Reset => "cannot be reached at the moment",
        Fault::Timeout => "did not answer in time",
        Fault::Busy => "has too much to do at the moment",
        Fault::Ended => "was asked while the gateway was stopping",
        Fault::TooLarge | Fault::Malformed if error.status().is_client_error() => "could not be given what was sent",
        _ => "gave an answer that cannot be passed on",
    };
    let text = format!("{} ({}) {what}.{again} It belongs to {}.", service.title, service.name, service.owner);
    let mut response = Say { status, grpc: UNAVAILABLE, title: "The application did not answer", word: "upstream", text: &text }.to(wants);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Who is refused learns which application it is, whose, what is missing, and whom to ask.
pub(super) fn denied(_world: &World, head: &Vetted, decision: &RequestDecision, who: Option<&Identified>, flow: FlowId) -> Response<Body> {
    let status = match decision.reason {
        AccessReason::Method => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = match head_of(head).wants() {
        Wants::Grpc => grpc(PERMISSION_DENIED, decision.reason.explain()),
        Wants::Page => html(status, crate::sso::plain(&Page::new("You may not open this", words(decision, who, flow)))),
        Wants::Json => json_answer(status, &for_programs(decision, flow)),
    };
    if decision.reason == AccessReason::Method
        && let Ok(methods) = HeaderValue::from_str(&decision.methods.join(", "))
    {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

fn for_programs(decision: &RequestDecision, flow: FlowId) -> Value {
    json!({
        "error": decision.reason.as_str(),
        "message": decision.nearest_miss.clone().unwrap_or_else(|| decision.reason.explain().to_owned()),
        "app": decision.app.as_ref().map(|app| app.service.to_string()),
        "owner": decision.app.as_ref().map(|app| app.owner.to_string()),
        "missing": decision.missing,
        "ask": decision.ask,
        "flow": flow.to_string(),
    })
}

fn words(decision: &RequestDecision, who: Option<&Identified>, flow: FlowId) -> String {
    let app = decision.app.as_ref().map_or_else(String::new, |app| format!("{} ({}) belongs to {}. ", app.title, app.service, app.owner));
    let you = who.map_or_else(String::new, |who| format!("You are signed in as {}. ", who.person.user));
    let change = decision.change.clone().map_or_else(String::new, |change| format!("To change that: {change}. "));
    format!("{app}{you}{}. {change}weft why {flow}", decision.reason.explain())
}
