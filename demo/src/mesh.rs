//! The mesh on the stage: one bridge, an agent on each node, and a look at whether everybody is enrolled.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use weft_lab::{Agent, AgentOptions, Bridge, BridgeOptions, eventually};

use crate::{
    cli,
    door::{Door, NODE_METRICS},
    limits,
    shop::Shop,
    stage::{NOTICE_DIR, Stage},
};

pub struct Mesh {
    pub bridge: Bridge,
    pub agents: [Agent; 2],
    /// When each agent was seen dead.
    dead_since: [Option<Instant>; 2],
}

impl Mesh {
    pub fn start_bridge(stage: &Stage, catalog: &Path) -> Result<Bridge> {
        let options = BridgeOptions { catalog: catalog.to_owned(), svid_ttl: "24h".to_owned(), extra: Door::provider(&stage.control) };
        Ok(Bridge::start(&stage.control, &options)?)
    }

    /// An agent on each node, allowed to run what shop and door have there.
    pub fn start(stage: &Stage, shop: &Shop, door: &Door, bridge: Bridge) -> Result<Self> {
        let mut agents = Vec::new();
        for node in [&stage.a, &stage.b] {
            let workloads = [shop.workloads(node.name()), door.workloads(node.name())].concat();
            let may_run: Vec<&str> = workloads.iter().map(|w| w.service.as_str()).collect();
            let metrics = toml::Table::from_iter([("listen".to_owned(), NODE_METRICS.into())]);
            let extra = toml::Table::from_iter([("metrics".to_owned(), metrics.into())]);
            let token = bridge.token(node.name(), &may_run)?;
            let options = AgentOptions { bridge: Some(bridge.address()), token, workloads, extra, ..AgentOptions::default() };
            let agent = Agent::start(node, &options).with_context(|| format!("agent of node {}", node.name()))?;
            agents.push(agent);
        }
        let agents: [Agent; 2] = agents.try_into().map_err(|_| anyhow::anyhow!("two nodes, two agents"))?;
        let mut mesh = Self { bridge, agents, dead_since: [None, None] };
        mesh.note_pids()?;
        Ok(mesh)
    }

    /// Until every workload is read back from the kernel, and every node knows where all of them are.
    pub fn wait_enrolled(&self, shop: &Shop, door: &Door) -> Result<()> {
        let wanted = shop.pods().len() + door.pods().len();
        eventually(limits::ENROL_DEADLINE, "every workload enrolled", || {
            let workloads = cli::workloads()?;
            let enrolled = workloads.iter().filter(|w| w.enrolled).count();
            if enrolled == wanted {
                return self.knows_all(shop, door);
            }
            let others: Vec<String> = workloads.iter().filter(|w| !w.enrolled).map(|w| format!("{}: {}", w.service, w.problem)).collect();
            bail!("{enrolled} of {wanted} ({})", others.join("; "))
        })
        .with_context(|| self.agents.iter().map(|a| tail(&a.log())).collect::<Vec<_>>().join("\n"))
    }

    fn knows_all(&self, shop: &Shop, door: &Door) -> Result<()> {
        for agent in &self.agents {
            let known = cli::endpoints(&agent.socket())?;
            if let Some((service, pod)) = shop.pods().into_iter().chain(door.pods()).find(|(_, pod)| !known.contains(&pod.v4().to_string())) {
                bail!("node {} does not know {service} at {} yet", agent.node().name(), pod.v4());
            }
        }
        Ok(())
    }

    /// Starts again what has died, a while later, as a service manager would. Says so.
    pub fn keep_alive(&mut self, pause: Duration) -> Result<()> {
        for (agent, dead) in self.agents.iter_mut().zip(&mut self.dead_since) {
            if agent.process().is_some_and(|p| p.is_running()) {
                *dead = None;
                continue;
            }
            let since = *dead.get_or_insert_with(|| {
                println!("agent of node {} has ended; it comes back in {} s", agent.node().name(), pause.as_secs());
                Instant::now()
            });
            if since.elapsed() >= pause {
                agent.run()?;
                println!("agent of node {} is back", agent.node().name());
                *dead = None;
            }
        }
        self.note_pids()
    }

    fn note_pids(&mut self) -> Result<()> {
        for agent in &mut self.agents {
            let path = Path::new(NOTICE_DIR).join(format!("agent-{}.pid", agent.node().name()));
            let pid = agent.process().map_or(0, |p| p.pid());
            fs::write(&path, format!("{pid}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
