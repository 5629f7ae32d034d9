//! A gateway with everything around it, on loopback addresses of its own.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use ipnet::Ipv4Net;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use weft_catalog::Catalog;
use weft_gateway::{CertificateFiles, Config, Running, sso::Lifetimes, start_at};
use weft_policy::{Compiled, Ids, compile};
use weft_snapshot::{Endpoint, Snapshot};
use weft_telemetry::LogFormat;
use weft_types::{Revision, RuleId, ServiceId, ServiceRef};

use crate::{
    agent::Agent,
    client::Authority,
    provider::{API, CLIENT, CLIENT_SECRET, Provider},
};

pub(crate) const PORT: u16 = 8443;
pub(crate) const BACK_CHANNEL_PORT: u16 = 15014;
/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The ports at which all applications listen: for HTTP/1.1, and for HTTP/2.
pub(crate) const WEB_PORT: u16 = 8080;
pub(crate) const RPC_PORT: u16 = 8081;

/// Unix seconds, shared by gateway and provider, moved by the test.
#[derive(Clone)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// Another loopback address with each call, and in each process others, most likely.
pub(crate) fn address() -> Ipv4Addr {
    static BASE: LazyLock<u16> = LazyLock::new(|| {
        let mut bytes = [0; 2];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        u16::from_be_bytes(bytes)
    });
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = BASE.wrapping_add(next / 250).to_be_bytes();
    // Not among those that programs use by habit.
    Ipv4Addr::new(127, high.max(1), low, u8::try_from(next % 250).unwrap() + 2)
}

#[derive(Default)]
struct Numbers {
    services: BTreeMap<ServiceRef, u32>,
    rules: BTreeMap<String, u32>,
}

impl Ids for Numbers {
    fn service_id(&mut self, service: &ServiceRef) -> ServiceId {
        let next = u32::try_from(self.services.len()).unwrap() + 1;
        ServiceId(*self.services.entry(service.clone()).or_insert(next))
    }

    fn vip(&mut self, service: &ServiceRef, range: Ipv4Net) -> Option<Ipv4Addr> {
        let id = self.service_id(service).0;
        range.hosts().nth(id as usize - 1)
    }

    fn rule_id(&mut self, key: &str) -> RuleId {
        let next = u32::try_from(self.rules.len()).unwrap() + 1;
        RuleId(*self.rules.entry(key.to_owned()).or_insert(next))
    }
}

/// What the gateway finds when it starts. Change it with [`World::with`].
pub(crate) struct Plan {
    pub(crate) config: Config,
    /// Exposures by service, as YAML entries.
    pub(crate) expose: BTreeMap<String, Vec<String>>,
    /// Service and workload's address.
    pub(crate) workloads: Vec<(String, Ipv4Addr)>,
    pub(crate) public_port: u16,
    pub(crate) listen_port: Option<u16>,
    pub(crate) redirect_port: Option<u16>,
    /// Whether people sign in at the local provider; `provider` is none of it then.
    pub(crate) local_provider: bool,
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) provider: Arc<Provider>,
    pub(crate) authority: Authority,
    pub(crate) time: Time,
    pub(crate) address: IpAddr,
    pub(crate) dir: TempDir,
    pub(crate) plan: Mutex<Plan>,
    running: Mutex<Option<Running>>,
    numbers: Mutex<(Numbers, u64)>,
}

impl Plan {
    pub(crate) fn expose(&mut self, service: &str, entries: &[&str]) {
        self.expose.insert(service.to_owned(), entries.iter().map(|e| (*e).to_owned()).collect());
    }

    pub(crate) fn workload(&mut self, service: &str, address: Ipv4Addr) {
        self.workloads.push((service.to_owned(), address));
    }
}

impl World {
    /// A gateway at work, planned by the test.
    pub(crate) async fn with(plan: impl FnOnce(&mut Plan)) -> Self {
        let world = Self::before(plan).await;
        world.revise(|_| {});
        world.start().await;
        world
    }

    /// Everything but the gateway, and no policy yet.
    pub(crate) async fn before(plan: impl FnOnce(&mut Plan)) -> Self {
        let time = Time(Arc::new(AtomicU64::new(1_800_000_000)));
        let provider = Provider::start(time.clone()).await;
        provider.set(|b| drop(b.claims.insert("email_verified".to_owned(), true.into())));
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let pair = authority.issue(dir.path(), "all", &["*.corp.example"]);
        let agent = Agent::start(dir.path());
        let address = IpAddr::V4(address());
        let mut planned = Plan {
            config: config(dir.path(), agent.socket.clone(), address, pair),
            expose: BTreeMap::new(),
            workloads: Vec::new(),
            public_port: PORT,
            listen_port: None,
            redirect_port: None,
            local_provider: false,
        };
        plan(&mut planned);
        std::fs::write(dir.path().join("secret"), CLIENT_SECRET).unwrap();
        Self { agent, provider, authority, time, address, dir, plan: Mutex::new(planned), running: Mutex::default(), numbers: Mutex::default() }
    }

    pub(crate) async fn start(&self) {
        // One that ran here before has let go of its ports.
        eventually("the port is free", async || std::net::TcpListener::bind(self.metrics()).is_ok()).await;
        let (config, clock) = (self.plan.lock().unwrap().config.clone(), self.time.clone());
        let running = tokio::time::timeout(PATIENCE, start_at(config, Arc::new(move || clock.now()))).await.expect("the gateway starts");
        *self.running.lock().unwrap() = Some(running.unwrap());
    }

