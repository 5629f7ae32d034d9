//! Whatever state the node is in, nothing forbidden passes; beside each denial stands a control that differs in the grant only.

use anyhow::{Context as _, Result, bail};
use weft_lab::{Inventory, METRICS, Place, eventually};
use weft_tests::{Mesh, MeshOptions, Outcome, SETTLE, Server, Traffic, hold_port};

const PORT: u16 = 8080;

/// What a state promises beyond denial.
#[derive(Clone, Copy, PartialEq)]
enum Control {
    /// Granted same-node traffic works.
    Works,
    /// Nobody knows of the grant yet, so the granted client is refused too; in the next state it works.
    Refused,
    /// Nothing is promised: the state may refuse granted traffic too.
    Unpromised,
}

#[test]
fn nothing_forbidden_passes_in_any_state() -> Result<()> {
    let mut mesh = Mesh::start("states", &MeshOptions { agents_wait: true, ..MeshOptions::default() })?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let nobody = mesh.nodes[0].pod("nobody")?;
    let mut table = Table::default();

    mesh.agents[0].guard()?;
    table.row(&mesh, &server, "agent not started", Control::Refused)?;
    for agent in &mut mesh.agents {
        agent.run()?;
    }
    mesh.settled()?;
    table.row(&mesh, &server, "running", Control::Works)?;
    table.row_of(&mesh, &server, "unidentified workload", nobody.place(), Control::Works)?;
    mesh.bridge.kill9();
    table.row(&mesh, &server, "bridge dead", Control::Works)?;
    mesh.agents[0].kill9();
    table.row(&mesh, &server, "agent killed", Control::Works)?;
    mesh.agents[0].spawn()?;
    table.row(&mesh, &server, "agent restarting", Control::Works)?;
    mesh.agents[0].stop();
    mesh.agents[0].run()?;
    eventually(SETTLE, "the workloads after a restart without a bridge", || -> Result<()> {
        let status = mesh.status(0)?;
        if status.workloads.iter().filter(|w| w.enrolled_in_kernel).count() == 3 { Ok(()) } else { bail!("{:?}", status.workloads) }
    })?;
    table.row(&mesh, &server, "restarted, bridge dead", Control::Works)?;
    mesh.agents[0].kill_all()?;
    table.row(&mesh, &server, "agent and holder killed", Control::Works)?;
    let pinned = mesh.pinned(0)?;
    assert!(pinned.empty_grants()? > 0);
    table.row(&mesh, &server, "grants emptied", Control::Unpromised)?;
    assert!(pinned.empty_workloads()? > 0);
    drop(pinned);
    table.row(&mesh, &server, "workloads emptied", Control::Unpromised)?;
    mesh.agents[0].forget()?;
    mesh.agents[0].run()?;
    mesh.snapshot(0).expect_err("there is neither a bridge nor a file that it could come from");
    table.row(&mesh, &server, "no snapshot", Control::Refused)?;
    print!("{}", table.text);
    drop(server);
    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

#[test]
fn before_an_agent_ever_ran_the_guard_denies() -> Result<()> {
    let mut mesh = Mesh::start("guard", &MeshOptions { agents_wait: true, ..MeshOptions::default() })?;
    let target = mesh.outsider(0, "target")?;
    let unmanaged = mesh.outsider(0, "stray")?;
    let server = Server::start(target.place(), "open", PORT)?;
    let reach = |mesh: &Mesh, pod: &str, traffic: Traffic| {
        traffic.attempt(mesh.pod(pod).place(), target.v4().into(), target.v6().into(), PORT, pod).with_context(|| traffic.name())
    };
    // Control: without the guard there is nothing that could deny.
    assert!(reach(&mesh, "client", Traffic::Tcp4)?.ok);
    // Neither a held port nor a broken file of workloads is a reason to leave the node open.
    let held = hold_port(mesh.nodes[0].place(), METRICS)?;
    let workloads = mesh.agents[0].workloads_file();
    std::fs::rename(&workloads, workloads.with_extension("aside"))?;
    std::fs::write(&workloads, "[[workload]]\nservice = 7\n")?;
    let said = mesh.agents[0].guard()?;
    std::fs::rename(workloads.with_extension("aside"), &workloads)?;
    drop(held);
    assert!(said.contains("are denied"), "{said}");
    for traffic in Traffic::ALL {
        let denied = reach(&mesh, "stranger", traffic)?;
        assert!(!denied.ok, "{}: not started, and yet: {denied:?}", traffic.name());
    }
    assert!(!server.got("stranger"));
    let control = Traffic::Tcp4.attempt(unmanaged.place(), target.v4().into(), target.v6().into(), PORT, "stray")?;
    assert!(control.ok, "{control:?}");
    // An agent takes over what the guard has attached.
    for agent in &mut mesh.agents {
        agent.run()?;
    }
    mesh.settled()?;
    let near = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let to = mesh.pod("server");
    let granted = Traffic::Tcp4.attempt(mesh.pod("client").place(), to.v4().into(), to.v6().into(), PORT, "granted")?;
    assert!(granted.ok, "{granted:?}\n{}", mesh.logs());
    drop(near);
    Ok(())
}

#[test]
fn an_unidentified_workload_in_a_managed_subtree_gets_nothing() -> Result<()> {
    let mesh = Mesh::start("unidentified", &MeshOptions::default())?;
    // Outside what the agent manages: a target that refuses nobody, so only the caller's side can deny.
    let target = mesh.outsider(0, "target")?;
    let unidentified = mesh.nodes[0].pod("nobody")?;
    let unmanaged = mesh.outsider(0, "stray")?;
    let server = Server::start(target.place(), "open", PORT)?;
    for traffic in Traffic::ALL {
        if traffic == Traffic::UnshareNet {
            continue;
        }
        let try_from = |pod: &weft_lab::Pod, marker: &str| traffic.attempt(pod.place(), target.v4().into(), target.v6().into(), PORT, marker);
        let denied = try_from(&unidentified, "from-nobody").with_context(|| traffic.name())?;
        assert!(!denied.ok, "{}: unidentified got through: {denied:?}", traffic.name());
        let control = try_from(&unmanaged, "from-outside").with_context(|| traffic.name())?;
        assert!(control.ok, "{}: the control did not work: {control:?}", traffic.name());
    }
    assert!(!server.got("from-nobody"), "something of the unidentified workload arrived: {}", server.log_path().display());
    assert!(server.got("from-outside"));
    Ok(())
}

/// One line a state and kind of traffic, as people read it.
#[derive(Default)]
struct Table {
    text: String,
    rows: usize,
}

impl Table {
    fn row(&mut self, mesh: &Mesh, server: &Server, state: &str, control: Control) -> Result<()> {
        self.row_of(mesh, server, state, mesh.pod("stranger").place(), control)
    }

    /// `outcast`: who has no grant.
    fn row_of(&mut self, mesh: &Mesh, server: &Server, state: &str, outcast: &Place, control: Control) -> Result<()> {
        let to = mesh.pod("server");
        for traffic in Traffic::ALL {
            self.rows += 1;
            let marker = |who: &str| format!("{who}-{}", self.rows);
            let attempt = |from: &Place, marker: &str| -> Result<Outcome> {
                traffic.attempt(from, to.v4().into(), to.v6().into(), PORT, marker).with_context(|| format!("{state}, {}", traffic.name()))
            };
            let denied = attempt(outcast, &marker("outcast"))?;
            let granted = attempt(mesh.pod("client").place(), &marker("client"))?;
            self.text += &format!("{state:24} {:14} {:>12}: {:20} client: {}\n", traffic.name(), outcast.name(), say(&denied), say(&granted));
            assert!(!denied.ok, "{state}, {}: who has no grant got through: {denied:?}\n{}", traffic.name(), self.text);
            assert!(!server.got(&marker("outcast")), "{state}, {}: the marker arrived", traffic.name());
            let works = match control {
                Control::Works => traffic.works_when_granted(),
                Control::Refused => false,
                Control::Unpromised => continue,
            };
            assert_eq!(granted.ok, works, "{state}, {}: {granted:?}\n{}\n{}", traffic.name(), self.text, mesh.logs());
        }
        Ok(())
    }
}

fn say(o: &Outcome) -> String {
    if o.ok { "passes".to_owned() } else { format!("refused, errno {}", o.errno) }
}
