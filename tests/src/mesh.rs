//! Two nodes with agents, a bridge on a machine of its own, and pods of a small shop.

use std::{fs, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use weft_api::agent::v1 as agent;
use weft_lab::{Agent, AgentOptions, Bridge, BridgeOptions, Lab, Node, Pod, Workload, eventually};

/// How long the mesh may take to come to a state.
pub const SETTLE: Duration = Duration::from_secs(30);

/// `client` may reach `server` and `far`; `stranger` may reach nothing. They differ in the grant only.
pub const SHOP: &str = r##"apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: test }
spec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: shop }
spec: { lead: alice@corp.example, contact: "#shop" }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: client, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: stranger, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: server, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: far, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 80, targetPort: 8080 } ]
"##;

#[derive(Clone, Debug)]
pub struct MeshOptions {
    pub catalog: String,
    pub svid_ttl: String,
    /// (node, pod, service); the pod's name is its directory and cgroup.
    pub workloads: Vec<(&'static str, &'static str, &'static str)>,
    /// (node, service pattern), as the join tokens name them.
    pub may_run: Vec<(&'static str, &'static str)>,
    /// Agents are configured but not started.
    pub agents_wait: bool,
    /// How long the connections of an agent that goes may go on.
    pub drain_seconds: u16,
    /// What a denied `connect()` fails with.
    pub denied: &'static str,
    /// The bridge is an identity provider with this issuer; its sockets are in its machine's directory.
    pub issuer: Option<&'static str>,
}

impl Default for MeshOptions {
    fn default() -> Self {
        Self {
            catalog: SHOP.to_owned(),
            svid_ttl: "1h".to_owned(),
            workloads: vec![
                ("a", "client", "shop/client"),
                ("a", "stranger", "shop/stranger"),
                ("a", "server", "shop/server"),
                ("b", "far-server", "shop/server"),
                ("b", "far", "shop/far"),
            ],
            may_run: vec![("a", "shop/*"), ("b", "shop/*")],
            agents_wait: false,
            // Where everything is slower, what a probe gets says how much.
            drain_seconds: std::env::var("WEFT_PROBE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(10),
            denied: "eperm",
            issuer: None,
        }
    }
}

/// Fields end in order: agents first, the lab last.
pub struct Mesh {
    pub agents: Vec<Agent>,
    pub bridge: Bridge,
    pub pods: Vec<(String, String, Pod)>,
    pub nodes: Vec<Node>,
    pub catalog: PathBuf,
    pub lab: Lab,
    runtime: tokio::runtime::Runtime,
}

impl Mesh {
    pub fn start(tag: &str, options: &MeshOptions) -> Result<Self> {
        let mut lab = Lab::new(tag)?;
        let catalog = lab.work().join("catalog");
        fs::create_dir_all(&catalog)?;
        fs::write(catalog.join("mesh.yaml"), &options.catalog)?;
        let machine = lab.machine("iam", &[])?;
        let nodes = vec![lab.node("a")?, lab.node("b")?];
        let provider = options.issuer.map(|issuer| {
            let socket = machine.place().dir().join("provider.sock").display().to_string();
            ("provider".to_owned(), toml::Table::from_iter([("issuer".to_owned(), issuer.into()), ("socket".to_owned(), socket.into())]).into())
        });
        let extra = toml::Table::from_iter(provider);
        let bridge = Bridge::start(&machine, &BridgeOptions { catalog: catalog.clone(), svid_ttl: options.svid_ttl.clone(), extra })?;
        let mut mesh = Self {
            agents: Vec::new(),
            bridge,
            pods: Vec::new(),
            nodes,
            catalog,
            lab,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        };
        let extra =
            toml::Table::from_iter([("drain_seconds".to_owned(), i64::from(options.drain_seconds).into()), ("denied".to_owned(), options.denied.into())]);
        for node in mesh.nodes.clone() {
            let mut workloads = Vec::new();
            for (_, pod, service) in options.workloads.iter().filter(|w| w.0 == node.name()) {
                let made = node.pod(pod)?;
                workloads.push(Workload::of(service, &made));
                mesh.pods.push((node.name().to_owned(), (*pod).to_owned(), made));
            }
            let may_run: Vec<_> = options.may_run.iter().filter(|m| m.0 == node.name()).map(|m| m.1).collect();
            let token = mesh.bridge.token(node.name(), &may_run)?;
            let agent_options = AgentOptions { bridge: Some(mesh.bridge.address()), token, workloads, extra: extra.clone(), ..AgentOptions::default() };
            mesh.agents.push(Agent::configure(&node, &agent_options)?);
        }
        if !options.agents_wait {
            for i in 0..mesh.agents.len() {
                mesh.agents[i].run()?;
            }
            mesh.settled()?;
        }
        Ok(mesh)
    }

