//! What is counted. Labels are closed sets of words, and names of services of the catalog.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Served {
    /// `namespace/name`; `weft/gateway` for pages of its own, empty where no route took the request.
    pub service: String,
    pub method: &'static str,
    /// `2xx` and the like.
    pub status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Of {
    pub service: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Why {
    pub reason: &'static str,
}

type Times = Family<Of, Histogram, fn() -> Histogram>;

pub struct Metrics {
    pub requests: Family<Served, Counter>,
    /// Until the head of the answer.
    pub seconds: Times,
    pub upstream_seconds: Times,
    /// Requests that policy did not let in, by reason; requests that were no sound HTTP, by word.
    pub denied: Family<Why, Counter>,
    pub refused: Family<Why, Counter>,
    pub upstream_failures: Family<Of, Counter>,
    pub retries: Counter,
    pub connections: Gauge,
    pub handshakes_failed: Counter,
    pub revoked: Counter,
    pub flows_lost: Counter,
    pub log_lost: Counter,
    pub revision: Gauge,
    pub live: Gauge,
    pub certificate_ends: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 0.5 ms to 16 s.
        let times = || Family::new_with_constructor((|| Histogram::new(exponential_buckets(0.0005, 2.0, 16))) as fn() -> Histogram);
        Self {
            requests: Family::default(),
            seconds: times(),
            upstream_seconds: times(),
            denied: Family::default(),
            refused: Family::default(),
            upstream_failures: Family::default(),
            retries: Counter::default(),
            connections: Gauge::default(),
            handshakes_failed: Counter::default(),
            revoked: Counter::default(),
            flows_lost: Counter::default(),
            log_lost: Counter::default(),
            revision: Gauge::default(),
            live: Gauge::default(),
            certificate_ends: Gauge::default(),
        }
    }
}

impl Metrics {
    /// `reloads_failed`: of certificates.
    pub fn registry(&self, reloads_failed: &Counter) -> Registry {
        let mut r = Registry::with_prefix("weft_gateway");
        r.register("requests", "Requests answered, by service, method and class of status", self.requests.clone());
        r.register_with_unit("request", "From the head of a request to the head of its answer", Unit::Seconds, self.seconds.clone());
        r.register_with_unit("upstream", "The part of it that the application took", Unit::Seconds, self.upstream_seconds.clone());
        r.register("denied", "Requests that policy did not let in, by reason", self.denied.clone());
        r.register("refused", "Requests that were refused for how they were written (docs/http.md), by word", self.refused.clone());
        r.register("upstream_failures", "Requests that an application did not answer", self.upstream_failures.clone());
        r.register("retries", "Requests that were sent to another workload after the first did not take them", self.retries.clone());
        r.register("connections", "Public connections that are open", self.connections.clone());
        r.register("handshakes_failed", "TLS handshakes that failed or took too long", self.handshakes_failed.clone());
        r.register("revoked", "Open exchanges that were ended because what had let them in was gone", self.revoked.clone());
        r.register("flows_lost", "Decisions that the node's agent was not told of", self.flows_lost.clone());
        r.register("access_log_lost", "Lines that the access log has lost", self.log_lost.clone());
        r.register("revision", "Revision of the policy in force", self.revision.clone());
        r.register("live", "Exchanges that are open and would be ended if what let them in were gone", self.live.clone());
        let help = "Times that the certificates' files could not be used; the former ones stay";
        r.register("certificate_reloads_failed", help, reloads_failed.clone());
        r.register("certificate_not_after_seconds", "When the first certificate ends, in Unix seconds", self.certificate_ends.clone());
        r
    }
}

/// A method as a label: those that everybody knows, and one word for the rest.
pub fn method(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET => "GET",
        http::Method::HEAD => "HEAD",
        http::Method::POST => "POST",
        http::Method::PUT => "PUT",
        http::Method::PATCH => "PATCH",
        http::Method::DELETE => "DELETE",
        http::Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

pub fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
