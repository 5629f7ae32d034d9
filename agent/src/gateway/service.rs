//! What a gateway may ask: the revision in force and those that follow, and to have its decisions kept.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use futures::{Stream, stream};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use weft_api::{
    agent::v1::Flow,
    gateway::v1::{FollowRequest, FollowResponse, ReportRequest, ReportResponse, mesh_server::Mesh},
};
use weft_snapshot::Envelope;
use weft_types::Revision;

use super::{
    caller::{Caller, Gateway},
    rate::Rate,
    report,
};
use crate::{
    app::Node,
    limits, snapshots,
    workloads::{Picture, View},
};

pub(super) struct MeshService {
    node: Arc<Node>,
    followers: Arc<Semaphore>,
    reports: Arc<Semaphore>,
    rate: Mutex<Rate>,
}

/// Whether a gateway still is one.
pub(super) struct Standing {
    gateway: Gateway,
    view: View,
    shutdown: CancellationToken,
}

/// Where a stream of revisions is.
struct Following {
    envelopes: watch::Receiver<Option<Arc<Envelope>>>,
    standing: Standing,
    _slot: OwnedSemaphorePermit,
}

/// Looks at who calls, for each request: a connection may have outlived its workload by a moment.
pub(super) fn check(mut request: Request<()>, picture: &Picture) -> Result<Request<()>, Status> {
    let gateway = match request.extensions().get::<Caller>() {
        Some(Caller::Gateway(gateway)) => gateway.clone(),
        Some(Caller::Stranger(why)) => return Err(why.status()),
        None => return Err(Status::internal("nobody has looked at who calls")),
    };
    gateway.holds(picture).map_err(|why| why.status())?;
    request.extensions_mut().insert(gateway);
    Ok(request)
}

impl MeshService {
    pub(super) fn new(node: Arc<Node>) -> Self {
        let slots = |most| Arc::new(Semaphore::new(most));
        Self { node, followers: slots(limits::FOLLOWERS_MAX), reports: slots(limits::REPORTS_MAX), rate: Mutex::new(Rate::new(Instant::now())) }
    }

    fn standing<T>(&self, request: &Request<T>) -> Result<Standing, Status> {
        let gateway = request.extensions().get::<Gateway>().ok_or_else(|| Status::internal("nobody has looked at who calls"))?;
        Ok(Standing::new(gateway.clone(), self.node.view.clone(), self.node.shutdown.clone()))
    }

    /// Keeps what can be kept and counts the rest; false: there was too much.
    fn keep(&self, flows: Vec<Flow>, gateway: &Gateway) -> bool {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let mut all = true;
        for flow in flows {
            let outcome = self.keep_one(flow, gateway, now_ms);
            all &= outcome != "dropped";
            self.node.metrics.gateway_flow(outcome);
        }
        all
    }

    fn keep_one(&self, flow: Flow, gateway: &Gateway, now_ms: i64) -> &'static str {
        if let Some(verdict) = report::verdict(&flow)
            && !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(verdict, Instant::now())
        {
            return "dropped";
        }
        let index = self.node.mesh.index_at(Revision(flow.revision));
        match report::read(flow, index.as_deref(), &gateway.workload, now_ms) {
            Ok(request) => {
                if self.node.flows.record_request(request) {
                    "kept"
                } else {
                    "taken"
                }
            }
            Err(error) => {
                debug!(workload = %gateway.workload, %error, "what a gateway says of a request is not kept");
                "refused"
            }
        }
    }
}

#[tonic::async_trait]
impl Mesh for MeshService {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let slot = slot(&self.followers, limits::FOLLOWERS_MAX, "follow")?;
        let mut envelopes = self.node.mesh.follow();
        // What is in force is news to who has just come.
        envelopes.mark_changed();
        let following = Following { envelopes, standing: self.standing(&request)?, _slot: slot };
        Ok(Response::new(Box::pin(stream::unfold(Some(following), next))))
    }

    async fn report(&self, request: Request<Streaming<ReportRequest>>) -> Result<Response<ReportResponse>, Status> {
        let _slot = slot(&self.reports, limits::REPORTS_MAX, "report")?;
        let mut standing = self.standing(&request)?;
        let gateway = standing.gateway.clone();
        let mut reports = request.into_inner();
        loop {
            let report = tokio::select! {
                biased;
                why = standing.ended() => return Err(why),
                report = reports.message() => report?,
            };
            let Some(report) = report else { return Ok(Response::new(ReportResponse {})) };
            if !self.keep(report.flows, &gateway) {
                tokio::time::sleep(limits::REPORT_PAUSE).await;
            }
        }
    }
}

