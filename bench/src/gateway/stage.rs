//! Three proxies before the same page of 1 KiB, one at a time under load: weft's gateway, whose application is in the mesh, and nginx and HAProxy, whose copy
//! of it is not. All have one certificate, speak TLS 1.3 and HTTP/2, use both cores, keep connections to the application, and write a line for each request.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use weft_lab::{Place, Pod, Proc};
use weft_tests::door::{App, DOMAIN, Door, DoorOptions, PORT};

const START: Duration = Duration::from_secs(30);
const USER: (&str, &str, &str) = ("alice", "a password of alice", "sales");
/// Bytes of the page.
const PAGE_BYTES: usize = 1024;

const CATALOG: &str = r#"apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: page, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose:
    - { port: web, host: bench, access: { public: true } }
    - { port: web, host: inside, access: { groups: [ sales ] } }
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proxy {
    Nginx,
    Haproxy,
    Weft,
    /// The same gateway, on a route that asks who somebody is.
    WeftSignedIn,
}

impl Proxy {
    pub const ALL: [Self; 4] = [Self::Nginx, Self::Haproxy, Self::Weft, Self::WeftSignedIn];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Weft => "weft, public",
            Self::WeftSignedIn => "weft, signed in",
        }
    }

    pub fn host(self) -> String {
        format!("{}.{DOMAIN}", if self == Self::WeftSignedIn { "inside" } else { "bench" })
    }
}

pub struct Stage {
    nginx: Pod,
    haproxy: Pod,
    _processes: Vec<Proc>,
    pub cookie: String,
    pub door: Door,
}

impl Stage {
    pub fn set() -> Result<Self> {
        let page = std::env::temp_dir().join(format!("weft-bench-{}", std::process::id()));
        fs::create_dir_all(&page)?;
        fs::write(page.join("index.html"), "x".repeat(PAGE_BYTES))?;
        fs::write(page.join("backend.conf"), backend(&page))?;
        let argv = nginx(&page.join("backend.conf"));
        let app = App { name: "page", argv: argv.clone(), ready: "", envs: Vec::new() };
        let options =
            DoorOptions { catalog: CATALOG.to_owned(), hosts: vec!["bench", "inside"], apps: vec![app], users: vec![USER], gateway: toml::Table::new() };
        let door = Door::open("benchdoor", &options)?;
        let outside = |name: &str| door.node.pod_in(name, &door.node.cgroup().join("outside").join(name));
        let (copy, nginx_pod, haproxy_pod) = (outside("copy")?, outside("nginx")?, outside("haproxy")?);
        let mut processes = vec![copy.place().spawn("page", &argv)?];
        let config = |pod: &Pod, text: String| -> Result<std::path::PathBuf> {
            let path = pod.dir().join("conf");
            fs::write(&path, text)?;
            Ok(path)
        };
        let conf = config(&nginx_pod, nginx_config(&door, &nginx_pod, copy.v4()))?;
        processes.push(nginx_pod.place().spawn("nginx", &nginx(&conf))?);
        let conf = config(&haproxy_pod, haproxy_config(&door, copy.v4()))?;
        // Its lines go to its standard output, which is a file.
        processes.push(haproxy_pod.place().spawn("haproxy", &["haproxy", "-db", "-f", &conf.display().to_string()])?);
        let mut stage = Self { nginx: nginx_pod, haproxy: haproxy_pod, _processes: processes, cookie: String::new(), door };
        stage.cookie = stage.sign_in()?;
        Ok(stage)
    }

    fn pod(&self, proxy: Proxy) -> &Pod {
        match proxy {
            Proxy::Nginx => &self.nginx,
            Proxy::Haproxy => &self.haproxy,
            Proxy::Weft | Proxy::WeftSignedIn => self.door.gateway.pod(),
        }
    }

    pub fn address(&self, proxy: Proxy) -> SocketAddr {
        SocketAddr::from((self.pod(proxy).v4(), PORT))
    }

