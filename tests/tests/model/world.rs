//! The real thing: one mesh of two nodes that is brought to whatever state the model is in, by what brings meshes into such states, and asked
//! from outside what it does there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use weft_lab::{MANAGED, Pod, Workload, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE};

use super::{
    program::{Outcome, PORT, Program},
    rules::{Address, Grant, Instance, Live, NODES, Place, Seat, Service, Source, State, Target, all_seats},
    steps::Act,
};

/// How long somebody waits for an answer who should get one.
const PATIENT: Duration = Duration::from_secs(8);
/// And who should not.
const BRIEF: Duration = Duration::from_millis(300);
/// A connection that nothing allows any more ends within this.
const END: Duration = Duration::from_secs(5);
/// Refused flows of each node in a report.
const FLOWS: usize = 12;
/// Numbers below are those of kept connections.
const KEPT_MAX: u32 = 1 << 20;
/// Kept connections of one sequence.
const KEPT_EACH: u32 = 100;
/// Last part of the first seat's address on each node.
const FIRST_ADDRESS: u8 = 101;
/// Swaps go through it.
const SPARE_ADDRESS: u8 = 150;

pub struct World {
    mesh: Mesh,
    programs: BTreeMap<Source, Program>,
    pods: BTreeMap<Seat, Pod>,
    /// Those of the outsiders, for as long as their programs run.
    _outside: Vec<Pod>,
    vips: BTreeMap<Service, IpAddr>,
    /// Where the catalog's text stands, so that one knows when a revision holds it.
    edition: u16,
    dials: u32,
    /// What a sequence's numbers of kept connections are added to, so that no two sequences give the same.
    kept: u32,
    now: State,
}

/// A dial and how long to wait for its answer.
pub struct Attempt {
    pub from: Source,
    pub to: Target,
    pub hopeful: bool,
}

impl World {
    /// In the model's initial state.
    pub fn start() -> Result<Self> {
        let empty = empty();
        let options = MeshOptions { catalog: catalog(&empty.grants, 1), workloads: Vec::new(), ..MeshOptions::default() };
        let mesh = Mesh::start("model", &options)?;
        let (mut programs, mut outside) = (BTreeMap::new(), Vec::new());
        for node in 0..NODES {
            let pod = mesh.outsider(node, "outsider")?;
            programs.insert(Source::Outsider(node), Program::start(pod.place(), "outsider")?);
            outside.push(pod);
        }
        let mut vips = BTreeMap::new();
        for service in [Service::Web, Service::Api, Service::Db] {
            vips.insert(service, mesh.vip(&format!("shop/{service}"))?);
        }
        let mut world = Self { mesh, programs, pods: BTreeMap::new(), _outside: outside, vips, edition: 1, dials: KEPT_MAX, kept: 0, now: empty };
        world.reset()?;
        Ok(world)
    }

    /// Back to the initial state, by the shortest way.
    pub fn reset(&mut self) -> Result<()> {
        let goal = State::initial();
        for live in std::mem::take(&mut self.now.live) {
            self.let_go(&live)?;
        }
        for node in (0..NODES).filter(|node| !self.now.nodes[*node].agent) {
            self.mesh.agents[node].run()?;
        }
        for seat in all_seats() {
            let (now, then) = (self.now.place(seat), goal.place(seat));
            let as_it_will_be = now.pod.map(|pod| pod.address) == then.pod.map(|pod| pod.address) && now.listener.is_none_or(|is| Some(is) == then.declared);
            if now.pod.is_some() && !as_it_will_be {
                self.stop(seat)?;
            }
        }
        self.kept = (self.kept + KEPT_EACH) % KEPT_MAX;
        // Before anybody comes: whoever does is who he is to be at once.
        self.now = goal.clone();
        (0..NODES).try_for_each(|node| self.write_workloads(node))?;
        self.write_catalog()?;
        for seat in all_seats() {
            let Some(pod) = goal.place(seat).pod else { continue };
            if self.pods.contains_key(&seat) {
                self.program(Source::Seat(seat))?.tell(&format!("name {}", pod.instance))?;
            } else {
                self.start_pod(seat, pod.instance, pod.address)?;
            }
        }
        self.settle()
    }