    /// Another revision of the policy. Its number.
    pub(crate) fn revise(&self, change: impl FnOnce(&mut Plan)) -> u64 {
        change(&mut self.plan.lock().unwrap());
        let snapshot = self.snapshot();
        self.agent.say(&snapshot);
        snapshot.revision.0
    }

    /// The same, in force when this returns.
    pub(crate) async fn revised(&self, change: impl FnOnce(&mut Plan)) {
        let revision = self.revise(change);
        eventually("the revision is in force", async || self.metric("weft_gateway_revision").await as u64 == revision).await;
    }

    pub(crate) fn running(&self) -> Running {
        self.running.lock().unwrap().take().expect("the gateway runs")
    }

    pub(crate) fn reload(&self) {
        self.running.lock().unwrap().as_ref().expect("the gateway runs").reload();
    }

    pub(crate) fn public(&self) -> SocketAddr {
        let plan = self.plan.lock().unwrap();
        SocketAddr::new(self.address, plan.listen_port.unwrap_or(plan.public_port))
    }

    pub(crate) fn metrics(&self) -> SocketAddr {
        SocketAddr::new(self.address, 9100)
    }

    /// Lines of the access log.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    fn snapshot(&self) -> Snapshot {
        let plan = self.plan.lock().unwrap();
        let mut numbers = self.numbers.lock().unwrap();
        numbers.1 += 1;
        let documents = documents(&plan, &self.provider, self.dir.path());
        let catalog = Catalog::parse([("all.yaml", documents.as_str())]).unwrap_or_else(|findings| {
            let all: Vec<_> = findings.iter().map(ToString::to_string).collect();
            panic!("{}", all.join("\n\n"))
        });
        let Compiled { services, grants, pending, teams, gateway, without_vip } = compile(&catalog, &mut numbers.0);
        assert!(without_vip.is_empty());
        let endpoint = |(i, (service, address)): (usize, &(String, Ipv4Addr))| Endpoint {
            service: services.iter().find(|s| s.name.to_string() == *service).unwrap().id,
            node: "a".parse().unwrap(),
            uid: format!("w{i}").parse().unwrap(),
            addresses: vec![IpAddr::V4(*address)],
        };
        let known = |(_, (service, _)): &(usize, &(String, Ipv4Addr))| services.iter().any(|s| s.name.to_string() == *service);
        let endpoints = plan.workloads.iter().enumerate().filter(known).map(endpoint).collect();
        let (revision, mesh, trust_domain) = (Revision(numbers.1), "corp".to_owned(), "corp.example".parse().unwrap());
        Snapshot { revision, mesh, trust_domain, services, endpoints, grants, pending, teams, gateway }
    }
}

fn config(dir: &Path, agent_socket: std::path::PathBuf, listen: IpAddr, pair: CertificateFiles) -> Config {
    Config {
        agent_socket,
        state_dir: dir.join("state"),
        listen,
        certificates: vec![pair],
        local_provider_secret_file: None,
        provider_roots: dir.join("no-roots"),
        trusted_proxies: Vec::new(),
        drain: Duration::from_secs(1),
        lifetimes: Lifetimes { idle: 7200, absolute: 43_200, refresh: 300 },
        metrics: Some(SocketAddr::new(listen, 9100)),
        access_log: Some(dir.join("access.log")),
        log_level: "info".to_owned(),
        log_format: LogFormat::Text,
    }
}

fn documents(plan: &Plan, provider: &Provider, dir: &Path) -> String {
    let providers = format!(
        "  identityProviders:\n    - {{ name: corp, issuer: \"{}\", clientId: {CLIENT}, clientSecretFile: {}, scopes: [ openid, email, offline_access ], apiAudiences: [ \"{API}\" ] }}\n",
        provider.issuer(),
        dir.join("secret").display(),
    );
    let port = |name: &str, port: Option<u16>| port.map_or_else(String::new, |port| format!("  {name}: {port}\n"));
    let mesh = format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: {{ name: corp }}\nspec:\n  trustDomain: corp.example\n  baseDomain: corp.example\n  publicPort: {}\n{}{}{}",
        plan.public_port,
        port("listenPort", plan.listen_port),
        port("redirectPort", plan.redirect_port),
        // A provider alone would make for a gateway.
        if plan.expose.is_empty() || plan.local_provider { "" } else { &providers },
    );
    let team = "apiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: team-a }\nspec: { lead: ada@corp.example, contact: \"#help-a\" }\n";
    let mut all = vec![mesh, team.to_owned()];
    for (service, entries) in &plan.expose {
        let (namespace, name) = service.split_once('/').unwrap();
        let expose: String = entries.iter().map(|entry| format!("    - {entry}\n")).collect();
        let title = name.to_ascii_uppercase();
        all.push(format!(
            "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec:\n  type: application\n  title: {title}\n  owner: team-a\n  \
             ports: [ {{ name: web, port: 80, targetPort: {WEB_PORT}, appProtocol: http }}, {{ name: rpc, port: 81, targetPort: {RPC_PORT}, appProtocol: grpc }} ]\n  expose:\n{expose}"
        ));
    }
    all.join("---\n")
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < until, "waited in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
