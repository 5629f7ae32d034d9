//! On to an application: to the workload with the least to do, once more to another if the first does not take it, and the answer back as it comes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use weft_http::{Body, Endpoint, Error, Fault, Path, Request, Retry, Side, Vetted, Wire};
use weft_snapshot::{Service, Upstream};

use super::{Visit, answers, record::Story};
use crate::{
    assertion, limits,
    live::Held,
    metrics::Of,
    random,
    sso::Identified,
};

/// Where a request goes.
pub(super) struct To<'a> {
    pub(super) service: &'a Service,
    /// Service port.
    pub(super) port: u16,
    pub(super) upstream: Upstream,
    /// The application's path, where it is another one.
    pub(super) path: Option<String>,
}

/// Which workloads did not take a connection lately.
#[derive(Debug, Default)]
pub struct Backends {
    failed: Mutex<HashMap<SocketAddr, Instant>>,
    turn: AtomicUsize,
}

impl Backends {
    /// Those that took connections lately before the others; of these the one with the least to do.
    fn choose(&self, among: &[SocketAddr], not: Option<SocketAddr>, load: impl Fn(&SocketAddr) -> usize) -> Option<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed.is_empty() {
            failed.retain(|_, at| at.elapsed() < limits::BACKEND_PENALTY);
        }
        let count = among.len();
        let in_turn = (0..count).map(|i| among[(i + turn) % count]).filter(|address| Some(*address) != not);
        in_turn.min_by_key(|address| (failed.contains_key(address), load(address)))
    }

    fn has_failed(&self, address: SocketAddr) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Instant::now());
    }
}

impl Visit<'_> {
    pub(super) async fn forward(
        &self,
        to: &To<'_>,
        who: Option<&Identified>,
        assertion: Option<HeaderValue>,
        mut request: Request,
        story: &mut Story,
    ) -> Response<Body> {
        let held = Held {
            session: who.and_then(|who| who.session.as_ref()).map(|session| session.id),
            person: who.map(|who| who.person.clone()),
            method: request.head.method.to_string(),
            host: request.head.host.name().to_owned(),
            path: request.head.path.as_str().to_owned(),
            service: to.service.id,
            revision: self.world.revision(),
        };
        let wants = super::head_of(&request.head).wants();
        if let Err(response) = self.make_fit(to, who, assertion, &mut request.head) {
            return response;
        }
        // What becomes a WebSocket is registered before it is one.
        if let Some(upgrade) = &mut request.upgrade {
            let lease = self.gate.live.hold(held.clone());
            upgrade.revoked = lease.ended.clone();
            upgrade.hold(lease);
        }
        let began = Instant::now();
        let of = Of { service: to.service.name.to_string() };
        let response = self.send(to, request).await;
        self.gate.metrics.upstream_seconds.get_or_create(&of).observe(began.elapsed().as_secs_f64());
        match response {
            Ok((response, backend)) => {
                story.backend = Some(backend);
                self.watched(response, held)
            }
            Err(error) => {
                if error.side() != Side::Downstream {
                    self.gate.metrics.upstream_failures.get_or_create(&of).inc();
                    tracing::info!(service = of.service, %error, flow = %self.flow, "an application did not answer");
                }
                story.detail = error.to_string();
                answers::failed(wants, to.service, &error)
            }
        }
    }

    /// Long answers end when what let them in is gone.
    fn watched(&self, response: Response<Body>, held: Held) -> Response<Body> {
        use http_body::Body as _;
        let short = response.body().size_hint().upper().is_some_and(|bytes| bytes < limits::LIVE_MIN_BYTES);
        if short { response } else { response.map(|body| super::record::until_revoked(body, self.gate.live.hold(held))) }
    }

    /// The head as the application sees it.
    fn make_fit(&self, to: &To<'_>, who: Option<&Identified>, assertion: Option<HeaderValue>, head: &mut Vetted) -> Result<(), Response<Body>> {
        if let Some(path) = &to.path {
            head.path = Path::new(path, head.path.query()).map_err(|error| {
                tracing::error!(%error, path, "a rewritten path is none");
                answers::internal()
            })?;
        }
        assertion::hand_over(&mut head.headers, who, assertion);
        strip_claims(&mut head.headers);
        let host = head.host.to_string();
        say_who_asks(&mut head.headers, self.client, &host);
        trace(&mut head.headers);
        Ok(())
    }

    async fn send(&self, to: &To<'_>, mut request: Request) -> Result<(Response<Body>, SocketAddr), Error> {
        let wire = if to.upstream == Upstream::Http { Wire::Http1 } else { Wire::Http2 };
        let backends = self.world.backends(to.service, to.port);
        let load = |address: &SocketAddr| self.gate.pool.in_flight(&Endpoint { address: *address, wire });
        let mut before = None;
        loop {
            let Some(address) = self.gate.backends.choose(&backends, before, load) else {
                return Err(Error::new(Side::Upstream, Fault::Connect, Retry::Never));
            };
            let idempotent = request.head.is_idempotent();
            let failed = match self.gate.pool.send(&Endpoint { address, wire }, request).await {
                Ok(response) => return Ok((response, address)),
                Err(failed) => failed,
            };
            let unreached = matches!(failed.error.fault(), Fault::Connect | Fault::ConnectTimeout) && failed.error.side() == Side::Upstream;
            // A workload of another node that is gone takes the connection by its agent's word, and closes it.
            let closed = matches!(failed.error.fault(), Fault::Closed | Fault::Reset) && failed.error.side() == Side::Upstream;
            if unreached || closed {
                self.gate.backends.has_failed(address);
            }
            let may = match failed.error.retry() {
                Retry::Safe => true,
                Retry::IfIdempotent => idempotent,
                Retry::Never => false,
            };
            match failed.request {
                Some(again) if may && before.is_none() && backends.len() > 1 && (unreached || closed) => {
                    self.gate.metrics.retries.inc();
                    before = Some(address);
                    request = *again;
                }
                _ => return Err(failed.error),
            }
        }
    }
}