    /// Back to the initial state from wherever a failure has left things: nothing of before is believed.
    pub fn start_over(&mut self) -> Result<()> {
        self.now = empty();
        for seat in all_seats().filter(|seat| self.pods.contains_key(seat)).collect::<Vec<_>>() {
            self.stop(seat)?;
        }
        for node in 0..NODES {
            self.write_workloads(node)?;
            self.mesh.agents[node].kill9();
            self.mesh.agents[node].run()?;
        }
        self.write_catalog()?;
        self.settle()?;
        self.reset()
    }

    /// Makes one act happen, without waiting for what it leads to. `after` is the model's state then.
    pub fn act(&mut self, act: Act, after: &State) -> Result<()> {
        self.now = after.clone();
        match act {
            Act::Start(seat) => {
                let pod = after.place(seat).pod.context("no pod in the model")?;
                self.start_pod(seat, pod.instance, pod.address)
            }
            Act::Stop(seat) => self.stop(seat),
            Act::Again(seat) => self.again(seat, after.place(seat).pod.context("no pod in the model")?.instance),
            Act::Declare(seat, _) => self.write_workloads(seat.node),
            Act::Swap(node) => self.swap(node),
            Act::Toggle(_) => self.write_catalog(),
            Act::Kill(node) => {
                self.mesh.agents[node].kill9();
                Ok(())
            }
            Act::Restart(node) => Ok(self.mesh.agents[node].run()?),
        }
    }

    /// Waits until every agent that runs has taken up all there is.
    pub fn settle(&mut self) -> Result<()> {
        eventually(SETTLE, "a settled mesh", || self.has_settled())?;
        let somebody: Vec<Seat> = all_seats().filter(|seat| self.now.identity(*seat).is_some()).collect();
        somebody.into_iter().try_for_each(|seat| self.program(Source::Seat(seat))?.serves(Instant::now() + PATIENT).with_context(|| seat.to_string()))
    }

    /// Whether they have; else what is missing.
    pub fn has_settled(&self) -> Result<()> {
        (0..NODES).filter(|node| self.now.nodes[*node].agent).try_for_each(|node| self.node_has_settled(node))
    }

    fn node_has_settled(&self, node: usize) -> Result<()> {
        let snapshot = self.mesh.snapshot(node)?;
        let status = self.mesh.status(node)?;
        // The kernel's is the later of the two.
        ensure!(snapshot.revision.0 == status.kernel_revision, "node {node}: the kernel holds revision {} of {}", status.kernel_revision, snapshot.revision);
        let edition = snapshot.services.iter().find(|s| s.name.to_string() == "shop/edition").and_then(|s| s.ports.first()).map(|p| p.port);
        ensure!(edition == Some(self.edition), "node {node} holds edition {edition:?} of {}", self.edition);
        for seat in all_seats().filter(|seat| seat.node == node) {
            let place = self.now.place(seat);
            let found = status.workloads.iter().find(|w| w.uid == uid(seat));
            let enrolled = found.filter(|w| w.enrolled_in_kernel && w.svid_not_after > 0);
            let wanted = place.declared.zip(place.pod);
            match (wanted, enrolled) {
                (None, None) => {}
                (Some((service, _)), Some(w)) => {
                    let id = fs::metadata(self.pods[&seat].place().cgroup())?.ino();
                    ensure!(w.service == format!("shop/{service}") && w.cgroup_id == id, "{seat} is not yet cgroup {id} of {service}: {w:?}");
                }
                (wanted, _) => bail!("{seat} should be {wanted:?}: {found:?}"),
            }
        }
        let name = |id| snapshot.services.iter().find(|s| s.id == id).map(|s| s.name.to_string());
        let known = snapshot.endpoints.iter().flat_map(|e| e.addresses.iter().map(move |a| (*a, name(e.service))));
        let both = |address| [v4(address), v6(address)];
        let wanted = self.now.endpoints().into_iter().flat_map(|(address, s)| both(address).map(|ip| (ip, Some(format!("shop/{s}")))));
        let (known, wanted): (BTreeMap<_, _>, BTreeMap<_, _>) = (known.collect(), wanted.collect());
        ensure!(known == wanted, "node {node} knows the endpoints {known:?}, not {wanted:?}");
        Ok(())
    }

