//! What an agent gives the gateway of its node: to it, to nobody else, and for as long as it is one.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use weft_api::agent::v1::Flow;
use weft_lab::{Place, Proc, Workload, bin, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, SHOP, Server, probe};

const SOON: Duration = Duration::from_secs(20);

/// The shop, with `server` open to people of sales.
fn exposed() -> String {
    SHOP.replacen("trustDomain: corp.example", "trustDomain: corp.example, baseDomain: corp.example", 1).replacen(
        "metadata: { name: server, namespace: shop }\nspec:\n",
        "metadata: { name: server, namespace: shop }\nspec:\n  expose: [ { port: web, host: shop, access: { groups: [ sales ] } } ]\n",
        1,
    )
}

fn options() -> MeshOptions {
    MeshOptions {
        catalog: exposed(),
        workloads: vec![("a", "gw", "weft/gateway"), ("a", "client", "shop/client"), ("a", "server", "shop/server"), ("b", "far", "shop/far")],
        may_run: vec![("a", "shop/*"), ("a", "weft/*"), ("b", "shop/*")],
        ..MeshOptions::default()
    }
}

struct World {
    mesh: Mesh,
    socket: PathBuf,
    program: String,
}

impl World {
    fn start(tag: &str) -> Result<Self> {
        let mesh = Mesh::start(tag, &options())?;
        let socket = mesh.agents[0].socket().with_file_name("gateway.sock");
        Ok(Self { mesh, socket, program: bin("gateway-client")?.display().to_string() })
    }

    fn run(&self, place: &Place, args: &[&str]) -> Result<(bool, String)> {
        let socket = self.socket.display().to_string();
        let argv: Vec<&str> = [self.program.as_str(), args[0], &socket].into_iter().chain(args[1..].iter().copied()).collect();
        let said = place.output(&argv, SOON)?;
        Ok((said.status.success(), format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))))
    }

    fn gateway(&self) -> &Place {
        self.mesh.pod("gw").place()
    }

    fn follow(&self, name: &str) -> Result<Follower> {
        let socket = self.socket.display().to_string();
        Ok(Follower(self.gateway().spawn(name, &[self.program.as_str(), "follow", &socket])?))
    }

    fn revision(&self) -> Result<u64> {
        Ok(self.mesh.status(0)?.revision)
    }

    fn flows_of(&self, id: &str) -> Result<Vec<Flow>> {
        Ok(self.mesh.flows(0)?.into_iter().filter(|f| f.id == id).collect())
    }
}

/// A gateway that follows, and comes again.
struct Follower(Proc);

impl Follower {
    fn count(&self, line: &str) -> usize {
        self.0.log().lines().filter(|l| l.starts_with(line)).count()
    }

    fn hears(&self, line: &str, times: usize, mesh: &Mesh) -> Result<()> {
        Ok(eventually(
            SETTLE,
            &format!("{times} times {line:?}"),
            || {
                if self.count(line) >= times { Ok(()) } else { bail!("{}\n{}", self.0.log(), mesh.logs()) }
            },
        )?)
    }
}

