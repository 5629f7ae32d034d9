//! One request over one connection, and its response.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};
use tokio::time::{Instant, sleep_until};

use super::{shelf::Line, tap::Fate};
use crate::{
    Wire,
    body::{Body, Bounded},
    error::{Error, Fault, Retry, Side},
    fields,
    limits::PoolLimits,
    request::Request,
    upgrade::Upgrade,
    vet::Vetted,
};

/// No response, and the request if it is still whole.
pub(super) struct Broken {
    pub(super) error: Error,
    pub(super) request: Option<Box<Request>>,
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self { error, request: None }
    }
}

pub(super) async fn exchange(mut line: Line, request: Box<Request>, limits: &PoolLimits) -> Result<Response<Body>, Broken> {
    let Request { mut head, body, mut upgrade } = *request;
    let wire = if matches!(line, Line::One { .. }) { Wire::Http1 } else { Wire::Http2 };
    // Only a request that is all in its head can be sent again after it was sent.
    let spare = (head.is_idempotent() && body.is_end_stream()).then(|| head.headers.clone());
    let (body, fate) = Fate::of(body);
    let odd_body = has_odd_body(&head, &body);
    let outgoing = encode(&mut head, body, wire).map_err(|error| Error::new(Side::Internal, Fault::Internal, Retry::Never).because(error))?;
    // gRPC servers may keep their head back until they have something to say.
    let wait = if head.is_grpc() { limits.response_pace.window } else { limits.response_wait };
    let sent = match &mut line {
        Line::One { lease, .. } => await_head(lease.sender().try_send_request(outgoing), &fate, wait).await,
        Line::Many { sender, .. } => await_head(sender.try_send_request(outgoing), &fate, wait).await,
    };
    let response = match sent {
        Ok(response) => response,
        Err(Unanswered { error, message }) => {
            let request = match (message, spare) {
                (Some(message), _) => Some(restore(head, upgrade, *message)),
                (None, Some(headers)) => Some(Box::new(Request { head: Vetted { headers, ..head }, body: Body::empty(), upgrade })),
                (None, None) => None,
            };
            return Err(Broken { error, request });
        }
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switch(response, upgrade.take(), head.wire)?);
    }
    if head.websocket && head.wire == Wire::Http2 && response.status().is_success() {
        // To a client of HTTP/2 this would say that the WebSocket is open.
        return Err(Error::upstream(Fault::Malformed).into());
    }
    let (mut parts, incoming) = response.into_parts();
    fields::clean_response(&mut parts.headers)?;
    let body = Body::stream(Bounded::new(incoming, Side::Upstream, u64::MAX, limits.response_pace));
    if let Line::One { lease, .. } = &mut line {
        // An answer before the end of the request: what is still to be sent would be the upstream's next request.
        lease.clean = fate.has_ended() && !odd_body;
    }
    let body = body.coming_from(line);
    let mut response = Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    Ok(response)
}

/// Servers differ on whether these methods have a body. What one of them has not read must not be its next request.
fn has_odd_body(head: &Vetted, body: &Body) -> bool {
    !body.is_end_stream() && matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS)
}

fn encode(head: &mut Vetted, body: Body, wire: Wire) -> Result<http::Request<Body>, http::Error> {
    let host = head.host.to_string();
    let target = head.path.to_string();
    let mut headers = std::mem::take(&mut head.headers);
    let (uri, version) = match wire {
        Wire::Http1 => {
            headers.insert(header::HOST, HeaderValue::try_from(host)?);
            if head.websocket {
                ask_for_websocket(&mut headers);
            } else if has_odd_body(head, &body) {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            if !body.is_end_stream() && body.size_hint().exact().is_none() {
                headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            (Uri::try_from(target)?, Version::HTTP_11)
        }
        Wire::Http2 => {
            if head.trailers {
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
            (Uri::builder().scheme("http").authority(host).path_and_query(target).build()?, Version::HTTP_2)
        }
    };
    let mut request = http::Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    Ok(request)
}

/// RFC 6455 section 4.1. A client of HTTP/2 sends no key (RFC 8441 section 5), and its answer is not looked at: the key only keeps caches away.
fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
    if !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        let mut key = [0; 16];
        if rand::fill(&mut key).is_ok()
            && let Ok(value) = HeaderValue::from_str(&STANDARD.encode(key))
        {
            headers.insert(header::SEC_WEBSOCKET_KEY, value);
        }
    }
}

/// The request as it was before [`encode`].
fn restore(head: Vetted, upgrade: Option<Upgrade>, message: http::Request<Body>) -> Box<Request> {
    let (mut parts, body) = message.into_parts();
    for name in [header::HOST, header::CONNECTION, header::UPGRADE, header::TRANSFER_ENCODING, header::TE] {
        parts.headers.remove(name);
    }
    Box::new(Request { head: Vetted { headers: parts.headers, ..head }, body, upgrade })
}

/// No response, and what was to be sent if none of it was.
struct Unanswered {
    error: Error,
    message: Option<Box<http::Request<Body>>>,
}

async fn await_head<S>(sending: S, fate: &Fate, wait: Duration) -> Result<Response<Incoming>, Unanswered>
where
    S: Future<Output = Result<Response<Incoming>, TrySendError<http::Request<Body>>>>,
{
    let timer = sleep_until(Instant::now() + wait);
    tokio::pin!(sending, timer);
    loop {
        tokio::select! {
            biased;
            sent = &mut sending => return sent.map_err(|error| unanswered(error, fate)),
            () = &mut timer => {
                // An upload that moves is waited for.
                match fate.moved().map(|moved| moved + wait) {
                    Some(due) if due > Instant::now() => timer.as_mut().reset(due),
                    _ => return Err(Unanswered { error: Error::new(Side::Upstream, Fault::Timeout, Retry::IfIdempotent), message: None }),
                }
            }
        }
    }
}

fn unanswered(mut failed: TrySendError<http::Request<Body>>, fate: &Fate) -> Unanswered {
    if let Some(error) = fate.error() {
        return Unanswered { error, message: None };
    }
    let message = failed.take_message().map(Box::new);
    let error = Error::of_hyper(Side::Upstream, failed.into_error());
    Unanswered { error: if message.is_some() { error.with_retry(Retry::Safe) } else { error }, message }
}

/// Both sides become a WebSocket; anything else that an upstream switches to was not asked for.
fn switch(mut response: Response<Incoming>, upgrade: Option<Upgrade>, wire: Wire) -> Result<Response<Body>, Error> {
    let is_websocket = fields::has_element(response.headers(), header::UPGRADE, "websocket");
    let Some(upgrade) = upgrade.filter(|_| is_websocket) else {
        return Err(Error::upstream(Fault::Malformed));
    };
    upgrade.relay_to(hyper::upgrade::on(&mut response));
    let mut headers = std::mem::take(response.headers_mut());
    fields::strip(&mut headers, &[header::CONTENT_LENGTH]);
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = match wire {
        Wire::Http1 => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            StatusCode::SWITCHING_PROTOCOLS
        }
        // RFC 8441 section 5.1.
        Wire::Http2 => {
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            StatusCode::OK
        }
    };
    *answer.headers_mut() = headers;
    Ok(answer)
}
