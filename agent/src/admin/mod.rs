//! What people and tools ask the agent, on its unix socket: `weft.agent.v1`. Who may open the socket may do all of it.

mod convert;
mod prove;
mod status;

use std::{path::Path, pin::Pin, sync::Arc};

use anyhow::Context as _;
use futures::{Stream, StreamExt as _, stream};
use prost::Message as _;
use tokio::net::UnixListener;
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tonic::{Request, Response, Status};
use weft_api::{
    agent::v1::{
        self as wire,
        agent_server::{Agent, AgentServer},
    },
    limits::MESSAGE_MAX_BYTES,
};
use weft_kernel::cgroup;
use weft_types::{FlowId, Verdict};

use crate::{
    app::Node,
    files,
    flows::{Filter, From},
    gateway::USER,
    limits,
    mesh::Chain,
    snapshots,
    workloads::{AddError, FieldError, Origin, Spec},
};

pub struct AgentService(Arc<Node>);

/// Makes the socket, which answers once [`serve`] runs.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    files::bind_private(path, |p| UnixListener::bind(p)).with_context(|| format!("cannot make the admin socket {}", path.display()))
}

/// Serves until the agent ends.
pub async fn serve(listener: UnixListener, node: Arc<Node>) {
    let shutdown = node.shutdown.clone();
    let service = AgentServer::new(AgentService(node)).max_encoding_message_size(MESSAGE_MAX_BYTES);
    let server = tonic::transport::Server::builder().max_concurrent_streams(limits::ADMIN_STREAMS_MAX).add_service(service);
    if let Err(error) = server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.cancelled_owned()).await {
        tracing::error!(%error, "the admin socket is gone");
    }
}

