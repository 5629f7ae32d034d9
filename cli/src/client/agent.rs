//! One agent.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use futures::{Stream, StreamExt};
use tonic::transport::Channel;
use weft_api::{
    agent::v1::{
        AddWorkloadRequest, CertsRequest, FlowsRequest, GetFlowRequest, GetSnapshotRequest, ListWorkloadsRequest, Proof, ProveRequest, RemoveWorkloadRequest,
        StatusRequest, agent_client::AgentClient,
    },
    connect_unix,
    limits::MESSAGE_MAX_BYTES,
};
use weft_snapshot::Snapshot;
use weft_types::{FlowId, ServiceRef, Verdict};

use super::{ClientError, Program, call, call_within, convert};
use crate::{
    args::FlowSource,
    limits::{ENROL_CALL_TIMEOUT, PROVE_TIMEOUT},
    view::{CanaryView, CertView, FlowView, NodeView, ProofView, WorkloadView},
};

#[derive(Clone, Debug)]
pub struct Agent {
    pub socket: PathBuf,
    client: AgentClient<Channel>,
}

#[derive(Clone, Debug, Default)]
pub struct FlowFilter {
    pub from: Option<FlowSource>,
    pub to: Option<ServiceRef>,
    pub verdict: Option<Verdict>,
    /// Unix milliseconds.
    pub since_ms: Option<i64>,
    pub last: Option<u32>,
}

#[derive(Clone, Debug)]
pub struct NewWorkload {
    pub uid: Option<String>,
    pub service: ServiceRef,
    /// Below the cgroup-v2 mount.
    pub cgroup: String,
    pub netns: PathBuf,
}

impl Agent {
    pub async fn connect(socket: impl AsRef<Path>) -> Result<Self, ClientError> {
        let socket = socket.as_ref().to_owned();
        let channel = connect_unix(&socket).await.map_err(|e| ClientError::connect(Program::Agent, &socket, e))?;
        Ok(Self { socket, client: AgentClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES) })
    }

    pub async fn status(&self) -> Result<NodeView, ClientError> {
        let status = call(Program::Agent, &self.socket, self.client.clone().status(StatusRequest {})).await?;
        Ok(convert::node(status, &self.socket))
    }

    /// The snapshot in force, if there is one. Its signature was checked by the agent, whose socket we trust.
    pub async fn snapshot(&self) -> Result<Option<Snapshot>, ClientError> {
        let response = call(Program::Agent, &self.socket, self.client.clone().get_snapshot(GetSnapshotRequest {})).await?;
        let unreadable = |message| ClientError::Snapshot { program: Program::Agent, socket: self.socket.clone(), message };
        convert::snapshot_of_bytes(&response.envelope).map_err(unreadable)
    }

    pub async fn workloads(&self, node: &str) -> Result<Vec<WorkloadView>, ClientError> {
        let list = call(Program::Agent, &self.socket, self.client.clone().list_workloads(ListWorkloadsRequest {})).await?;
        Ok(list.workloads.into_iter().map(|w| convert::workload(w, node)).collect())
    }

    pub async fn add_workload(&self, new: &NewWorkload) -> Result<WorkloadView, ClientError> {
        let request = AddWorkloadRequest {
            uid: new.uid.clone().unwrap_or_default(),
            service: new.service.to_string(),
            cgroup: new.cgroup.clone(),
            netns: new.netns.display().to_string(),
        };
        let workload = call_within(ENROL_CALL_TIMEOUT, Program::Agent, &self.socket, self.client.clone().add_workload(request)).await?;
        Ok(convert::workload(workload, ""))
    }

    pub async fn remove_workload(&self, uid: &str) -> Result<(), ClientError> {
        let request = RemoveWorkloadRequest { uid: uid.to_owned() };
        call(Program::Agent, &self.socket, self.client.clone().remove_workload(request)).await.map(drop)
    }

    pub async fn flow(&self, id: FlowId) -> Result<Option<FlowView>, ClientError> {
        match call(Program::Agent, &self.socket, self.client.clone().get_flow(GetFlowRequest { id: id.to_string() })).await {
            Ok(flow) => Ok(Some(convert::flow(flow))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Recorded flows, then with `follow` new ones as they come.
    pub async fn flows(&self, filter: &FlowFilter, follow: bool) -> Result<impl Stream<Item = Result<FlowView, ClientError>> + use<>, ClientError> {
        let request = FlowsRequest {
            follow,
            from: filter.from.as_ref().map(ToString::to_string).unwrap_or_default(),
            to: filter.to.as_ref().map(ToString::to_string).unwrap_or_default(),
            verdict: filter.verdict.map(|v| v.to_string()).unwrap_or_default(),
            since_ms: filter.since_ms.unwrap_or(0),
            last: filter.last.unwrap_or(0),
        };
        let stream = call(Program::Agent, &self.socket, self.client.clone().flows(request)).await?;
        let socket = self.socket.clone();
        Ok(stream.map(move |item| item.map(convert::flow).map_err(|status| ClientError::refused(Program::Agent, &socket, status))))
    }

    /// Runs the canaries of every enrolled workload; by uid.
    pub async fn prove(&self) -> Result<BTreeMap<String, ProofView>, ClientError> {
        let response = call_within(PROVE_TIMEOUT, Program::Agent, &self.socket, self.client.clone().prove(ProveRequest {})).await?;
        let proof = |p: &Proof| ProofView { outbound: CanaryView::new(&p.outbound), inbound: CanaryView::new(&p.inbound) };
        Ok(response.proofs.iter().map(|p| (p.uid.clone(), proof(p))).collect())
    }

    pub async fn certs(&self, node: &str) -> Result<Vec<CertView>, ClientError> {
        let response = call(Program::Agent, &self.socket, self.client.clone().certs(CertsRequest {})).await?;
        Ok(response.certs.into_iter().map(|c| convert::cert(c, node)).collect())
    }
}
