//! `weft.bridge.v1.Admin`: what people ask. Who may open the socket may do all of it.

use std::time::{Duration, SystemTime};

use tonic::{Request, Response, Status};
use weft_api::bridge::v1 as wire;
use weft_types::{Consumer, NodeName};

use crate::control::{NodeReport, Overview, Shared};

pub(super) struct AdminService {
    control: Shared,
}

impl AdminService {
    pub(super) fn new(control: Shared) -> Self {
        Self { control }
    }
}

#[tonic::async_trait]
impl wire::admin_server::Admin for AdminService {
    async fn create_join_token(&self, request: Request<wire::CreateJoinTokenRequest>) -> Result<Response<wire::CreateJoinTokenResponse>, Status> {
        let wire::CreateJoinTokenRequest { node, may_run, ttl_seconds } = request.into_inner();
        let node = node_name(&node)?;
        let pattern = |p: &String| p.parse::<Consumer>().map_err(|_| Status::invalid_argument(format!("{p:?} is neither NAMESPACE/NAME nor NAMESPACE/*")));
        let may_run = may_run.iter().map(pattern).collect::<Result<Vec<_>, _>>()?;
        let ttl = Duration::from_secs(ttl_seconds);
        let (token, expires_at) = self.control.with(move |c| c.create_token(node, may_run, ttl, SystemTime::now())).await?;
        Ok(Response::new(wire::CreateJoinTokenResponse { token: token.as_str().to_owned(), expires_at }))
    }

    async fn list_nodes(&self, _: Request<wire::ListNodesRequest>) -> Result<Response<wire::ListNodesResponse>, Status> {
        let nodes = self.control.with(|c| c.list_nodes()).await;
        Ok(Response::new(wire::ListNodesResponse { nodes: nodes.into_iter().map(node_info).collect() }))
    }

    async fn remove_node(&self, request: Request<wire::RemoveNodeRequest>) -> Result<Response<wire::RemoveNodeResponse>, Status> {
        let node = node_name(&request.into_inner().node)?;
        self.control.with(move |c| c.remove_node(&node)).await?;
        Ok(Response::new(wire::RemoveNodeResponse {}))
    }

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        let o: Overview = self.control.with(|c| c.overview()).await;
        Ok(Response::new(wire::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: o.trust_domain,
            mesh: o.mesh,
            revision: o.revision.0,
            catalog_errors: o.catalog_errors,
            catalog_warnings: o.catalog_warnings,
            ca_fingerprint: o.ca_fingerprint.iter().map(|b| format!("{b:02x}")).collect(),
            ca_not_after: o.ca_not_after,
        }))
    }

    async fn get_snapshot(&self, _: Request<wire::GetSnapshotRequest>) -> Result<Response<wire::Envelope>, Status> {
        let published = self.control.with(|c| c.current()).await;
        Ok(Response::new(crate::control::to_wire(published.envelope())))
    }
}

fn node_name(name: &str) -> Result<NodeName, Status> {
    name.parse().map_err(|e| Status::invalid_argument(format!("node: {e}")))
}

fn node_info(node: NodeReport) -> wire::NodeInfo {
    let workload = |c: crate::placement::Claim| wire::Workload {
        uid: c.uid.to_string(),
        service: c.service.to_string(),
        addresses: c.addresses.iter().map(ToString::to_string).collect(),
    };
    wire::NodeInfo {
        name: node.name.to_string(),
        may_run: node.may_run.iter().map(ToString::to_string).collect(),
        connected: node.connected,
        agent_version: node.agent_version,
        acked_revision: node.acked.0,
        error: node.error,
        last_seen: node.last_seen,
        workloads: node.workloads.into_iter().map(workload).collect(),
    }
}
