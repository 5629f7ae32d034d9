//! The door of the shop: gateway, the front of the local identity provider, people with passwords of this run, and Prometheus, which nobody here wrote and
//! which has no login of its own.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use weft_host::DEMO_DOOR;
use weft_lab::{Bridge, Front, Gateway, GatewayOptions, Machine, Node, Pod, Proc, Workload};

use crate::{
    limits, relay,
    stage::{self, NOTICE_DIR, Stage},
};

const PROMETHEUS: &str = "/usr/bin/prometheus";
/// Where the nodes' agents and the gateway show their metrics.
pub const NODE_METRICS: &str = "0.0.0.0:15020";

/// Somebody who may sign in.
pub struct User {
    pub name: &'static str,
    pub groups: &'static str,
    pub password: String,
}

pub struct Door {
    gateway_pod: Pod,
    front_pod: Pod,
    prometheus: Pod,
    nodes: [SocketAddr; 2],
    /// Whose address people have who come from this machine.
    visitor: Machine,
    pub users: Vec<User>,
    gateway: Option<Gateway>,
    front: Option<Front>,
    scraper: Option<Proc>,
}

impl Door {
    /// The gateway on node a; front and Prometheus on node b.
    pub fn lay(stage: &mut Stage) -> Result<Self> {
        let visitor = stage.lab.machine("visitor", &[])?;
        let (a, b) = (&stage.a, &stage.b);
        let metrics = |node: &Node| SocketAddr::from((node.uplink_v4(), 15020));
        let door = Self {
            gateway_pod: a.pod("gateway")?,
            front_pod: b.pod("front")?,
            prometheus: b.pod("prometheus")?,
            nodes: [metrics(a), metrics(b)],
            visitor,
            users: Vec::new(),
            gateway: None,
            front: None,
            scraper: None,
        };
        door.make_certificates()?;
        Ok(door)
    }

    pub fn pods(&self) -> [(&'static str, &Pod); 3] {
        [("weft/gateway", &self.gateway_pod), ("weft/iam-bridge", &self.front_pod), ("ops/prometheus", &self.prometheus)]
    }

    pub fn workloads(&self, node: &str) -> Vec<Workload> {
        self.pods().iter().filter(|(_, pod)| pod.node().name() == node).map(|(service, pod)| Workload::of(service, pod)).collect()
    }

    /// What the bridge is told of its local provider.
    pub fn provider(bridge: &Machine) -> toml::Table {
        Front::provider(bridge, &format!("https://id.localhost:{}", DEMO_DOOR.port()))
    }

    /// Everything of it, after its workloads are enrolled.
    pub fn open(&mut self, bridge: &Bridge) -> Result<()> {
        self.front = Some(Front::start(&self.front_pod, bridge)?);
        let options = GatewayOptions {
            certificates: vec![(self.file("web.pem"), self.file("web.key"))],
            local_provider_secret: Some(Front::gateway_secret(bridge)),
            extra: toml::Table::new(),
        };
        self.gateway = Some(Gateway::start(&self.gateway_pod, &options).context("the gateway")?);
        self.start_prometheus()?;
        self.invite()
    }

    /// The port on this machine at which browsers find it.
    pub fn open_to_this_machine(&self) -> Result<()> {
        let visitor = self.visitor.clone();
        relay::open(DEMO_DOOR, self.address(), move |argv| visitor.place().command(argv))
    }

    /// The gateway's public address.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.gateway_pod.v4(), DEMO_DOOR.port()))
    }

    pub fn visitor(&self) -> &Machine {
        &self.visitor
    }

    /// Whom browsers have to believe.
    pub fn ca() -> PathBuf {
        Path::new(NOTICE_DIR).join("web-ca.pem")
    }

    pub fn fingerprint() -> Result<String> {
        let pem = fs::read(Self::ca())?;
        let certificate = pem_certificate(&pem)?;
        let hex: Vec<String> = Sha256::digest(certificate).iter().map(|b| format!("{b:02X}")).collect();
        Ok(hex.join(":"))
    }

    pub fn user(&self, name: &str) -> Result<&User> {
        self.users.iter().find(|user| user.name == name).with_context(|| format!("there is no {name}"))
    }

    pub fn still_running(&mut self) -> Result<()> {
        if let Some(process) = self.gateway.as_mut().and_then(Gateway::process) {
            process.still_running()?;
        }
        Ok(self.scraper.as_mut().map_or(Ok(()), Proc::still_running)?)
    }

    pub fn close(&mut self) -> Result<()> {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.stop();
        }
        self.front = None;
        self.scraper = None;
        for (_, pod) in self.pods().into_iter().filter(|(_, pod)| pod.place().cgroup().exists()) {
            pod.place().kill_all()?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.gateway_pod.dir().join(name)
    }

    /// An authority of this run, and the gateway's certificate by it.
    fn make_certificates(&self) -> Result<()> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, "weft demo, this run only");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate()?;
        let leaf =
            CertificateParams::new(vec!["*.localhost".to_owned(), "localhost".to_owned()].into_iter().chain(HOSTS.map(str::to_owned)).collect::<Vec<_>>())?;
        let leaf = leaf.signed_by(&own, &issuer)?;
        write(&Self::ca(), &authority.pem())?;
        write(&self.file("web.pem"), &leaf.pem())?;
        write_private(&self.file("web.key"), &own.serialize_pem())
    }

    fn start_prometheus(&mut self) -> Result<()> {
        let dir = self.prometheus.dir();
        let config = dir.join("prometheus.yml");
        let targets: Vec<String> = self.nodes.iter().map(|node| format!("'{node}'")).collect();
        let text = format!(
            "global: {{ scrape_interval: 5s }}\nscrape_configs:\n  - job_name: weft-agent\n    static_configs: [ {{ targets: [ {} ] }} ]\n",
            targets.join(", ")
        );
        write(&config, &text)?;
        let argv = [
            PROMETHEUS.to_owned(),
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            "--web.listen-address=:9090".to_owned(),
        ];
        let mut process = self.prometheus.place().spawn("prometheus", &argv)?;
        process.wait_for_log("Server is ready to receive web requests", limits::PROGRAM_DEADLINE)?;
        self.scraper = Some(process);
        Ok(())
    }

    /// People of this run. The bridge makes their passwords, and keeps only what recognises them.
    fn invite(&mut self) -> Result<()> {
        for (name, groups) in [("alice", "sales"), ("olga", "operators"), ("bob", "")] {
            let mut argv = vec!["user", "add", name, "--generate", "-o", "json"];
            if !groups.is_empty() {
                argv.extend(["--groups", groups]);
            }
            let output = stage::weft(&argv)?.stdin(Stdio::null()).output()?;
            ensure!(output.status.success(), "`weft user add {name}` said {}", String::from_utf8_lossy(&output.stderr).trim());
            let made: Value = serde_json::from_slice(&output.stdout)?;
            let password = made["password"].as_str().with_context(|| format!("`weft user add {name}` made no password"))?;
            self.users.push(User { name, groups, password: password.to_owned() });
        }
        Ok(())
    }
}

/// One label deep, a wildcard below `localhost` is not believed by every browser, so the names stand there too.
const HOSTS: [&str; 6] = ["portal.localhost", "id.localhost", "shop.localhost", "orders.localhost", "hooks.localhost", "prometheus.localhost"];

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("cannot write {}", path.display()))
}

fn pem_certificate(pem: &[u8]) -> Result<Vec<u8>> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    match CertificateDer::from_pem_slice(pem) {
        Ok(certificate) => Ok(certificate.to_vec()),
        Err(e) => bail!("no certificate: {e}"),
    }
}