    /// All attempts at once, and what came of each.
    pub fn attempt(&mut self, attempts: &[Attempt]) -> Result<Vec<Outcome>> {
        let mut asked = Vec::new();
        for attempt in attempts {
            let patience = if attempt.hopeful { PATIENT } else { BRIEF };
            self.dials += 1;
            asked.push((attempt.from, self.dials, patience));
            let order = self.order("dial", self.dials, attempt.to, patience);
            self.program(attempt.from)?.tell(&order)?;
        }
        let ask = |(from, id, patience)| self.program(from)?.outcome(id, Instant::now() + patience + END);
        asked.into_iter().map(ask).collect()
    }

    /// Opens a connection that stays.
    pub fn keep(&mut self, live: &Live, to: Target) -> Result<Outcome> {
        let id = self.kept + live.id;
        let order = self.order("keep", id, to, PATIENT);
        self.now.live.push(live.clone());
        let program = self.program(Source::Seat(live.from.0))?;
        program.tell(&order)?;
        program.outcome(id, Instant::now() + PATIENT + END)
    }

    pub fn lives(&mut self, live: &Live) -> Result<bool> {
        let id = self.kept + live.id;
        self.program(Source::Seat(live.from.0))?.lives(id, Instant::now() + PATIENT)
    }

    /// Waits for the end of a kept connection.
    pub fn ends(&mut self, live: &Live) -> Result<()> {
        let id = self.kept + live.id;
        self.program(Source::Seat(live.from.0))?.end(id, Instant::now() + END)?;
        self.let_go(live)
    }

    /// Closes a kept connection, if its program is still there.
    pub fn let_go(&mut self, live: &Live) -> Result<()> {
        if self.now.place(live.from.0).pod != Some(live.from.1) {
            return Ok(());
        }
        let id = self.kept + live.id;
        self.program(Source::Seat(live.from.0))?.tell(&format!("close {id}"))
    }

