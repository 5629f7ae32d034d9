//! On to an application: to the workload with the least to do, once more to another if the first does not take it, and the answer back as it comes.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http::{HeaderValue, Response};
use weft_http::{Body, Endpoint, Error, Fault, Path, PathError, Request, Retry, Side, Vetted, Wire};
use weft_snapshot::{Service, Upstream};

use super::{Visit, answers, fit, record::Story, revocable::until_revoked};
use crate::{
    assertion, limits,
    live::Lease,
    metrics::Of,
    sso::{Identified, Wants},
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

/// On whose behalf.
pub(super) struct For<'a> {
    pub(super) who: Option<&'a Identified>,
    pub(super) assertion: Option<HeaderValue>,
    /// Ends the exchange when what let it in is gone. `None`: nothing had to.
    pub(super) lease: Option<Lease>,
}

impl Visit<'_> {
    pub(super) async fn forward(&self, to: &To<'_>, on_behalf: For<'_>, mut request: Request, story: &mut Story) -> Response<Body> {
        let wants = super::head_of(&request.head).wants();
        let idempotent = request.head.is_idempotent();
        let again = (wants == Wants::Page).then(|| request.head.path.to_string());
        let lease = on_behalf.lease.map(Arc::new);
        if let Err(error) = self.make_fit(to, on_behalf.who, on_behalf.assertion, &mut request.head) {
            tracing::error!(%error, path = to.path, "a rewritten path is none");
            return answers::internal();
        }
        if let (Some(upgrade), Some(lease)) = (&mut request.upgrade, &lease) {
            upgrade.revoked = lease.ended.clone();
            upgrade.hold(Arc::clone(lease));
        }
        let began = Instant::now();
        let of = Of { service: to.service.name.to_string() };
        let revoked = async {
            match &lease {
                Some(lease) => lease.ended.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let response = tokio::select! {
            biased;
            () = revoked => return answers::revoked(self.world, wants),
            response = self.send(to, request, &mut story.backend) => response,
        };
        self.gate.metrics.upstream_seconds.get_or_create(&of).observe(began.elapsed().as_secs_f64());
        match (response, lease) {
            (Ok(response), Some(lease)) => watched(response, lease),
            (Ok(response), None) => response,
            (Err(error), _) => {
                if error.side() != Side::Downstream {
                    self.gate.metrics.upstream_failures.get_or_create(&of).inc();
                    tracing::info!(service = of.service, %error, flow = %self.flow, "an application did not answer");
                }
                story.detail = error.to_string();
                self.to(on_behalf.who).failed(wants, to.service, &error, idempotent, again.as_deref())
            }
        }
    }

    /// The head as the application sees it.
    fn make_fit(&self, to: &To<'_>, who: Option<&Identified>, assertion: Option<HeaderValue>, head: &mut Vetted) -> Result<(), PathError> {
        if let Some(path) = &to.path {
            head.path = Path::new(path, head.path.query())?;
        }
        assertion::hand_over(&mut head.headers, who, assertion);
        fit::strip_claims(&mut head.headers);
        fit::say_who_asks(&mut head.headers, self.client, &head.host.to_string());
        fit::trace(&mut head.headers);
        Ok(())
    }

    /// To one workload, and once more to another if the first did not take it: what may have been taken is repeated only where that changes nothing.
    pub(super) async fn send(&self, to: &To<'_>, mut request: Request, asked: &mut Option<SocketAddr>) -> Result<Response<Body>, Error> {
        let wire = if to.upstream == Upstream::Http { Wire::Http1 } else { Wire::Http2 };
        let backends = self.world.backends(to.service, to.port);
        let load = |address: &_| self.gate.pool.in_flight(&Endpoint { address: *address, wire });
        let mut before = None;
        loop {
            let Some(address) = self.gate.backends.choose(&backends, before, load) else {
                return Err(Error::new(Side::Upstream, Fault::Connect, Retry::Never));
            };
            *asked = Some(address);
            let idempotent = request.head.is_idempotent();
            let failed = match self.gate.pool.send(&Endpoint { address, wire }, request).await {
                Ok(response) => return Ok(response),
                Err(failed) => failed,
            };
            // A workload of another node that is gone takes the connection by its agent's word, and closes it.
            let gone =
                failed.error.side() == Side::Upstream && matches!(failed.error.fault(), Fault::Connect | Fault::ConnectTimeout | Fault::Closed | Fault::Reset);
            if gone {
                self.gate.backends.has_failed(address);
            }
            let may = match failed.error.retry() {
                Retry::Safe => true,
                Retry::IfIdempotent => idempotent,
                Retry::Never => false,
            };
            match failed.request {
                Some(again) if gone && may && before.is_none() && backends.len() > 1 => {
                    self.gate.metrics.retries.inc();
                    before = Some(address);
                    request = *again;
                }
                _ => return Err(failed.error),
            }
        }
    }
}

/// Long answers end when what let them in is gone.
fn watched(response: Response<Body>, lease: Arc<Lease>) -> Response<Body> {
    use http_body::Body as _;
    let short = response.body().size_hint().upper().is_some_and(|bytes| bytes < limits::LIVE_MIN_BYTES);
    if short { response } else { response.map(|body| until_revoked(body, lease)) }
}
