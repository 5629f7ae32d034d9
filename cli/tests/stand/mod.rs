//! A directory with sockets, the stand-ins behind them, and a configuration that names them.

use std::{
    path::PathBuf,
    pin::Pin,
    process::{Command, Output},
};

use futures::{Stream, StreamExt, stream};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use weft_api::{
    agent::v1::{self as wire, agent_server},
    bridge::v1::{self as bridge, admin_server},
};
use weft_snapshot::{Access, Branding, Endpoint, Gateway, Grant, Port, PortalEntry, Route, Service, ServiceKind, Snapshot, Team, Upstream};
use weft_types::{PathPattern, Protocol, Revision, RuleId, ServiceId};

pub struct Stand {
    pub dir: TempDir,
    agents: Vec<PathBuf>,
    bridge: Option<PathBuf>,
}

impl Stand {
    pub async fn new(agents: Vec<(&str, StandInAgent)>, bridge: Option<&str>) -> Self {
        let mut stand = Self { dir: tempfile::tempdir().unwrap(), agents: Vec::new(), bridge: None };
        for (name, agent) in agents {
            stand.serve_agent(name, agent).await;
            stand = stand.with_agent(name);
        }
        if let Some(name) = bridge {
            let socket = stand.dir.path().join(name);
            let incoming = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
            tokio::spawn(Server::builder().add_service(admin_server::AdminServer::new(StandInBridge)).serve_with_incoming(incoming));
            stand.bridge = Some(socket);
        }
        stand
    }

    /// Names an agent in the configuration, whether anybody answers there or not.
    pub fn with_agent(mut self, name: &str) -> Self {
        self.agents.push(self.dir.path().join(name));
        self
    }

    pub async fn serve_agent(&self, name: &str, agent: StandInAgent) {
        let incoming = UnixListenerStream::new(UnixListener::bind(self.dir.path().join(name)).unwrap());
        tokio::spawn(Server::builder().add_service(agent_server::AgentServer::new(agent)).serve_with_incoming(incoming));
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let config = self.dir.path().join("config.toml");
        let mut text = format!("agents = {:?}\n", self.agents);
        if let Some(bridge) = &self.bridge {
            text.push_str(&format!("bridge = {bridge:?}\n"));
        }
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(args).env("WEFT_CONFIG", config).env_remove("RUST_BACKTRACE");
        command
    }

