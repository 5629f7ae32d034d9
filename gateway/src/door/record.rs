//! What is told of a request when it is over: a line of the access log, the metrics, and a flow that `weft why` explains.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Method, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use weft_api::agent::v1::{Flow, Request as FlowRequest};
use weft_http::{Body, Error, Vetted, Wire};
use weft_policy::AccessReason;
use weft_types::{FlowId, Revision, RuleId, ServiceRef, Verdict, builtin};

use super::{fit::mark_flow, log::AccessLog};
use crate::{
    agent::Reporter,
    limits,
    metrics::{self, Metrics, Of, Served},
    sso::Identified,
};

/// What is known of one request so far.
pub(super) struct Story {
    began: Instant,
    at: SystemTime,
    wire: Wire,
    method: Method,
    host: String,
    path: String,
    agent: String,
    client: IpAddr,
    flow: FlowId,
    pub(super) revision: Revision,
    service: Option<ServiceRef>,
    rule: RuleId,
    person: Option<(String, Vec<String>)>,
    pub(super) reason: AccessReason,
    pub(super) missing: Vec<String>,
    pub(super) backend: Option<SocketAddr>,
    /// Why an application did not answer.
    pub(super) detail: String,
}

/// Tells of requests that are over.
pub struct Teller {
    reporter: Reporter,
    log: AccessLog,
    metrics: Arc<Metrics>,
    allowed: Ration,
    denied: Ration,
}

/// So many a second.
#[derive(Default)]
struct Ration {
    /// Second, and how many were taken in it.
    state: Mutex<(u64, u32)>,
}

/// A line of the access log; docs/gateway.md names the fields.
#[derive(Serialize)]
struct Line<'a> {
    time_ms: u64,
    flow: String,
    client: IpAddr,
    user: Option<&'a str>,
    protocol: &'static str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    status: u16,
    bytes: u64,
    head_ms: f64,
    total_ms: f64,
    service: Option<String>,
    backend: Option<SocketAddr>,
    verdict: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    /// The answer broke off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
    agent: &'a str,
}

impl Story {
    pub(super) fn begin(head: &Vetted, client: IpAddr, flow: FlowId) -> Self {
        let agent = head.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            began: Instant::now(),
            at: SystemTime::now(),
            wire: head.wire,
            method: head.method.clone(),
            host: head.host.name().to_owned(),
            path: bounded(head.path.as_str()),
            agent: bounded(agent),
            client,
            flow,
            revision: Revision(0),
            service: None,
            rule: RuleId(0),
            person: None,
            reason: AccessReason::NoHost,
            missing: Vec::new(),
            backend: None,
            detail: String::new(),
        }
    }

    pub(super) fn of(&mut self, service: &ServiceRef, rule: RuleId) {
        (self.service, self.rule) = (Some(service.clone()), rule);
    }

    pub(super) fn own(&mut self) {
        (self.service, self.reason) = (Some(builtin::gateway()), AccessReason::OwnPage);
    }

    pub(super) fn person(&mut self, who: Option<&Identified>) {
        self.person = who.map(|who| (who.person.user.clone(), who.person.groups.clone()));
    }

    fn flow(&self, status: u16, bytes: u64) -> Flow {
        let (user, mut groups) = self.person.clone().unwrap_or_default();
        let mut bytes_left = limits::FLOW_GROUPS_MAX_BYTES;
        groups.retain(|group| match bytes_left.checked_sub(group.len()) {
            Some(left) => {
                bytes_left = left;
                true
            }
            None => false,
        });
        Flow {
            id: self.flow.to_string(),
            at_ms: i64::try_from(millis(self.at)).unwrap_or(i64::MAX),
            point: "gateway".to_owned(),
            verdict: self.reason.verdict().to_string(),
            reason: self.reason.as_str().to_owned(),
            revision: self.revision.0,
            rule: self.rule.0,
            source: if user.is_empty() { String::new() } else { format!("user:{user}") },
            destination: self.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            address: self.client.to_string(),
            protocol: "TCP".to_owned(),
            bytes_in: bytes,
            duration_us: u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX),
            detail: self.detail.clone(),
            request: Some(FlowRequest {
                user,
                groups,
                method: self.method.to_string(),
                host: self.host.clone(),
                path: self.path.clone(),
                status: u32::from(status),
                missing: self.missing.clone(),
            }),
            ..Flow::default()
        }
    }
}

impl Teller {
    pub fn new(reporter: Reporter, log: AccessLog, metrics: Arc<Metrics>) -> Self {
        Self { reporter, log, metrics, allowed: Ration::default(), denied: Ration::default() }
    }

    /// Counts an answer whose head is there, and tells of it when its body has ended.
    pub(super) fn told(self: &Arc<Self>, story: Story, mut response: Response<Body>) -> Response<Body> {
        let status = response.status().as_u16();
        let name = story.service.as_ref().map(ToString::to_string).unwrap_or_default();
        let head = story.began.elapsed();
        self.metrics.seconds.get_or_create(&Of { service: name.clone() }).observe(head.as_secs_f64());
        let served = Served { service: name, method: metrics::method(&story.method), status: metrics::class(status) };
        self.metrics.requests.get_or_create(&served).inc();
        mark_flow(response.headers_mut(), story.flow);
        // Nobody asks the body of an answer to HEAD for anything.
        let whole = response.body().is_end_stream() || story.method == Method::HEAD;
        let end = End { teller: Arc::clone(self), story, status, head_ms: head.as_secs_f64() * 1e3, bytes: 0, whole };
        if whole { response } else { response.map(|body| Body::stream(Told { body, end })) }
    }

    fn tell(&self, end: &End) {
        let story = &end.story;
        let verdict = story.reason.verdict();
        let now = millis(SystemTime::now()) / 1000;
        let ration = if verdict == Verdict::Allow { &self.allowed } else { &self.denied };
        if story.reason != AccessReason::OwnPage && ration.take(now) {
            self.reporter.tell(story.flow(end.status, end.bytes));
        }
        let line = Line {
            time_ms: millis(story.at),
            flow: story.flow.to_string(),
            client: story.client,
            user: story.person.as_ref().map(|(user, _)| user.as_str()),
            protocol: if story.wire == Wire::Http2 { "HTTP/2" } else { "HTTP/1.1" },
            method: story.method.as_str(),
            host: &story.host,
            path: &story.path,
            status: end.status,
            bytes: end.bytes,
            head_ms: rounded(end.head_ms),
            total_ms: rounded(story.began.elapsed().as_secs_f64() * 1e3),
            service: story.service.as_ref().map(ToString::to_string),
            backend: story.backend,
            verdict: if verdict == Verdict::Allow { "allow" } else { "deny" },
            reason: story.reason.as_str(),
            detail: &story.detail,
            cut: !end.whole,
            agent: &story.agent,
        };
        self.log.line(&line);
    }
}

impl Ration {
    fn take(&self, second: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 != second {
            *state = (second, 0);
        }
        state.1 += 1;
        state.1 <= limits::FLOWS_PER_SECOND
    }
}

/// Told when it is dropped: the body has ended, or nobody takes it any more.
struct End {
    teller: Arc<Teller>,
    story: Story,
    status: u16,
    head_ms: f64,
    bytes: u64,
    whole: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        self.teller.tell(self);
    }
}

/// A body that is counted.
struct Told {
    body: Body,
    end: End,
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.end.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.end.whole = self.body.is_end_stream() || frame.is_trailers();
            }
            Poll::Ready(None) => self.end.whole = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(text.len().min(limits::LOGGED_MAX_BYTES))].to_owned()
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}
