//! A mesh with a door: one node, a gateway, the local identity provider, applications in pods, and a machine outside where people are.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use weft_api::agent::v1 as api;
use weft_lab::{Agent, AgentOptions, Bridge, BridgeOptions, Front, Gateway, GatewayOptions, Lab, Machine, Node, Place, Pod, Proc, Workload, bin, eventually};

use crate::SETTLE;

/// What people type behind the host.
pub const PORT: u16 = 8443;
/// Below it are all hosts. No browser knows anything about it by itself.
pub const DOMAIN: &str = "apps.corp.example";
const COMMAND: Duration = Duration::from_secs(30);

/// One application: a pod of its name in namespace `shop`, and the program in it.
#[derive(Clone, Debug)]
pub struct App {
    pub name: &'static str,
    pub argv: Vec<String>,
    /// What it says when it is ready; empty: it is not waited for.
    pub ready: &'static str,
    pub envs: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// Everything but the `Mesh` and the team `shop`.
    pub catalog: String,
    /// First labels of the applications' hosts.
    pub hosts: Vec<&'static str>,
    pub apps: Vec<App>,
    /// Name, password, groups.
    pub users: Vec<(&'static str, &'static str, &'static str)>,
    /// Further keys of the gateway's configuration.
    pub gateway: toml::Table,
}

/// Fields end in order: the gateway first, the lab last.
pub struct Door {
    pub gateway: Gateway,
    pub apps: Vec<Proc>,
    pub front: Front,
    pub agent: Agent,
    pub bridge: Bridge,
    pub pods: Vec<(String, Pod)>,
    pub node: Node,
    /// Outside the mesh, where browsers and clients run.
    pub people: Machine,
    pub certificates: Certificates,
    pub catalog: PathBuf,
    hosts: Vec<String>,
    pub lab: Lab,
}

impl Door {
    pub fn open(tag: &str, options: &DoorOptions) -> Result<Self> {
        let mut lab = Lab::new(tag)?;
        let catalog = lab.work().join("catalog");
        fs::create_dir_all(&catalog)?;
        fs::write(catalog.join("mesh.yaml"), mesh())?;
        fs::write(catalog.join("apps.yaml"), &options.catalog)?;
        let certificates = Certificates::make(&lab.work().join("tls"), &options.hosts)?;
        let iam = lab.machine("iam", &[])?;
        let node = lab.node("a")?;
        let people = lab.machine("people", &[])?;
        let bridge = Bridge::start(
            &iam,
            &BridgeOptions { catalog: catalog.clone(), svid_ttl: "1h".to_owned(), extra: Front::provider(&iam, &format!("https://id.{DOMAIN}:{PORT}")) },
        )?;
        let names = ["gateway", "front"].into_iter().chain(options.apps.iter().map(|app| app.name));
        let pods: Vec<(String, Pod)> = names.map(|name| Ok((name.to_owned(), node.pod(name)?))).collect::<Result<_>>()?;
        let service = |name: &str| match name {
            "gateway" => "weft/gateway".to_owned(),
            "front" => "weft/iam-bridge".to_owned(),
            app => format!("shop/{app}"),
        };
        let workloads = pods.iter().map(|(name, pod)| Workload::of(&service(name), pod)).collect();
        let token = bridge.token(node.name(), &["weft/*", "shop/*"])?;
        let mut agent = Agent::configure(&node, &AgentOptions { bridge: Some(bridge.address()), token, workloads, ..AgentOptions::default() })?;
        agent.run()?;
        enrolled(&agent, pods.len())?;
        let front = Front::start(pod(&pods, "front"), &bridge)?;
        let apps = options.apps.iter().map(|app| start(pod(&pods, app.name), app)).collect::<Result<_>>()?;
        let gateway_options = GatewayOptions {
            certificates: vec![(certificates.chain.clone(), certificates.key.clone())],
            local_provider_secret: Some(Front::gateway_secret(&bridge)),
            extra: options.gateway.clone(),
        };
        let gateway = Gateway::start(pod(&pods, "gateway"), &gateway_options)?;
        let hosts = ["portal", "id"].iter().chain(&options.hosts).map(|host| (*host).to_owned()).collect();
        let door = Self { hosts, gateway, apps, front, agent, bridge, pods, node, people, certificates, catalog, lab };
        for (name, password, groups) in &options.users {
            let groups = if groups.is_empty() { vec![] } else { vec!["--groups", groups] };
            door.user(&[&["add", name][..], &groups].concat(), password)?;
        }
        Ok(door)
    }

    /// Where people reach the gateway.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.gateway.v4(), PORT))
    }

    /// Where people are, with the names of all hosts.
    pub fn outside(&self) -> Result<Place> {
        let hosts = self.people.place().dir().join("hosts");
        let names: String = self.hosts.iter().map(|host| format!(" {host}.{DOMAIN}")).collect();
        fs::write(&hosts, format!("127.0.0.1 localhost\n{}{names}\n", self.gateway.v4()))?;
        Ok(self.people.place().in_cgroup(self.people.place().cgroup())?.with_hosts(&hosts))
    }

    pub fn pod(&self, name: &str) -> &Pod {
        pod(&self.pods, name)
    }