    /// Where the load comes from; the proxy's host has its address there.
    pub fn outside(&self, proxy: Proxy) -> Result<Place> {
        let people = self.door.people.place();
        let hosts = people.dir().join(format!("hosts-{proxy:?}"));
        let names = ["portal", "id", "bench", "inside"].map(|name| format!(" {name}.{DOMAIN}")).concat();
        fs::write(&hosts, format!("{}{names}\n", self.pod(proxy).v4()))?;
        Ok(people.in_cgroup(people.cgroup())?.with_hosts(&hosts))
    }

    /// Microseconds of processor time of everything in the proxy's pod so far.
    pub fn cpu_us(&self, proxy: Proxy) -> Result<u64> {
        let file = self.pod(proxy).place().cgroup().join("cpu.stat");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let value = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).context("no usage_usec")?;
        Ok(value.parse()?)
    }

    /// Memory of the proxy's processes in KiB, what they share counted once.
    pub fn memory_kib(&self, proxy: Proxy) -> Result<u64> {
        let mut sum = 0;
        for pid in weft_lab::pids_below(self.pod(proxy).place().cgroup()) {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix("Pss:")).and_then(|rest| rest.split_whitespace().next());
            sum += value.map_or(Ok(0), str::parse)?;
        }
        ensure!(sum > 0, "{} has no process", proxy.name());
        Ok(sum)
    }

    fn sign_in(&self) -> Result<String> {
        let script = self.door.people.place().dir().join("login.py");
        fs::write(&script, include_str!("login.py"))?;
        let url = format!("https://{}:{PORT}/", Proxy::WeftSignedIn.host());
        let ca = self.door.certificates.ca.display().to_string();
        let outside = self.outside(Proxy::WeftSignedIn)?;
        let mut command = outside.command(&["python3", &script.display().to_string(), &ca, &url, USER.0]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        std::io::Write::write_all(&mut child.stdin.take().context("no standard input")?, USER.1.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "nobody could sign in; {}", self.door.logs());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Until every proxy answers.
    pub fn ready(&self, mut ask: impl FnMut(Proxy) -> Result<()>) -> Result<()> {
        for proxy in Proxy::ALL {
            weft_lab::eventually(START, proxy.name(), || ask(proxy))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("weft-bench-{}", std::process::id())));
    }
}

fn nginx(conf: &Path) -> Vec<String> {
    ["/usr/sbin/nginx", "-c", &conf.display().to_string()].map(str::to_owned).to_vec()
}

/// Lines as long as the others', in the same place.
const NGINX: &str = "daemon off; user root; worker_processes auto; pid /dev/null; error_log /dev/null;\nevents { worker_connections 8192; }\n";

fn backend(page: &Path) -> String {
    format!(
        "{NGINX}http {{ access_log off; server {{ listen 8080 backlog=4096; keepalive_requests 100000000; keepalive_timeout 600s; root {}; }} }}\n",
        page.display()
    )
}

fn nginx_config(door: &Door, pod: &Pod, backend: Ipv4Addr) -> String {
    let (chain, key, log) = (door.certificates.chain.display(), door.certificates.key.display(), pod.dir().join("access.log"));
    format!(
        "{NGINX}http {{ access_log {}; keepalive_requests 100000000; keepalive_timeout 600s;\n\
         upstream page {{ server {backend}:8080; keepalive 256; keepalive_requests 100000000; }}\n\
         server {{ listen {PORT} ssl http2 backlog=4096; ssl_protocols TLSv1.3; ssl_certificate {chain}; ssl_certificate_key {key}; ssl_ecdh_curve X25519;\n\
         location / {{ proxy_pass http://page; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $http_host; }} }} }}\n",
        log.display()
    )
}

fn haproxy_config(door: &Door, backend: Ipv4Addr) -> String {
    format!(
        "global\n maxconn 8192\n log stdout format raw local0\n\
         defaults\n mode http\n log global\n option httplog\n timeout connect 5s\n timeout client 600s\n timeout server 600s\n timeout http-keep-alive 600s\n http-reuse always\n\
         frontend f\n bind :{PORT} ssl crt {} alpn h2,http/1.1 ssl-min-ver TLSv1.3 curves X25519\n default_backend b\n\
         backend b\n server s {backend}:8080\n",
        door.certificates.both.display()
    )
}
