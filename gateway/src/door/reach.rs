//! Whether an application answers now: asked for when somebody looks at the portal, over the same way as requests, and remembered for a moment.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use http::{HeaderMap, HeaderValue, Method, header};
use tokio::time::timeout;
use weft_http::{Body, Host, Path, Request, Vetted, Wire};
use weft_snapshot::{Route, Upstream};
use weft_types::RuleId;

use super::{Visit, forward};
use crate::{limits, pages::Reach};

/// What was seen lately.
#[derive(Debug, Default)]
pub struct Reaches(Mutex<HashMap<RuleId, (Instant, Reach)>>);

impl Reaches {
    /// Any answer will do: what it says is the application's business.
    pub(super) async fn look(&self, visit: &Visit<'_>, route: &Route) -> Reach {
        if let Some(reach) = self.known(route.rule) {
            return reach;
        }
        let reach = match timeout(limits::REACH_WAIT, ask(visit, route)).await {
            Ok(Some(true)) => Reach::Up,
            Ok(None) => Reach::Unknown,
            Ok(Some(false)) | Err(_) => Reach::Down,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (at, _)| at.elapsed() < limits::REACH_KEPT);
        all.insert(route.rule, (Instant::now(), reach));
        reach
    }

    fn known(&self, rule: RuleId) -> Option<Reach> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&rule).filter(|(at, _)| at.elapsed() < limits::REACH_KEPT).map(|(_, reach)| *reach)
    }
}

/// `None`: it cannot be asked. A gRPC service has no page to ask for.
async fn ask(visit: &Visit<'_>, route: &Route) -> Option<bool> {
    let service = visit.world.index().service(route.service)?;
    if route.upstream == Upstream::Grpc {
        return None;
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("weft-gateway (does it answer?)"));
    let head = Vetted {
        wire: Wire::Http1,
        method: Method::HEAD,
        host: route.host.as_str().parse::<Host>().ok()?,
        path: Path::new(&route.upstream_path(route.path.as_str()), None).ok()?,
        headers,
        websocket: false,
        trailers: false,
        length: None,
    };
    let to = forward::To { service, port: route.port, upstream: route.upstream, path: None };
    Some(visit.send(&to, Request { head, body: Body::empty(), upgrade: None }, &mut None).await.is_ok())
}