type FlowStream = Pin<Box<dyn Stream<Item = Result<wire::Flow, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for AgentService {
    type FlowsStream = FlowStream;

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        self.whole_status().await.map(Response::new)
    }

    async fn get_snapshot(&self, _: Request<wire::GetSnapshotRequest>) -> Result<Response<wire::GetSnapshotResponse>, Status> {
        let envelope = self.0.mesh.envelope().map(|e| snapshots::to_wire(&e).encode_to_vec()).unwrap_or_default();
        Ok(Response::new(wire::GetSnapshotResponse { envelope }))
    }

    async fn list_workloads(&self, _: Request<wire::ListWorkloadsRequest>) -> Result<Response<wire::ListWorkloadsResponse>, Status> {
        Ok(Response::new(wire::ListWorkloadsResponse { workloads: self.all_workloads().await? }))
    }

    async fn add_workload(&self, request: Request<wire::AddWorkloadRequest>) -> Result<Response<wire::Workload>, Status> {
        let r = request.into_inner();
        let uid = Some(r.uid.as_str()).filter(|uid| !uid.is_empty());
        let spec = Spec::new(&self.0.places, Origin::Live, uid, &r.service, r.cgroup.as_ref(), r.netns.as_ref()).map_err(refuse_field)?;
        let (dir, made) = (spec.cgroup.clone(), !spec.cgroup.exists());
        cgroup::create(&dir).map_err(|e| Status::failed_precondition(format!("cgroup {} cannot be made: {e}", dir.display())))?;
        let added = self.0.workloads.add(spec).await.map_err(|e| Status::unavailable(e.to_string()))?;
        if added.is_err() && made {
            let _ = cgroup::remove(&dir);
        }
        added.map(|seen| Response::new(convert::workload(&seen, &self.0.mesh, &self.0.kernel))).map_err(refuse)
    }

    async fn remove_workload(&self, request: Request<wire::RemoveWorkloadRequest>) -> Result<Response<wire::RemoveWorkloadResponse>, Status> {
        let uid = request.into_inner().uid.parse().map_err(|e| Status::invalid_argument(format!("uid: {e}")))?;
        if self.0.view.now().by_uid(&uid).is_some_and(|w| w.origin == Origin::Static) {
            return Err(Status::failed_precondition(format!("workload {uid} stands in the workloads file: remove it there")));
        }
        match self.0.workloads.remove(uid.clone()).await.map_err(|e| Status::unavailable(e.to_string()))? {
            true => Ok(Response::new(wire::RemoveWorkloadResponse {})),
            false => Err(Status::not_found(format!("this node has no workload {uid}"))),
        }
    }

    async fn flows(&self, request: Request<wire::FlowsRequest>) -> Result<Response<FlowStream>, Status> {
        let r = request.into_inner();
        let filter = filter(&r)?;
        let name = self.0.config.node.to_string();
        let (known, new) = self.0.flows.select(&filter, r.last as usize, r.follow);
        let recorded = {
            let name = name.clone();
            stream::iter(known).map(move |flow| Ok(convert::flow(&flow, &name)))
        };
        let Some(new) = new else { return Ok(Response::new(Box::pin(recorded))) };
        let followed = BroadcastStream::new(new).filter_map(move |item| {
            let flow = match item {
                Ok(flow) => filter.passes(&flow).then(|| Ok(convert::flow(&flow, &name))),
                Err(lag) => Some(Err(Status::data_loss(format!("the reader is too slow: {lag}; ask again for what is recorded")))),
            };
            std::future::ready(flow)
        });
        Ok(Response::new(Box::pin(recorded.chain(followed).take_until(self.0.shutdown.clone().cancelled_owned()))))
    }

    async fn get_flow(&self, request: Request<wire::GetFlowRequest>) -> Result<Response<wire::Flow>, Status> {
        let id: FlowId = request.into_inner().id.parse().map_err(|e| Status::invalid_argument(format!("{e}")))?;
        let found = self.0.flows.get(id).ok_or_else(|| Status::not_found(format!("no flow {id} is recorded on this node any more")))?;
        Ok(Response::new(convert::flow(&found, self.0.config.node.as_str())))
    }

    async fn prove(&self, _: Request<wire::ProveRequest>) -> Result<Response<wire::ProveResponse>, Status> {
        Ok(Response::new(wire::ProveResponse { proofs: self.prove_all().await? }))
    }

    async fn certs(&self, _: Request<wire::CertsRequest>) -> Result<Response<wire::CertsResponse>, Status> {
        let mesh = &self.0.mesh;
        let certs = mesh.node().iter().chain(mesh.svids().values()).map(convert::cert).collect();
        Ok(Response::new(wire::CertsResponse { certs }))
    }
}

fn filter(r: &wire::FlowsRequest) -> Result<Filter, Status> {
    let service = |field: &str, name: &str| match name {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|e| Status::invalid_argument(format!("{field}: {e}"))),
    };
    let verdict = match r.verdict.as_str() {
        "" => None,
        "allow" => Some(Verdict::Allow),
        "deny" => Some(Verdict::Deny),
        other => return Err(Status::invalid_argument(format!("verdict: {other:?} is neither allow nor deny"))),
    };
    let from = match r.from.strip_prefix(USER) {
        Some("") => return Err(Status::invalid_argument("from: user: names nobody")),
        Some(user) => Some(From::User(user.to_owned())),
        None => service("from", &r.from)?.map(From::Service),
    };
    Ok(Filter { from, to: service("to", &r.to)?, verdict, since_ms: r.since_ms })
}

fn refuse(e: AddError) -> Status {
    match e {
        AddError::Field(e) => refuse_field(e),
        AddError::Full => Status::resource_exhausted(e.to_string()),
        AddError::Absent { .. } | AddError::Timeout { .. } => Status::failed_precondition(e.to_string()),
        AddError::Removed(_) => Status::aborted(e.to_string()),
    }
}

fn refuse_field(e: FieldError) -> Status {
    let text = Chain(&e).to_string();
    match e {
        FieldError::UidTaken(_) | FieldError::Overlap { .. } => Status::already_exists(text),
        _ => Status::invalid_argument(text),
    }
}