/// Nobody says for themselves who they are, where they come from, or how: names that programs behind proxies believe.
fn strip_claims(headers: &mut HeaderMap) {
    const NAMES: [&str; 12] = [
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "remote-user",
        "x-remote-user",
        "x-remote-group",
        "x-webauth-user",
        "x-authenticated-user",
        "x-original-url",
        "x-rewrite-url",
    ];
    const PREFIXES: [&str; 4] = ["x-forwarded-", "x-auth-request-", "x-remote-", "weft-"];
    let goes = |name: &HeaderName| {
        let name = name.as_str();
        name != assertion::HEADER.as_str() && (NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
    };
    let gone: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

fn say_who_asks(headers: &mut HeaderMap, client: IpAddr, host: &str) {
    let mut put = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    put("x-forwarded-for", &client.to_string());
    put("x-forwarded-host", host);
    put("x-forwarded-proto", "https");
}

/// W3C Trace Context: what is there is passed on; where there is none, one begins here.
fn trace(headers: &mut HeaderMap) {
    const NAME: &str = "traceparent";
    let mut all = headers.get_all(NAME).iter();
    let good = match (all.next(), all.next()) {
        (Some(value), None) => is_traceparent(value.as_bytes()),
        _ => false,
    };
    if good {
        return;
    }
    headers.remove(NAME);
    headers.remove("tracestate");
    let (Ok(trace), Ok(span)) = (random::bytes::<16>(), random::bytes::<8>()) else { return };
    let value = format!("00-{:032x}-{:016x}-00", u128::from_be_bytes(trace), u64::from_be_bytes(span));
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(HeaderName::from_static(NAME), value);
    }
}

/// Section 3.2 of the specification, version 00.
fn is_traceparent(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    let zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
    let dashes = value.len() == 55 && [2, 35, 52].iter().all(|at| value[*at] == b'-');
    dashes && value.starts_with(b"00") && hex(&value[3..35]) && hex(&value[36..52]) && hex(&value[53..]) && !zero(&value[3..35]) && !zero(&value[36..52])
}

/// Set by the gateway on every answer of an application.
pub(super) fn mark_flow(headers: &mut HeaderMap, flow: weft_types::FlowId) {
    if let Ok(value) = HeaderValue::from_str(&flow.to_string()) {
        headers.insert(HeaderName::from_static("weft-flow"), value);
    }
    headers.remove(header::SERVER);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_idle_one_is_taken_and_the_failed_one_last() {
        let all: Vec<SocketAddr> = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|a| a.parse().unwrap()).to_vec();
        let backends = Backends::default();
        let load = |address: &SocketAddr| if *address == all[1] { 0 } else { 5 };
        assert_eq!(backends.choose(&all, None, load), Some(all[1]));
        assert_ne!(backends.choose(&all, Some(all[1]), load), Some(all[1]));
        backends.has_failed(all[1]);
        assert_ne!(backends.choose(&all, None, load), Some(all[1]));
        assert_eq!(backends.choose(&all[1..2], None, load), Some(all[1]), "rather a failed one than none");
        assert_eq!(backends.choose(&all[1..2], Some(all[1]), load), None);
        let seen: std::collections::HashSet<_> = (0..3).filter_map(|_| backends.choose(&all[..1].repeat(1), None, |_| 0)).collect();
        assert_eq!(seen.len(), 1);
        let turns: std::collections::HashSet<_> = (0..4).filter_map(|_| Backends::default().choose(&all, None, |_| 0)).collect();
        assert_eq!(turns.len(), 1, "a fresh one begins with the first");
        let fair = Backends::default();
        let turns: std::collections::HashSet<_> = (0..3).filter_map(|_| fair.choose(&all, None, |_| 0)).collect();
        assert_eq!(turns.len(), 3);
    }

    #[test]
    fn nobody_says_for_themselves_who_they_are() {
        let mut headers = HeaderMap::new();
        for name in ["x-forwarded-for", "X-Forwarded-User", "forwarded", "Remote-User", "x-remote-user", "weft-flow", "x-auth-request-email", "x-real-ip"] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("root"));
        }
        headers.insert(assertion::HEADER, HeaderValue::from_static("ours"));
        headers.insert("x-request-id", HeaderValue::from_static("kept"));
        strip_claims(&mut headers);
        say_who_asks(&mut headers, "2001:db8::1".parse().unwrap(), "shop.example:8443");
        assert!(!headers.values().any(|value| value == "root"), "{headers:?}");
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!((headers[assertion::HEADER].as_bytes(), headers["x-request-id"].as_bytes()), (&b"ours"[..], &b"kept"[..]));
    }

    #[test]
    fn a_trace_goes_on_and_a_broken_one_begins_anew() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let check = |values: &[&str], kept: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("traceparent", value.parse().unwrap());
            }
            headers.insert("tracestate", HeaderValue::from_static("a=b"));
            trace(&mut headers);
            let now = headers["traceparent"].to_str().unwrap().to_owned();
            assert!(is_traceparent(now.as_bytes()), "{now}");
            assert_eq!((now == values.first().copied().unwrap_or_default(), headers.contains_key("tracestate")), (kept, kept), "{values:?}");
        };
        check(&[good], true);
        check(&[], false);
        check(&[good, good], false);
        for bad in ["00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "x", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] {
            check(&[bad], false);
        }
    }
}
