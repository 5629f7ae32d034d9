//! Starters of the programs at the door: the gateway, and the front of the local identity provider.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{Bridge, LabError, Machine, Pod, Proc, bin, limits};

/// In the bridge's directory: where the front asks the provider, and where it hears what it has to tell.
const PROVIDER_SOCKET: &str = "provider.sock";
const OUT_SOCKET: &str = "out.sock";

/// What a gateway is started with.
#[derive(Clone, Debug, Default)]
pub struct GatewayOptions {
    /// Chain and key, PEM.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    pub local_provider_secret: Option<PathBuf>,
    /// Further top-level keys of the configuration.
    pub extra: toml::Table,
}

/// `weft-gateway` in a pod, which the agent of its node runs as `weft/gateway`.
#[derive(Debug)]
pub struct Gateway {
    pod: Pod,
    config: PathBuf,
    process: Option<Proc>,
}

impl Gateway {
    /// Writes the configuration only.
    pub fn configure(pod: &Pod, options: &GatewayOptions) -> Result<Self, LabError> {
        let text = |p: &Path| toml::Value::String(p.display().to_string());
        let mut table = options.extra.clone();
        table.insert("agent_socket".to_owned(), text(&pod.node().dir().join("run/gateway.sock")));
        table.insert("state_dir".to_owned(), text(&pod.dir().join("state")));
        if let Some(secret) = &options.local_provider_secret {
            table.insert("local_provider_secret_file".to_owned(), text(secret));
        }
        let pair = |(chain, key): &(PathBuf, PathBuf)| toml::Table::from_iter([("chain".to_owned(), text(chain)), ("key".to_owned(), text(key))]);
        table.insert("certificates".to_owned(), toml::Value::Array(options.certificates.iter().map(|c| pair(c).into()).collect()));
        table.entry("access_log").or_insert_with(|| toml::Table::from_iter([("file".to_owned(), text(&pod.dir().join("access.log")))]).into());
        let config = pod.dir().join("gateway.toml");
        fs::write(&config, table.to_string()).map_err(LabError::io("write", &config))?;
        Ok(Self { pod: pod.clone(), config, process: None })
    }

    /// Starts it and waits until it listens, which needs its workload enrolled and something exposed.
    pub fn start(pod: &Pod, options: &GatewayOptions) -> Result<Self, LabError> {
        let mut gateway = Self::configure(pod, options)?;
        gateway.run()?;
        Ok(gateway)
    }

    /// Starts it (again) and waits until it listens.
    pub fn run(&mut self) -> Result<(), LabError> {
        self.spawn()?.wait_for_log("listening on", limits::START_DEADLINE)
    }

    /// Starts it without waiting.
    pub fn spawn(&mut self) -> Result<&mut Proc, LabError> {
        let (bin, config) = (bin("weft-gateway")?.display().to_string(), self.config.display().to_string());
        let process = self.pod.place().spawn("gateway", &[bin.as_str(), "run", "--config", &config])?;
        Ok(self.process.insert(process))
    }

    pub fn pod(&self) -> &Pod {
        &self.pod
    }

    pub fn v4(&self) -> Ipv4Addr {
        self.pod.v4()
    }

    pub fn process(&mut self) -> Option<&mut Proc> {
        self.process.as_mut()
    }

    /// SIGTERM, then wait: it drains.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.stop();
        }
    }

    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.pod.place().dir().join("log/gateway.log")).unwrap_or_default()
    }

    /// Lines of JSON, one a request.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.pod.dir().join("access.log")).unwrap_or_default()
    }
}

/// `weft-iam-bridge front` in a pod, which the agent of its node runs as `weft/iam-bridge`: the local identity provider's place in the mesh.
#[derive(Debug)]
pub struct Front {
    process: Proc,
}

impl Front {
    /// What the configuration of a bridge on this machine says of its provider.
    pub fn provider(machine: &Machine, issuer: &str) -> toml::Table {
        let text = |p: PathBuf| toml::Value::String(p.display().to_string());
        let dir = machine.place().dir();
        let provider = toml::Table::from_iter([
            ("issuer".to_owned(), issuer.into()),
            ("socket".to_owned(), text(dir.join(PROVIDER_SOCKET))),
            ("out_socket".to_owned(), text(dir.join(OUT_SOCKET))),
        ]);
        toml::Table::from_iter([("provider".to_owned(), provider.into())])
    }

    /// The gateway's secret there; the bridge makes it at its first start.
    pub fn gateway_secret(bridge: &Bridge) -> PathBuf {
        bridge.machine().place().dir().join("state/provider-client-weft-gateway.secret")
    }

    pub fn start(pod: &Pod, bridge: &Bridge) -> Result<Self, LabError> {
        let text = |p: PathBuf| toml::Value::String(p.display().to_string());
        let dir = bridge.machine().place().dir();
        let front = toml::Table::from_iter([("provider".to_owned(), text(dir.join(PROVIDER_SOCKET))), ("out".to_owned(), text(dir.join(OUT_SOCKET)))]);
        let config = pod.dir().join("front.toml");
        let table = toml::Table::from_iter([("front".to_owned(), front.into())]);
        fs::write(&config, table.to_string()).map_err(LabError::io("write", &config))?;
        let bin = bin("weft-iam-bridge")?.display().to_string();
        let mut process = pod.place().spawn("front", &[bin.as_str(), "front", "--config", &config.display().to_string()])?;
        process.wait_for_log("front ", limits::START_DEADLINE)?;
        Ok(Self { process })
    }

    pub fn process(&mut self) -> &mut Proc {
        &mut self.process
    }
}