    /// What agents and bridge have to say for themselves: the last refusals, and the ends of their logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for node in (0..NODES).filter(|node| self.now.nodes[*node].agent) {
            let flows = self.mesh.flows(node).unwrap_or_default();
            let failed: Vec<_> = flows.iter().filter(|f| !f.point.starts_with("kernel") && (f.verdict != "allow" || !f.detail.is_empty())).collect();
            for f in &failed[failed.len().saturating_sub(FLOWS)..] {
                text += &format!(
                    "flow at {} of {}: {} to {} {}:{}: {} {}: {}\n",
                    f.at_ms, f.node, f.source, f.destination, f.address, f.port, f.verdict, f.reason, f.detail
                );
            }
        }
        text + &self.mesh.logs()
    }

    fn program(&mut self, source: Source) -> Result<&mut Program> {
        self.programs.get_mut(&source).with_context(|| format!("no program at {source}"))
    }

    fn order(&self, verb: &str, id: u32, to: Target, patience: Duration) -> String {
        let (address, port) = match to {
            Target::Service(service) => (self.vips[&service], 80),
            // Of the two families one after the other.
            Target::Address(address) if id.is_multiple_of(2) => (v6(address), PORT),
            Target::Address(address) => (v4(address), PORT),
        };
        format!("{verb} {id} {address} {port} {}", patience.as_secs_f64())
    }

    fn start_pod(&mut self, seat: Seat, instance: Instance, address: Address) -> Result<()> {
        let node = &self.mesh.nodes[seat.node];
        let pod = node.pod_at(&uid(seat), &node.cgroup().join(MANAGED).join(uid(seat)), last(address))?;
        self.programs.insert(Source::Seat(seat), Program::start(pod.place(), &instance.to_string())?);
        self.pods.insert(seat, pod);
        Ok(())
    }

    fn stop(&mut self, seat: Seat) -> Result<()> {
        if let Some(mut program) = self.programs.remove(&Source::Seat(seat)) {
            program.kill();
        }
        Ok(self.pods.remove(&seat).context("no pod to stop")?.remove()?)
    }

    fn again(&mut self, seat: Seat, instance: Instance) -> Result<()> {
        self.program(Source::Seat(seat))?.kill();
        let place = self.pods.get(&seat).context("no pod")?.place();
        place.kill_all()?;
        fs::remove_dir(place.cgroup())?;
        fs::create_dir(place.cgroup())?;
        let program = Program::start(place, &instance.to_string())?;
        self.programs.insert(Source::Seat(seat), program);
        Ok(())
    }

    fn swap(&mut self, node: usize) -> Result<()> {
        let seats: Vec<Seat> = all_seats().filter(|seat| seat.node == node).collect();
        let spare = Address { node, index: usize::from(SPARE_ADDRESS - FIRST_ADDRESS) };
        let of = |state: &State, seat: Seat| state.place(seat).pod.map(|pod| pod.address);
        for (seat, address) in [(seats[0], Some(spare)), (seats[1], of(&self.now, seats[1])), (seats[0], of(&self.now, seats[0]))] {
            let (IpAddr::V4(four), IpAddr::V6(six)) = (v4(address.context("no pod")?), v6(address.context("no pod")?)) else { bail!("no address") };
            self.pods.get_mut(&seat).context("no pod")?.readdress(four, six)?;
        }
        Ok(())
    }

    fn write_workloads(&self, node: usize) -> Result<()> {
        let named = all_seats().filter(|seat| seat.node == node).filter_map(|seat| Some((seat, self.now.place(seat).declared?)));
        let of = |(seat, service): (Seat, Service)| Workload {
            service: format!("shop/{service}"),
            cgroup: format!("{MANAGED}/{}", uid(seat)),
            netns: format!("/run/netns/{}-{}-{}", self.mesh.lab.run(), self.mesh.nodes[node].name(), uid(seat)).into(),
            uid: None,
        };
        Ok(self.mesh.agents[node].set_workloads(&named.map(of).collect::<Vec<_>>())?)
    }

    fn write_catalog(&mut self) -> Result<()> {
        self.edition += 1;
        Ok(fs::write(self.mesh.catalog.join("mesh.yaml"), catalog(&self.now.grants, self.edition))?)
    }
}

/// Agents, and nobody else.
fn empty() -> State {
    let mut state = State::initial();
    for seat in all_seats() {
        *state.place_mut(seat) = Place { declared: None, pod: None, listener: None };
    }
    state.settle();
    state
}

/// As the cgroup and the namespace are called, and so the workload.
fn uid(seat: Seat) -> String {
    format!("seat-{}", seat.index + 1)
}

fn last(address: Address) -> u8 {
    FIRST_ADDRESS + address.index as u8
}

fn v4(address: Address) -> IpAddr {
    [10, 77, address.node as u8 + 1, last(address)].into()
}

fn v6(address: Address) -> IpAddr {
    [0xfd77, 0, 0, address.node as u16 + 1, 0, 0, 0, u16::from(last(address))].into()
}

fn catalog(grants: &BTreeSet<Grant>, edition: u16) -> String {
    let service = |name: &str, port: u16, depends: &str| {
        format!(
            "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  type: application\n  \
             owner: shop\n  ports: [ {{ name: web, port: {port}, targetPort: {PORT} }} ]\n  dependsOn: [ {depends} ]\n"
        )
    };
    let mut text = "apiVersion: weft.mesh/v1alpha1\nkind: Mesh\nmetadata: { name: test }\nspec: { trustDomain: corp.example, serviceRange: 100.64.0.0/16 }\n\
                    ---\napiVersion: weft.mesh/v1alpha1\nkind: Team\nmetadata: { name: shop }\nspec: { lead: alice@corp.example, contact: \"#shop\" }\n"
        .to_owned();
    for from in [Service::Web, Service::Api, Service::Db] {
        let of: Vec<String> = grants.iter().filter(|grant| grant.0 == from).map(|grant| format!("{{ service: {}, port: web }}", grant.1)).collect();
        text += &service(&from.to_string(), 80, &of.join(", "));
    }
    text + &service("edition", edition, "")
}