impl Standing {
    pub(super) fn new(gateway: Gateway, view: View, shutdown: CancellationToken) -> Self {
        Self { gateway, view, shutdown }
    }

    /// Returns when it is no gateway any more, or the agent ends.
    pub(super) async fn ended(&mut self) -> Status {
        loop {
            if let Err(why) = self.gateway.holds(&self.view.now()) {
                return why.status();
            }
            let changed = self.shutdown.run_until_cancelled(self.view.changed()).await;
            if changed != Some(true) {
                return Status::unavailable("the agent ends: connect again, its successor answers at the same place");
            }
        }
    }
}

/// The next revision, or the end of the stream with its reason.
async fn next(following: Option<Following>) -> Option<(Result<FollowResponse, Status>, Option<Following>)> {
    let mut f = following?;
    loop {
        tokio::select! {
            biased;
            why = f.standing.ended() => return Some((Err(why), None)),
            changed = f.envelopes.changed() => if changed.is_err() {
                return None;
            },
        }
        let newest = f.envelopes.borrow_and_update().clone();
        if let Some(envelope) = newest {
            let envelope = snapshots::to_wire(&envelope).encode_to_vec();
            return Some((Ok(FollowResponse { envelope }), Some(f)));
        }
    }
}

fn slot(of: &Arc<Semaphore>, most: usize, what: &str) -> Result<OwnedSemaphorePermit, Status> {
    let full = || Status::resource_exhausted(format!("{most} streams {what} on this node already: end one of them first"));
    of.clone().try_acquire_owned().map_err(|_| full())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Code;

    use super::*;
    use crate::{
        gateway::{Refused, caller::tests::seen},
        workloads::Seen,
    };

    fn gateway() -> Gateway {
        Gateway::of("gw", 5)
    }

    fn enrolled() -> Vec<Seen> {
        vec![seen("gw", "weft/gateway", Some(5))]
    }

    #[test]
    fn a_request_is_answered_only_on_a_connection_of_who_is_a_gateway_now() {
        let asked = |caller: Option<Caller>, now: Vec<Seen>| {
            let mut request = Request::new(());
            caller.into_iter().for_each(|caller| drop(request.extensions_mut().insert(caller)));
            check(request, &Picture::new(now)).map(|r| r.extensions().get::<Gateway>().cloned()).map_err(|e| e.code())
        };
        assert_eq!(asked(Some(Caller::Gateway(gateway())), enrolled()), Ok(Some(gateway())));
        assert_eq!(asked(Some(Caller::Gateway(gateway())), vec![]), Err(Code::PermissionDenied));
        assert_eq!(asked(Some(Caller::Stranger(Refused::Gone)), enrolled()), Err(Code::PermissionDenied));
        assert_eq!(asked(Some(Caller::Stranger(Refused::Younger)), enrolled()), Err(Code::Unavailable), "it may come again");
        assert_eq!(asked(None, enrolled()), Err(Code::Internal));
    }

    #[tokio::test]
    async fn a_stream_hears_why_it_ends() {
        let ended = async |end: fn(&watch::Sender<Arc<Picture>>, &CancellationToken)| {
            let (pictures, view) = watch::channel(Arc::new(Picture::new(enrolled())));
            let shutdown = CancellationToken::new();
            let mut standing = Standing::new(gateway(), View::new(view), shutdown.clone());
            // Another workload that comes or goes is nothing to it.
            pictures.send_replace(Arc::new(Picture::new([enrolled(), vec![seen("orders", "shop/orders", Some(6))]].concat())));
            assert!(tokio::time::timeout(Duration::from_millis(50), standing.ended()).await.is_err());
            end(&pictures, &shutdown);
            tokio::time::timeout(Duration::from_secs(20), standing.ended()).await.expect("it ends").code()
        };
        assert_eq!(ended(|pictures, _| drop(pictures.send_replace(Arc::default()))).await, Code::PermissionDenied);
        let again = |pictures: &watch::Sender<Arc<Picture>>, _: &CancellationToken| {
            pictures.send_replace(Arc::new(Picture::new(vec![seen("gw", "weft/gateway", Some(6))])));
        };
        assert_eq!(ended(again).await, Code::PermissionDenied, "another instance of that name");
        assert_eq!(ended(|_, shutdown| shutdown.cancel()).await, Code::Unavailable);
    }
}