    pub fn weft(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

pub struct StandInAgent {
    node: String,
    flows: Vec<wire::Flow>,
    snapshot: Snapshot,
}

pub fn answering_agent(node: &str, flows: Vec<wire::Flow>) -> StandInAgent {
    StandInAgent { node: node.into(), flows, snapshot: snapshot() }
}

/// One that knows of no gateway, as those of before there was one.
pub fn plain_agent(node: &str) -> StandInAgent {
    StandInAgent { snapshot: snapshot().without_gateway(), ..answering_agent(node, Vec::new()) }
}

impl StandInAgent {
    pub fn with_flows(self, flows: Vec<wire::Flow>) -> Self {
        Self { flows, ..self }
    }
}

fn envelope(snapshot: &Snapshot) -> bridge::Envelope {
    let schema_version = if snapshot.gateway.is_some() { weft_snapshot::GATEWAY_SCHEMA_VERSION } else { weft_snapshot::SCHEMA_VERSION };
    bridge::Envelope { schema_version, revision: 7, payload: weft_snapshot::encode(snapshot), ..bridge::Envelope::default() }
}

pub fn flow(id: u64, node: &str, at_ms: i64, verdict: &str) -> wire::Flow {
    let reason = if verdict == "allow" { "grant" } else { "no-grant" };
    wire::Flow {
        id: format!("{id:016x}"),
        node: node.into(),
        at_ms,
        point: "kernel-out".into(),
        verdict: verdict.into(),
        reason: reason.into(),
        revision: 7,
        source: "shop/storefront".into(),
        destination: "shop/orders".into(),
        address: "100.64.0.2".into(),
        port: 80,
        service_port: 80,
        protocol: "TCP".into(),
        ..wire::Flow::default()
    }
}

/// Somebody of support asks for an order, which is for sales.
pub fn request(id: u64, node: &str, at_ms: i64) -> wire::Flow {
    wire::Flow {
        point: "gateway".into(),
        reason: "missing-group".into(),
        rule: 2,
        rule_declared_at: "shop.yaml:12".into(),
        source: "user:alice".into(),
        destination_owner: "team-shop".into(),
        address: "192.0.2.7".into(),
        workload: "gateway-1".into(),
        request: Some(wire::Request {
            user: "alice".into(),
            groups: vec!["support".into()],
            method: "GET".into(),
            host: "shop.corp.example".into(),
            path: "/orders/7".into(),
            status: 403,
            missing: vec!["sales".into()],
        }),
        ..flow(id, node, at_ms, "deny")
    }
}

type FlowStream = Pin<Box<dyn Stream<Item = Result<wire::Flow, Status>> + Send>>;

#[tonic::async_trait]
impl agent_server::Agent for StandInAgent {
    type FlowsStream = FlowStream;

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        let workload = wire::Workload {
            uid: "orders-1".into(),
            service: "shop/orders".into(),
            class: "enrolled".into(),
            mode: "enforce".into(),
            enrolled_in_kernel: true,
            svid_not_after: 4_102_444_800,
            ..wire::Workload::default()
        };
        let program = wire::Program { name: "weft_connect4".into(), attached_to: "/sys/fs/cgroup".into(), attached: true };
        Ok(Response::new(wire::StatusResponse {
            node: self.node.clone(),
            version: "0.1.0".into(),
            revision: 7,
            kernel_revision: 7,
            bridge_connected: true,
            holder_connected: true,
            fail_static_until: 4_102_444_800,
            workloads: vec![workload],
            programs: vec![program],
            ..wire::StatusResponse::default()
        }))
    }

    async fn get_snapshot(&self, _: Request<wire::GetSnapshotRequest>) -> Result<Response<wire::GetSnapshotResponse>, Status> {
        Ok(Response::new(wire::GetSnapshotResponse { envelope: prost::Message::encode_to_vec(&envelope(&self.snapshot)) }))
    }

    async fn list_workloads(&self, _: Request<wire::ListWorkloadsRequest>) -> Result<Response<wire::ListWorkloadsResponse>, Status> {
        Ok(Response::new(wire::ListWorkloadsResponse::default()))
    }

    async fn add_workload(&self, _: Request<wire::AddWorkloadRequest>) -> Result<Response<wire::Workload>, Status> {
        Err(Status::permission_denied("this node may not run it"))
    }

    async fn remove_workload(&self, _: Request<wire::RemoveWorkloadRequest>) -> Result<Response<wire::RemoveWorkloadResponse>, Status> {
        Ok(Response::new(wire::RemoveWorkloadResponse {}))
    }

    async fn flows(&self, request: Request<wire::FlowsRequest>) -> Result<Response<FlowStream>, Status> {
        let asked = request.into_inner();
        let fits = |f: &&wire::Flow| {
            (asked.from.is_empty() || f.source == asked.from) && (asked.verdict.is_empty() || f.verdict == asked.verdict) && f.at_ms >= asked.since_ms
        };
        let mut found: Vec<_> = self.flows.iter().filter(fits).cloned().collect();
        found.sort_by_key(|f| f.at_ms);
        let skip = if asked.last == 0 { 0 } else { found.len().saturating_sub(asked.last as usize) };
        let recorded = stream::iter(found.split_off(skip).into_iter().map(Ok));
        let all: FlowStream = if asked.follow { Box::pin(recorded.chain(stream::pending())) } else { Box::pin(recorded) };
        Ok(Response::new(all))
    }

    async fn get_flow(&self, request: Request<wire::GetFlowRequest>) -> Result<Response<wire::Flow>, Status> {
        let id = request.into_inner().id;
        self.flows.iter().find(|f| f.id == id).cloned().map(Response::new).ok_or_else(|| Status::not_found(format!("flow {id} is not recorded")))
    }

    async fn prove(&self, _: Request<wire::ProveRequest>) -> Result<Response<wire::ProveResponse>, Status> {
        let proof = wire::Proof { uid: "orders-1".into(), outbound: String::new(), inbound: "somebody came in".into() };
        Ok(Response::new(wire::ProveResponse { proofs: vec![proof] }))
    }

    async fn certs(&self, _: Request<wire::CertsRequest>) -> Result<Response<wire::CertsResponse>, Status> {
        Ok(Response::new(wire::CertsResponse::default()))
    }
}

struct StandInBridge;

#[tonic::async_trait]
impl admin_server::Admin for StandInBridge {
    async fn create_join_token(&self, request: Request<bridge::CreateJoinTokenRequest>) -> Result<Response<bridge::CreateJoinTokenResponse>, Status> {
        let token = format!("weft-join-v1.00.{}.00", request.into_inner().node);
        Ok(Response::new(bridge::CreateJoinTokenResponse { token, expires_at: 4_102_444_800 }))
    }

