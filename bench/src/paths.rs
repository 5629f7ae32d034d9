//! The paths that are compared, in one laboratory, in interleaved rounds.
//!
//! Every path has the plain one beside it that takes the same wire: what the mesh costs is their ratio, not a figure of this machine.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use weft_lab::{Place, Proc};
use weft_tests::{Mesh, MeshOptions};

use crate::load::{Load, Outcome};

const CATALOG: &str = r##"apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: { name: bench }
spec: { trustDomain: bench.example, serviceRange: 100.64.0.0/16 }
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: { name: bench }
spec: { lead: bench@bench.example, contact: "#bench" }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: client, namespace: bench }
spec: { type: application, owner: bench, dependsOn: [ { service: near }, { service: far } ] }
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: near, namespace: bench }
spec:
  type: application
  owner: bench
  ports: [ { name: bulk, port: 8081 }, { name: ping, port: 8082 }, { name: connect, port: 8083 } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: far, namespace: bench }
spec:
  type: application
  owner: bench
  ports: [ { name: bulk, port: 8081 }, { name: ping, port: 8082 }, { name: connect, port: 8083 } ]
"##;

/// One way from a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    PlainSameNode,
    SameNode,
    PlainTwoNodes,
    TwoNodes,
}

impl Path {
    pub const ALL: [Self; 4] = [Self::PlainSameNode, Self::SameNode, Self::PlainTwoNodes, Self::TwoNodes];

    pub fn name(self) -> &'static str {
        match self {
            Self::PlainSameNode => "none, one node",
            Self::SameNode => "same-node",
            Self::PlainTwoNodes => "none, two nodes",
            Self::TwoNodes => "two-nodes",
        }
    }

    /// The plain path over the same wire.
    pub fn baseline(self) -> Self {
        match self {
            Self::PlainSameNode | Self::SameNode => Self::PlainSameNode,
            Self::PlainTwoNodes | Self::TwoNodes => Self::PlainTwoNodes,
        }
    }
}

/// The laboratory with all servers running.
pub struct Paths {
    _servers: Vec<Proc>,
    plain_client: weft_lab::Pod,
    plain_near: weft_lab::Pod,
    plain_far: weft_lab::Pod,
    mesh: Mesh,
}

impl Paths {
    pub fn start() -> Result<Self> {
        let mesh = Mesh::start(
            "bench",
            &MeshOptions {
                catalog: CATALOG.to_owned(),
                workloads: vec![("a", "client", "bench/client"), ("a", "near", "bench/near"), ("b", "far", "bench/far")],
                may_run: vec![("a", "bench/*"), ("b", "bench/*")],
                ..MeshOptions::default()
            },
        )?;
        let (plain_client, plain_near, plain_far) = (mesh.outsider(0, "plain-client")?, mesh.outsider(0, "plain-near")?, mesh.outsider(1, "plain-far")?);
        let mut servers = Vec::new();
        for pod in [mesh.pod("near"), mesh.pod("far"), &plain_near, &plain_far] {
            for load in [Load::Bulk, Load::Ping, Load::Connect] {
                servers.push(serve(pod.place(), load)?);
            }
        }
        Ok(Self { _servers: servers, plain_client, plain_near, plain_far, mesh })
    }

    pub fn measure(&self, path: Path, load: Load, connections: usize, duration: Duration) -> Result<Outcome> {
        let (client, ip) = match path {
            Path::PlainSameNode => (self.plain_client.place(), self.plain_near.v4().into()),
            Path::PlainTwoNodes => (self.plain_client.place(), self.plain_far.v4().into()),
            Path::SameNode => (self.mesh.pod("client").place(), self.mesh.vip("bench/near")?),
            Path::TwoNodes => (self.mesh.pod("client").place(), self.mesh.vip("bench/far")?),
        };
        let to = SocketAddr::new(ip, port(load)).to_string();
        let own = own_program()?;
        let (load_name, connections, millis) = (name(load), connections.to_string(), duration.as_millis().to_string());
        let argv = [own.as_str(), "drive", load_name, "--to", &to, "--connections", &connections, "--duration-ms", &millis];
        let printed = client.check(&argv, duration + Duration::from_secs(30))?;
        serde_json::from_str(printed.trim()).with_context(|| format!("the load printed {printed:?}"))
    }

    /// CPU seconds of both agents so far.
    pub fn agents_cpu_seconds(&mut self) -> Result<f64> {
        let mut sum = 0.0;
        for agent in &mut self.mesh.agents {
            sum += cpu_seconds(agent.process().context("an agent is not running")?.pid())?;
        }
        Ok(sum)
    }
}

fn serve(place: &Place, load: Load) -> Result<Proc> {
    let (own, listen) = (own_program()?, format!("0.0.0.0:{}", port(load)));
    let mut process = place.spawn(&format!("serve-{}", name(load)), &[own.as_str(), "serve", name(load), "--listen", &listen])?;
    process.wait_for_log("listening on", Duration::from_secs(10))?;
    Ok(process)
}

/// As the catalog above has them.
fn port(load: Load) -> u16 {
    match load {
        Load::Bulk => 8081,
        Load::Ping => 8082,
        Load::Connect => 8083,
    }
}

fn name(load: Load) -> &'static str {
    match load {
        Load::Bulk => "bulk",
        Load::Ping => "ping",
        Load::Connect => "connect",
    }
}

fn own_program() -> Result<String> {
    Ok(std::env::current_exe()?.display().to_string())
}

/// User and system time of a process, from fields 14 and 15 of /proc/PID/stat, in ticks of 10 ms.
fn cpu_seconds(pid: u32) -> Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks: Vec<f64> = after_name.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}