    /// `weft user`, with this on its standard input.
    pub fn user(&self, args: &[&str], input: &str) -> Result<()> {
        let mut command = Command::new(bin("weft")?);
        command.arg("--bridge").arg(self.bridge.socket()).arg("user").args(args);
        run(&mut command, input).map(drop)
    }

    pub fn logs(&self) -> String {
        let parts = [("gateway", self.gateway.log()), ("access", self.gateway.access_log()), ("agent", self.agent.log()), ("bridge", self.bridge.log())];
        parts.iter().map(|(name, log)| format!("--- {name}\n{}\n", tail(log))).collect()
    }
}

fn pod<'a>(pods: &'a [(String, Pod)], name: &str) -> &'a Pod {
    &pods.iter().find(|(of, _)| of == name).unwrap_or_else(|| panic!("no pod {name}")).1
}

fn start(pod: &Pod, app: &App) -> Result<Proc> {
    let mut process = pod.place().spawn_with("app", &app.argv, |command| {
        command.envs(app.envs.iter().map(|(name, value)| (name, value)));
    })?;
    if !app.ready.is_empty() {
        process.wait_for_log(app.ready, COMMAND)?;
    }
    Ok(process)
}

fn mesh() -> String {
    format!(
        r##"apiVersion: weft.mesh/v1alpha1
kind: Mesh
metadata: {{ name: corp }}
spec:
  trustDomain: corp.example
  baseDomain: {DOMAIN}
  publicPort: {PORT}
  serviceRange: 100.64.0.0/16
  portal: {{ title: Corner shop, support: "#help" }}
  bookmarks:
    - {{ title: Handbook, url: "https://handbook.corp.example/", icon: document, category: Team }}
    - {{ title: Bank, url: "https://bank.example/", icon: money, category: Office, groups: [ finance ] }}
---
apiVersion: weft.mesh/v1alpha1
kind: Team
metadata: {{ name: shop }}
spec: {{ lead: grace@corp.example, contact: "#shop", groups: [ shop-team ] }}
"##
    )
}

fn enrolled(agent: &Agent, wanted: usize) -> Result<()> {
    eventually(SETTLE, "every workload enrolled", || -> Result<()> {
        let status = call(agent, async |mut c| c.status(api::StatusRequest {}).await)?;
        let enrolled = status.workloads.iter().filter(|w| w.enrolled_in_kernel && w.svid_not_after > 0).count();
        ensure!(enrolled == wanted && status.kernel_revision == status.revision, "{enrolled} of {wanted}: {:?}", status.workloads);
        Ok(())
    })
    .with_context(|| format!("the agent said:\n{}", tail(&agent.log())))
}

type Client = api::agent_client::AgentClient<tonic::transport::Channel>;

fn call<T>(agent: &Agent, f: impl AsyncFnOnce(Client) -> Result<tonic::Response<T>, tonic::Status>) -> Result<T> {
    let socket = agent.socket();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let channel = weft_api::connect_unix(&socket).await.with_context(|| format!("connect to {}", socket.display()))?;
        Ok(f(Client::new(channel)).await?.into_inner())
    })
}

/// A certificate authority made for one lab, and what it vouches for: the hosts, and nothing beside them.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub chain: PathBuf,
    pub key: PathBuf,
    /// Chain and key in one file, as HAProxy wants them.
    pub both: PathBuf,
}

impl Certificates {
    fn make(dir: &Path, hosts: &[&str]) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let at = |name: &str| dir.join(name);
        let names = ["portal", "id"].iter().chain(hosts).map(|host| format!("DNS:{host}.{DOMAIN}")).collect::<Vec<_>>().join(",");
        fs::write(at("leaf.cnf"), format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n"))?;
        let openssl = |line: &str| run(Command::new("openssl").args(line.split_whitespace()).current_dir(dir), "").map(drop);
        for name in ["ca", "leaf"] {
            openssl(&format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"))?;
        }
        openssl("req -x509 -new -key ca.key -subj /CN=weft-tests -days 30 -out ca.pem")?;
        openssl("req -new -key leaf.key -subj /CN=weft-gateway -out leaf.csr")?;
        openssl("x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 7 -extfile leaf.cnf -out leaf.pem")?;
        fs::write(at("chain.pem"), fs::read_to_string(at("leaf.pem"))? + &fs::read_to_string(at("ca.pem"))?)?;
        fs::write(at("both.pem"), fs::read_to_string(at("chain.pem"))? + &fs::read_to_string(at("leaf.key"))?)?;
        Ok(Self { ca: at("ca.pem"), chain: at("chain.pem"), key: at("leaf.key"), both: at("both.pem") })
    }

    /// SHA-256 of the public key, as browsers pin it.
    pub fn pin(&self) -> Result<String> {
        let key = self.key.display().to_string();
        let script = r#"openssl pkey -in "$1" -pubout -outform der | openssl dgst -sha256 -binary | openssl enc -base64"#;
        Ok(run(Command::new("sh").args(["-c", script, "sh", &key]), "")?.trim().to_owned())
    }
}

/// Runs a program to its end with this on its standard input, and gives what it printed.
fn run(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write as _;
    let shown = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("{shown} cannot be started"))?;
    child.stdin.take().context("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{shown} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
