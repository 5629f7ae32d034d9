//! The same programs over three paths: without the mesh, on one node, between two nodes; what client and server saw, and where it differs.
//!
//! The programs know nothing of the mesh. Which differences are meant is said in `docs/conformance-sockets.md`, and nowhere else.

mod differences;

use std::{collections::BTreeMap, fmt, net::IpAddr, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
pub use differences::{Difference, between, documented, unexplained};
use weft_lab::{Pod, Proc};

use crate::{Mesh, MeshOptions};

const PROGRAM: &str = concat!(include_str!("frame.py"), include_str!("ends.py"), include_str!("starts.py"), include_str!("carries.py"));
/// Where the servers listen.
pub const PORT: u16 = 8080;
/// The service's own port, in front of [`PORT`].
const SERVICE_PORT: u16 = 80;
/// Connections whose readers stall at once, where memory is looked at.
pub const STALLED: usize = 100;
const START: Duration = Duration::from_secs(20);
/// One case on one path.
const CASE: Duration = Duration::from_secs(90);

/// What one run of a case saw: `client: fact` or `server: fact`, and its value.
pub type Facts = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    NoMesh,
    SameNode,
    TwoNodes,
}

impl Way {
    pub const MESHED: [Self; 2] = [Self::SameNode, Self::TwoNodes];
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoMesh => "no mesh",
            Self::SameNode => "same node",
            Self::TwoNodes => "two nodes",
        })
    }
}

/// How the client writes the server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    /// IPv4 through an IPv6 socket.
    Mapped,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::Mapped => "mapped",
        })
    }
}

/// The mesh, and beside it a client and a server that it does not know, on different nodes.
pub struct Paths {
    pub mesh: Mesh,
    outside: (Pod, Pod),
    vips: (IpAddr, IpAddr),
}

impl Paths {
    pub fn new(tag: &str) -> Result<Self> {
        let options =
            MeshOptions { workloads: vec![("a", "client", "shop/client"), ("a", "near", "shop/server"), ("b", "far", "shop/far")], ..MeshOptions::default() };
        let mesh = Mesh::start(tag, &options)?;
        let outside = (mesh.outsider(0, "plain-client")?, mesh.outsider(1, "plain-server")?);
        let vips = (mesh.vip("shop/server")?, mesh.vip("shop/far")?);
        Ok(Self { mesh, outside, vips })
    }

    pub fn client(&self, way: Way) -> &Pod {
        if way == Way::NoMesh { &self.outside.0 } else { self.mesh.pod("client") }
    }

    pub fn server(&self, way: Way) -> &Pod {
        match way {
            Way::NoMesh => &self.outside.1,
            Way::SameNode => self.mesh.pod("near"),
            Way::TwoNodes => self.mesh.pod("far"),
        }
    }

    /// What the client dials: the service's virtual address where there is one.
    pub fn dialled(&self, way: Way, family: Family) -> (String, u16) {
        let server = self.server(way);
        let (v4, port) = match way {
            Way::NoMesh => (server.v4().into(), PORT),
            Way::SameNode => (self.vips.0, SERVICE_PORT),
            Way::TwoNodes => (self.vips.1, SERVICE_PORT),
        };
        match family {
            Family::V4 => (v4.to_string(), port),
            Family::V6 => (server.v6().to_string(), PORT),
            Family::Mapped => (format!("::ffff:{v4}"), port),
        }
    }

    /// Runs both sides to their end.
    pub fn run(&self, case: &str, way: Way, family: Family) -> Result<Facts> {
        let mut server = self.serve(case, way)?;
        let client = self.client_of(case, way, family);
        let seen = (|| -> Result<Facts> {
            let out = self.client(way).place().output(&client, CASE)?;
            let mut facts = Facts::new();
            read("client", &String::from_utf8_lossy(&out.stdout), &mut facts).with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())?;
            server.wait(CASE)?;
            read("server", &server.log(), &mut facts)?;
            Ok(facts)
        })();
        seen.with_context(|| format!("{case}, {family}, {way}; the server said {}", server.log_tail(5)))
    }

    /// Starts the server's side; it listens when this returns.
    pub fn serve(&self, case: &str, way: Way) -> Result<Proc> {
        let place = self.server(way).place();
        let name = format!("conformance-{}", case.replace([' ', ',', '\''], "-"));
        let port = PORT.to_string();
        let _ = std::fs::remove_file(place.dir().join("log").join(format!("{name}.log")));
        let argv = ["python3", "-u", "-c", PROGRAM, "server", case, &port];
        let mut server = place.spawn_with(&name, &argv, |c| self.roles(way, c))?;
        server.wait_for_log("ready", START)?;
        Ok(server)
    }

    /// The command line of the client's side.
    pub fn client_of(&self, case: &str, way: Way, family: Family) -> Vec<String> {
        let (address, port) = self.dialled(way, family);
        let roles = format!("ROLES={}", self.roles_of(way));
        let (connections, streams) = (format!("CONNECTIONS={}", connections()), format!("STREAMS={STALLED}"));
        ["env", &roles, &connections, &streams, "python3", "-u", "-c", PROGRAM, "client", case, &address, &port.to_string()].map(str::to_owned).into()
    }

    fn roles(&self, way: Way, command: &mut Command) {
        command.env("ROLES", self.roles_of(way));
    }

    fn roles_of(&self, way: Way) -> String {
        let (client, server) = (self.client(way), self.server(way));
        let roles = [
            (client.v4().to_string(), "client"),
            (client.v6().to_string(), "client"),
            (server.v4().to_string(), "server"),
            (server.v6().to_string(), "server"),
        ];
        serde_json::Value::from_iter(roles).to_string()
    }
}

/// How many short connections a run makes: `WEFT_CONNECTIONS`, or what is enough for every day.
pub fn connections() -> usize {
    std::env::var("WEFT_CONNECTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000)
}

/// Takes the facts from what a side printed.
pub fn read(side: &str, printed: &str, into: &mut Facts) -> Result<()> {
    let line = printed.lines().rev().find(|l| l.starts_with('{')).with_context(|| format!("the {side} told no facts: {printed}"))?;
    let serde_json::Value::Object(told) = serde_json::from_str(line)? else { bail!("the {side} told {line}") };
    into.extend(told.into_iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("{side}: {name}"), value)
    }));
    Ok(())
}