    /// Waits until every workload of every agent is read back from the kernel as enrolled, and all nodes hold one revision with all endpoints.
    pub fn settled(&self) -> Result<()> {
        let wanted = self.pods.len();
        eventually(SETTLE, "every workload enrolled and known everywhere", || -> Result<()> {
            let mut revisions = Vec::new();
            for i in 0..self.agents.len() {
                let status = self.status(i)?;
                let mine = self.pods.iter().filter(|p| p.0 == status.node).count();
                let enrolled = status.workloads.iter().filter(|w| w.enrolled_in_kernel && w.svid_not_after > 0).count();
                if enrolled != mine {
                    bail!("node {}: {enrolled} of {mine} workloads enrolled: {:?}", status.node, status.workloads);
                }
                let endpoints = self.snapshot(i)?.endpoints.len();
                if endpoints != wanted {
                    bail!("node {} knows {endpoints} of {wanted} endpoints", status.node);
                }
                if status.kernel_revision != status.revision {
                    bail!("node {}: kernel holds {} of {}", status.node, status.kernel_revision, status.revision);
                }
                revisions.push(status.revision);
            }
            if revisions.windows(2).any(|w| w[0] != w[1]) {
                bail!("revisions differ: {revisions:?}");
            }
            Ok(())
        })
        .with_context(|| format!("agents said:\n{}", self.logs()))
    }

    /// A pod that no agent knows of, outside every managed subtree.
    pub fn outsider(&self, node: usize, name: &str) -> Result<Pod> {
        let node = &self.nodes[node];
        Ok(node.pod_in(name, &node.cgroup().join("outside").join(name))?)
    }

    /// Where the links of a node are pinned.
    pub fn links(&self, node: usize) -> PathBuf {
        self.nodes[node].dir().join(format!("bpf/v{}/links", weft_ebpf_common::ABI_VERSION))
    }

    /// The pinned tables of a node.
    pub fn pinned(&self, node: usize) -> Result<weft_kernel::Pinned> {
        Ok(weft_kernel::Pinned::open(&self.nodes[node].dir().join("bpf"))?)
    }

    pub fn pod(&self, name: &str) -> &Pod {
        &self.pods.iter().find(|p| p.1 == name).unwrap_or_else(|| panic!("no pod {name}")).2
    }

    pub fn status(&self, agent: usize) -> Result<agent::StatusResponse> {
        self.call(agent, async |mut c| c.status(agent::StatusRequest {}).await)
    }

    /// Recorded flows of one node, oldest first.
    pub fn flows(&self, agent: usize) -> Result<Vec<agent::Flow>> {
        self.call(agent, async |mut c| {
            let mut stream = c.flows(agent::FlowsRequest::default()).await?.into_inner();
            let mut flows = Vec::new();
            while let Some(f) = stream.message().await? {
                flows.push(f);
            }
            Ok(tonic::Response::new(flows))
        })
    }

    /// The snapshot that an agent holds; its signature is the agent's to check.
    pub fn snapshot(&self, agent: usize) -> Result<weft_snapshot::Snapshot> {
        let got = self.call(agent, async |mut c| c.get_snapshot(agent::GetSnapshotRequest {}).await)?;
        if got.envelope.is_empty() {
            bail!("no snapshot yet");
        }
        let envelope: weft_api::bridge::v1::Envelope = prost::Message::decode(got.envelope.as_slice())?;
        Ok(weft_snapshot::decode(&envelope.payload)?)
    }

    /// Virtual IP of a service, as the first agent knows it.
    pub fn vip(&self, service: &str) -> Result<IpAddr> {
        let snapshot = self.snapshot(0)?;
        let found = snapshot.services.iter().find(|s| s.name.to_string() == service).with_context(|| format!("no service {service}"))?;
        Ok(found.vip.context("no virtual IP")?.into())
    }

    /// Replaces the catalog and waits until every agent has a later revision in force.
    pub fn recatalog(&self, text: &str) -> Result<u64> {
        let before = self.status(0)?.revision;
        fs::write(self.catalog.join("mesh.yaml"), text)?;
        eventually(SETTLE, "a later revision on every node", || -> Result<u64> {
            let mut least = u64::MAX;
            for i in 0..self.agents.len() {
                least = least.min(self.status(i)?.kernel_revision);
            }
            if least > before { Ok(least) } else { bail!("still {least}") }
        })
        .map_err(Into::into)
    }

    pub fn logs(&self) -> String {
        self.agents.iter().map(|a| format!("--- {}\n{}\n", a.node().name(), tail(&a.log()))).collect::<String>() + "--- bridge\n" + &tail(&self.bridge.log())
    }

    /// One question to one agent.
    pub fn call<T>(&self, agent: usize, f: impl AsyncFnOnce(Client) -> Result<tonic::Response<T>, tonic::Status>) -> Result<T> {
        let socket = self.agents[agent].socket();
        self.runtime.block_on(async {
            let channel = weft_api::connect_unix(&socket).await.with_context(|| format!("connect to {}", socket.display()))?;
            Ok(f(Client::new(channel)).await?.into_inner())
        })
    }
}

type Client = agent::agent_client::AgentClient<tonic::transport::Channel>;

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