#[test]
fn only_a_gateway_is_answered_and_its_requests_are_flows() -> Result<()> {
    let mut w = World::start("gwsock")?;
    assert_eq!(fs::metadata(&w.socket)?.mode() & 0o777, 0o666);
    let revision = format!("revision {} signed by ", w.revision()?);
    let (ok, said) = w.run(w.gateway(), &["ask"])?;
    assert!(ok && said.starts_with(&revision) && said.ends_with(" in 64 bytes\n"), "the control: {said}\n{}", w.mesh.logs());
    let below = w.gateway().in_cgroup(&w.gateway().cgroup().join("worker"))?;
    assert!(w.run(&below, &["ask"])?.0, "a process below the workload's cgroup is the workload's");

    // The same program, everything else the same.
    let outside = w.mesh.outsider(0, "outside")?;
    let client = w.mesh.pod("client").place();
    let netns = outside.place();
    for (place, words) in [
        (client, "of workload client, which is shop/client: only weft/gateway is answered here"),
        (netns, "which belongs to no workload of this node: only weft/gateway is answered here; name that cgroup"),
        (w.mesh.agents[0].place(), "which belongs to no workload of this node"),
    ] {
        for args in [&["ask"][..], &["report", "00000000000000aa", "alice", "shop/server"]] {
            let (ok, said) = w.run(place, args)?;
            assert!(!ok && said.contains("PermissionDenied: process ") && said.contains(words), "{said}");
            assert!(!said.contains("revision") && !said.contains("reported"), "{said}");
        }
    }
    // Its network namespace makes nobody a gateway, and neither does being root there.
    let stranger_cgroup = w.mesh.nodes[0].cgroup().join("outside/beside");
    assert!(!w.run(&w.gateway().in_cgroup(&stranger_cgroup)?, &["ask"])?.0);
    assert!(w.flows_of("00000000000000aa")?.is_empty());

    let (ok, said) = w.run(w.gateway(), &["report", "00000000000000ab", "alice", "shop/server"])?;
    assert!(ok, "{said}");
    let [flow] = &w.flows_of("00000000000000ab")?[..] else { bail!("not one flow: {}", w.mesh.logs()) };
    assert_eq!((flow.node.as_str(), flow.point.as_str(), flow.workload.as_str()), ("a", "gateway", "gw"), "{flow:?}");
    assert_eq!((flow.source.as_str(), flow.destination_owner.as_str()), ("user:alice", "shop"), "{flow:?}");
    let request = flow.request.as_ref().context("a request")?;
    assert_eq!((request.path.as_str(), request.status), ("/orders", 403));

    // An id that is taken, and a workload's name, give nothing.
    let _server = Server::start(w.mesh.pod("server").place(), "near", 8080)?;
    let vip = w.mesh.vip("shop/server")?.to_string();
    assert!(probe(client, "tcp", &vip, 80, "taken")?.ok, "{}", w.mesh.logs());
    let connection = w.mesh.flows(0)?.into_iter().find(|f| f.point == "kernel-out" && f.destination == "shop/server").context("a connection")?;
    assert!(w.run(w.gateway(), &["report", &connection.id, "mallory", "shop/server"])?.0);
    assert!(w.run(w.gateway(), &["report", "00000000000000ab", "mallory", "shop/server"])?.0);
    assert!(w.run(w.gateway(), &["report", "00000000000000ac", "alice", "shop/nobody"])?.0);
    assert_eq!(w.flows_of(&connection.id)?.iter().filter(|f| f.request.is_some()).count(), 0);
    let [same] = &w.flows_of("00000000000000ab")?[..] else { bail!("not one flow") };
    assert_eq!(same, flow);
    assert!(w.flows_of("00000000000000ac")?.is_empty());
    let metrics = w.mesh.agents[0].metrics()?;
    for (line, least) in [
        ("flows_total{outcome=\"kept\"}", 1),
        ("flows_total{outcome=\"taken\"}", 2),
        ("flows_total{outcome=\"refused\"}", 1),
        ("callers_total{outcome=\"refused\"}", 7),
    ] {
        let found = metrics.lines().find_map(|l| l.strip_prefix("weft_gateway_")?.strip_prefix(line)?.trim().parse::<u64>().ok());
        assert!(found >= Some(least), "{line}: {found:?}\n{metrics}");
    }

    // People find it again.
    let (weft, agent) = (bin("weft")?.display().to_string(), w.mesh.agents[0].socket().display().to_string());
    let place = w.mesh.agents[0].place();
    let listed = place.check(&[&weft, "--agent", &agent, "flows", "--from", "user:alice"], SOON)?;
    assert!(listed.lines().count() == 2 && listed.contains("GET shop.corp.example/orders"), "{listed}");
    let why = place.check(&[&weft, "--agent", &agent, "why", "00000000000000ab"], SOON)?;
    assert!(why.contains("user:alice, in support") && why.contains("any one of sales"), "{why}");

    // Without the bridge the last snapshot is given all the same.
    w.mesh.bridge.kill9();
    let (ok, said) = w.run(w.gateway(), &["ask"])?;
    assert!(ok && said.starts_with(&revision), "{said}");
    Ok(())
}

#[test]
fn a_follower_hears_of_each_revision_over_restarts_until_it_is_withdrawn() -> Result<()> {
    let mut w = World::start("gwfollow")?;
    let follower = w.follow("follower")?;
    let line = |revision: u64| format!("revision {revision} ");
    let first = w.revision()?;
    follower.hears(&line(first), 1, &w.mesh)?;
    // Where the kernel does not say which process has connected, a new one has to come twice.
    let tries = follower.count("ended");
    let second = w.mesh.recatalog(&exposed().replace("[ sales ]", "[ sales, support ]"))?;
    follower.hears(&line(second), 1, &w.mesh)?;
    assert_eq!((follower.count("ended"), follower.count(&line(first))), (tries, 1), "one stream, each revision once");

    w.mesh.agents[0].kill9();
    follower.hears("ended", tries + 1, &w.mesh)?;
    w.mesh.agents[0].run()?;
    follower.hears(&line(second), 2, &w.mesh)?;

    // A successor answers at the same place, also when the one before has ended.
    w.mesh.agents[0].replace(&bin("weft-agent")?)?;
    follower.hears("ended Unavailable: the agent ends: connect again", 1, &w.mesh)?;
    follower.hears(&line(second), 3, &w.mesh)?;
    let ended = w.mesh.agents[0].predecessor().context("no process")?.wait(SETTLE)?;
    assert!(ended.success() && w.socket.exists(), "{ended:?}");
    w.mesh.settled()?;

    let (all, without): (Vec<Workload>, Vec<Workload>) = {
        let of = |names: &[(&str, &str)]| names.iter().map(|(service, pod)| Workload::of(service, w.mesh.pod(pod))).collect();
        (of(&[("weft/gateway", "gw"), ("shop/client", "client"), ("shop/server", "server")]), of(&[("shop/client", "client"), ("shop/server", "server")]))
    };
    let (heard, said) = (follower.count("revision"), w.run(w.gateway(), &["ask"])?);
    assert!(said.0, "the control: {}", said.1);
    w.mesh.agents[0].set_workloads(&without)?;
    follower.hears("ended PermissionDenied: workload gw of weft/gateway has been withdrawn", 1, &w.mesh)?;
    follower.hears("ended PermissionDenied: process ", 2, &w.mesh)?;
    let third = w.mesh.recatalog(&exposed())?;
    assert_eq!((follower.count(&line(third)), follower.count("revision")), (0, heard), "{}", follower.0.log());
    w.mesh.agents[0].set_workloads(&all)?;
    follower.hears(&line(third), 1, &w.mesh)?;

    w.mesh.agents[0].stop();
    assert!(!w.socket.exists(), "the socket goes with the agent");
    Ok(())
}