    async fn list_nodes(&self, _: Request<bridge::ListNodesRequest>) -> Result<Response<bridge::ListNodesResponse>, Status> {
        let node = |name: &str, connected| bridge::NodeInfo { name: name.into(), may_run: vec!["shop/*".into()], connected, ..bridge::NodeInfo::default() };
        Ok(Response::new(bridge::ListNodesResponse { nodes: vec![node("a", true), node("b", false)] }))
    }

    async fn remove_node(&self, request: Request<bridge::RemoveNodeRequest>) -> Result<Response<bridge::RemoveNodeResponse>, Status> {
        Err(Status::not_found(format!("node {} is not known", request.into_inner().node)))
    }

    async fn status(&self, _: Request<bridge::StatusRequest>) -> Result<Response<bridge::StatusResponse>, Status> {
        let (version, mesh, trust_domain) = ("0.1.0".into(), "corp".into(), "corp.example".into());
        Ok(Response::new(bridge::StatusResponse { version, mesh, trust_domain, revision: 7, ..bridge::StatusResponse::default() }))
    }

    async fn get_snapshot(&self, _: Request<bridge::GetSnapshotRequest>) -> Result<Response<bridge::Envelope>, Status> {
        Ok(Response::new(envelope(&snapshot())))
    }
}

/// storefront → orders:web, and a stock that may nothing; orders is open to sales.
fn snapshot() -> Snapshot {
    let service = |id: u32, name: &str, ports: Vec<Port>| Service {
        id: ServiceId(id),
        name: format!("shop/{name}").parse().unwrap(),
        kind: ServiceKind::Application,
        title: name.into(),
        owner: "team-shop".parse().unwrap(),
        capability: name.into(),
        lifecycle: "production".into(),
        identity: format!("spiffe://corp.example/ns/shop/sa/{name}").parse().unwrap(),
        vip: Some(std::net::Ipv4Addr::new(100, 64, 0, u8::try_from(id).unwrap())),
        ports,
        externals: Vec::new(),
        consumers: Vec::new(),
        declared_at: format!("shop.yaml:{id}"),
    };
    let web = Port { name: "web".parse().unwrap(), port: 80, target_port: 8080, protocol: Protocol::Tcp };
    let grant = Grant {
        rule: RuleId(1),
        source: ServiceId(1),
        destination: ServiceId(2),
        port: 80,
        protocol: Protocol::Tcp,
        needs_l7: false,
        declared_at: "shop.yaml:9".into(),
    };
    let route = Route {
        rule: RuleId(2),
        service: ServiceId(2),
        port: 80,
        upstream: Upstream::Http,
        host: "shop.corp.example".parse().unwrap(),
        path: PathPattern::prefix("/orders").unwrap(),
        rewrite: Some(PathPattern::prefix("/").unwrap()),
        access: Access::Groups(vec!["sales".into()]),
        methods: vec!["GET".parse().unwrap()],
        cors: None,
        portal: PortalEntry::default(),
        declared_at: "shop.yaml:12".into(),
    };
    let gateway = Gateway {
        service: ServiceId(4),
        base_domain: "corp.example".parse().unwrap(),
        public_port: 8443,
        listen_port: 8443,
        redirect_port: None,
        branding: Branding::default(),
        routes: vec![route],
        providers: Vec::new(),
        bookmarks: Vec::new(),
    };
    let own = Service { name: "weft/gateway".parse().unwrap(), ..service(4, "gateway", Vec::new()) };
    let own_grant = Grant { rule: RuleId(3), source: ServiceId(4), declared_at: "shop.yaml:12".into(), ..grant.clone() };
    Snapshot {
        revision: Revision(7),
        mesh: "corp".into(),
        trust_domain: "corp.example".parse().unwrap(),
        services: vec![service(1, "storefront", Vec::new()), service(2, "orders", vec![web]), service(3, "stock", Vec::new()), own],
        endpoints: vec![Endpoint {
            service: ServiceId(3),
            node: "a".parse().unwrap(),
            uid: "stock-1".parse().unwrap(),
            addresses: vec!["10.1.0.2".parse().unwrap()],
        }],
        grants: vec![grant, own_grant],
        pending: Vec::new(),
        teams: vec![Team { name: "team-shop".parse().unwrap(), lead: "alice".into(), contact: "#shop".into(), groups: Vec::new() }],
        gateway: Some(gateway),
    }
}
