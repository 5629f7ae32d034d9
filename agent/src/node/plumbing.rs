//! How a workload is enrolled: the kernel's tables, the listeners and their duplicates, the proxy that serves them. Calls block.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    net::{IpAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
    time::{Duration, SystemTime},
};

use tokio::runtime::Handle;
use tracing::warn;
use weft_ebpf_common::PATH_SAME_NODE;
use weft_kernel::{Attestation, Ended, Enrolment, Kernel, Listeners, LiveSocket, cgroup, listeners, netns::Netns};
use weft_types::{ServiceId, ServiceRef, WorkloadUid};

use super::{
    canary,
    drift::Drift,
    revoker::{self, Ender, Revoker, Withdrawn},
    standing::Fault,
    static_file::StaticFile,
};
use crate::{
    holder::{Key, Link, Role},
    limits,
    mesh::{Chain, Mesh},
    proxy::{LocalWorkload, Proxy, Residents, Serving, fresh_flow_id},
    warnings::{Topic, Warnings},
    workloads::{Instance, Origin, Plumbing, Spec, save_live},
};

/// The open namespaces of enrolled workloads, by the agent's number of the instance.
#[derive(Debug, Default)]
pub struct Namespaces(RwLock<HashMap<u32, Place>>);

/// Where a workload lives.
#[derive(Clone, Debug)]
pub struct Place {
    pub uid: WorkloadUid,
    pub service: ServiceId,
    pub cgroup: PathBuf,
    pub netns: Netns,
    pub addresses: Vec<IpAddr>,
}

impl Namespaces {
    pub fn get(&self, number: u32) -> Option<Netns> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).get(&number).map(|place| place.netns.clone())
    }

    /// Those of these services.
    pub fn of(&self, services: &HashSet<ServiceId>) -> Vec<Place> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).values().filter(|place| services.contains(&place.service)).cloned().collect()
    }

    pub fn all(&self) -> Vec<Place> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).values().cloned().collect()
    }

    fn insert(&self, number: u32, place: Place) {
        self.0.write().unwrap_or_else(|e| e.into_inner()).insert(number, place);
    }

    fn remove(&self, number: u32) {
        self.0.write().unwrap_or_else(|e| e.into_inner()).remove(&number);
    }
}

pub struct NodePlumbing {
    pub kernel: Arc<Kernel>,
    pub proxy: Proxy,
    pub mesh: Arc<Mesh>,
    pub holder: Arc<Link>,
    pub namespaces: Arc<Namespaces>,
    pub warnings: Arc<Warnings>,
    pub ender: Arc<Ender>,
    pub drift: Arc<Drift>,
    pub revoker: Revoker,
    pub runtime: Handle,
    /// Where live workloads are kept.
    pub live_file: PathBuf,
    pub static_file: StaticFile,
    /// The number of the last instance.
    pub last: u32,
    /// By cookie of the namespace.
    pub doors: HashMap<u64, Door>,
    pub host: HostAddresses,
}

/// The tunnel's listener of one namespace, for all who live there.
pub struct Door {
    listener: TcpListener,
    residents: Residents,
    serving: Option<Serving>,
    /// Workloads that hold the namespace, whether enrolled or about to be.
    holders: usize,
}

/// Where other nodes reach a workload that has no namespace of its own.
#[derive(Clone, Debug)]
pub enum HostAddresses {
    /// The configuration says so.
    Given(Vec<IpAddr>),
    /// Those that this node speaks with the bridge from.
    Towards(String),
    /// All that the host has.
    All,
}

/// One workload's open namespace and its own listener.
pub struct Held {
    number: u32,
    cgroup: PathBuf,
    netns: Netns,
    /// Whose capture listener the holder keeps.
    capture_key: Key,
    capture: TcpListener,
    serving: Option<Serving>,
    /// As the kernel was told last.
    identity: ServiceId,
    addresses: Vec<IpAddr>,
}

impl Held {
    fn enrolment(&self) -> Enrolment<'_> {
        Enrolment { number: self.number, identity: self.identity, cgroup: self.cgroup.clone(), netns: &self.netns, addresses: self.addresses.clone() }
    }

    fn place(&self, spec: &Spec) -> Place {
        Place { uid: spec.uid.clone(), service: self.identity, cgroup: self.cgroup.clone(), netns: self.netns.clone(), addresses: self.addresses.clone() }
    }
}

fn door_key(cookie: u64) -> Key {
    Key { role: Role::Tunnel, netns: cookie, cgroup: 0 }
}

impl NodePlumbing {
    fn listener(&self, netns: &Netns, key: Key) -> io::Result<TcpListener> {
        if let Some(held) = self.holder.get(key) {
            let listener = TcpListener::from(held);
            listener.set_nonblocking(true)?;
            return Ok(listener);
        }
        let listener = match key.role {
            Role::Capture => listeners::open_capture(netns),
            Role::Tunnel => listeners::open_tunnel(netns),
        }?;
        self.holder.put(key, &listener);
        Ok(listener)
    }

    fn open_door(&mut self, netns: &Netns) -> io::Result<()> {
        let cookie = netns.cookie();
        if !self.doors.contains_key(&cookie) {
            let listener = self.listener(netns, door_key(cookie))?;
            self.doors.insert(cookie, Door { listener, residents: Residents::default(), serving: None, holders: 0 });
        }
        if let Some(door) = self.doors.get_mut(&cookie) {
            door.holders += 1;
        }
        Ok(())
    }

    /// The last one out closes.
    fn leave_door(&mut self, cookie: u64, number: u32) {
        let Some(door) = self.doors.get_mut(&cookie) else { return };
        door.residents.remove(number);
        door.holders -= 1;
        if door.holders > 0 {
            return;
        }
        if let Some(serving) = self.doors.remove(&cookie).and_then(|door| door.serving) {
            self.runtime.block_on(serving.stop());
        }
        self.holder.drop_key(door_key(cookie));
    }

    /// Accepts as the workload that `held` is now.
    fn serve(&mut self, spec: &Spec, held: &mut Held) -> io::Result<()> {
        self.stop(held);
        let workload = Arc::new(LocalWorkload {
            uid: spec.uid.clone(),
            service: held.identity,
            number: held.number,
            netns_cookie: held.netns.cookie(),
            addresses: held.addresses.clone(),
        });
        let _runtime = self.runtime.enter();
        held.serving = Some(self.proxy.serve_capture(workload.clone(), held.capture.try_clone()?)?);
        let door = self.doors.get_mut(&held.netns.cookie()).ok_or_else(|| io::Error::other("the namespace has no tunnel listener"))?;
        self.proxy.move_in(&door.residents, workload);
        if door.serving.is_none() {
            door.serving = Some(self.proxy.serve_tunnel(door.residents.clone(), door.listener.try_clone()?)?);
        }
        Ok(())
    }

    /// Ends what was open before the workload was gated and is not approved now. Where the kernel cannot, the workload is not enrolled.
    /// One that has been enrolled all along (`was_open` is false) loses only what is not granted any more: its agent may have ended in between.
    fn sweep(&self, spec: &Spec, held: &Held, was_open: bool) -> Result<(), String> {
        let (place, index) = (held.place(spec), self.mesh.index());
        let standing = self.ender.at_enrolment(held.identity, index.as_deref());
        let adopted = |s: &LiveSocket| {
            let record = standing.approve(s).map(|record| Attestation { flow: fresh_flow_id().0, ..record });
            record.is_some_and(|record| self.kernel.adopt(&held.cgroup, s, &record).unwrap_or(false))
        };
        let fault = |s: &LiveSocket| if was_open { standing.at_enrolment(s) } else { standing.under_revision(s) };
        let found = self.kernel.end_sockets(&held.netns, &held.cgroup, |s| fault(s).is_some() && !adopted(s)).map_err(|e| Chain(&e).to_string())?;
        self.ender.report(&place, &found, |s| fault(s).unwrap_or(Fault::Unattested));
        if !found.ended.is_empty() {
            let first = &found.ended[0];
            warn!(workload = %spec.uid, ended = found.ended.len(), first = %format!("{} → {}", first.local, first.remote), "sockets that may not go on have been ended");
        }
        match found.left.first() {
            Some((socket, why)) if was_open => Err(format!("{}: start it after the agent or its guard", revoker::left(&place, socket, why))),
            _ => Ok(()),
        }
    }

    /// Ends every connection of a workload that has just been withdrawn, at both ends.
    fn cut(&self, spec: &Spec, held: &Held) {
        let place = held.place(spec);
        let found =
            self.kernel.end_sockets(&held.netns, &held.cgroup, |s| !s.exempt && !s.listening && s.is_connected() && !s.within).unwrap_or_else(|error| {
                warn!(workload = %spec.uid, error = %Chain(&error), "connections of a withdrawn workload could not be looked at");
                Ended::default()
            });
        self.ender.report(&place, &found, |_| Fault::Withdrawn);
        let sockets = found.ended.into_iter().chain(found.left.into_iter().map(|(s, _)| s)).collect();
        self.revoker.withdrawn(Withdrawn { service: held.identity, netns: held.netns.cookie(), sockets });
    }

    /// Ends what leads from a workload to one of this node that is not enrolled any more: whoever withdrew that was no agent, and ended nothing.
    fn cut_strays(&self, spec: &Spec, held: &Held) {
        let place = held.place(spec);
        let stray = |local: &HashSet<IpAddr>, s: &LiveSocket| {
            let within = s.record.is_some_and(|r| r.path == PATH_SAME_NODE);
            !s.exempt && !s.listening && within && !local.contains(&s.remote.ip().to_canonical())
        };
        let ended = self.kernel.local_addresses().and_then(|local| self.kernel.end_sockets(&held.netns, &held.cgroup, |s| stray(&local, s)));
        match ended {
            Ok(found) => self.ender.report(&place, &found, |_| Fault::Withdrawn),
            Err(error) => warn!(workload = %spec.uid, error = %Chain(&error), "connections with withdrawn workloads could not be looked at"),
        }
    }

    fn stop(&self, held: &mut Held) {
        if let Some(serving) = held.serving.take() {
            self.runtime.block_on(serving.stop());
        }
    }

    /// Where several live in one namespace, tells the kernel who listens.
    fn sync_listeners(&self, all: &[(&Spec, &Held)]) {
        let mut seen = HashSet::new();
        for (_, first) in all.iter().filter(|(_, h)| seen.insert(h.netns.cookie())) {
            let cookie = first.netns.cookie();
            if cookie != self.kernel.own_netns() && self.doors.get(&cookie).is_none_or(|d| d.holders < 2) {
                continue;
            }
            let residents: Vec<Enrolment<'_>> = all.iter().filter(|(_, h)| h.netns.cookie() == cookie).map(|(_, h)| h.enrolment()).collect();
            if let Err(error) = self.kernel.sync_listeners(&first.netns, &residents.iter().collect::<Vec<_>>()) {
                warn!(error = %Chain(&error), "who listens in a shared namespace is not known");
            }
        }
    }
}

impl HostAddresses {
    fn find(&self, netns: &Netns) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::Given(addresses) => Ok(addresses.clone()),
            Self::All => netns.addresses(),
            Self::Towards(bridge) => {
                let to = bridge.to_socket_addrs()?.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{bridge} has no address")))?;
                let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect(to)?;
                let own = socket.local_addr()?.ip();
                if own.is_loopback() { netns.addresses() } else { Ok(vec![own]) }
            }
        }
    }
}

impl Plumbing for NodePlumbing {
    type Held = Held;

    fn look(&self, spec: &Spec) -> Result<Instance, String> {
        let cgroup = cgroup::id(&spec.cgroup).map_err(|e| absent("cgroup", &spec.cgroup, &e))?;
        let netns = fs::metadata(&spec.netns).map_err(|e| absent("network namespace", &spec.netns, &e))?.ino();
        Ok(Instance { cgroup, netns })
    }

    fn open(&mut self, spec: &Spec) -> Result<Held, String> {
        let netns = Netns::open(&spec.netns).map_err(|e| format!("network namespace {} cannot be opened: {e}", spec.netns.display()))?;
        belongs(spec)?;
        // A pod may have come under a name that the file gives to somebody else by now.
        if spec.origin == Origin::Static && self.static_file.has_changed() {
            return Err("the workloads file has changed since it was read".to_owned());
        }
        let failed = |e: io::Error| format!("no listener in network namespace {}: {e}", spec.netns.display());
        let cgroup_id = cgroup::id(&spec.cgroup).map_err(|e| absent("cgroup", &spec.cgroup, &e))?;
        let capture_key = Key { role: Role::Capture, netns: netns.cookie(), cgroup: cgroup_id };
        let capture = self.listener(&netns, capture_key).map_err(failed)?;
        self.open_door(&netns).map_err(failed)?;
        self.last += 1;
        let (number, cgroup) = (self.last, spec.cgroup.clone());
        Ok(Held { number, cgroup, netns, capture_key, capture, serving: None, identity: ServiceId(0), addresses: Vec::new() })
    }

    fn cookie(&self, held: &Held) -> u64 {
        held.netns.cookie()
    }

    fn addresses(&self, held: &Held) -> Result<Vec<IpAddr>, String> {
        let host = held.netns.cookie() == self.kernel.own_netns();
        let found = if host { self.host.find(&held.netns) } else { held.netns.addresses() };
        let mut addresses = found.map_err(|e| format!("network namespace {}: addresses: {e}", held.netns.path().display()))?;
        addresses.truncate(weft_kernel::limits::ADDRESSES_MAX);
        Ok(addresses)
    }

    fn enrol(&mut self, spec: &Spec, held: &mut Held, service: ServiceId, addresses: &[IpAddr]) -> Result<(), String> {
        let changed = held.identity != service || held.addresses != addresses || held.serving.is_none();
        (held.identity, held.addresses) = (service, addresses.to_vec());
        if changed {
            self.namespaces.insert(held.number, held.place(spec));
            self.serve(spec, held).map_err(|e| format!("its listeners cannot be served: {e}"))?;
        }
        let enrolment = held.enrolment();
        let door = self.doors.get(&held.netns.cookie()).ok_or("the namespace has no tunnel listener")?;
        let listeners = Listeners { capture: held.capture.as_fd(), tunnel: door.listener.as_fd() };
        let was_open = self.kernel.gate(&enrolment, listeners).map_err(|e| Chain(&e).to_string())?;
        // Until this version's programs are in force, the former ones judge; what they allowed stands.
        let waiting = self.kernel.is_waiting();
        if !waiting && (was_open || changed) {
            self.sweep(spec, held, was_open)?;
        }
        self.kernel.allow(&enrolment, listeners).map_err(|e| Chain(&e).to_string())?;
        let survey = self.drift.survey(Duration::ZERO)?;
        self.kernel.read_back(&enrolment, &survey)?;
        if waiting { Ok(()) } else { canary::prove(&self.kernel, &held.place(spec), false).holds() }
    }

    fn read_back(&self, held: &Held) -> Result<(), String> {
        self.kernel.read_back(&held.enrolment(), &*self.drift.survey(limits::SURVEY_AGE)?)
    }

    fn drifted(&self, spec: &Spec, missing: &str, repaired: Result<(), &str>) {
        match repaired {
            Ok(()) => self.drift.report("workload", &format!("workload {}: {missing}: enrolled again", spec.uid)),
            Err(problem) => self.drift.report("workload", &format!("workload {}: {missing}: withdrawn, since it cannot be repaired: {problem}", spec.uid)),
        }
    }

    fn withdraw(&mut self, spec: &Spec, mut held: Held) {
        if let Err(error) = self.kernel.withdraw(&held.enrolment()) {
            warn!(workload = %spec.uid, error = %Chain(&error), "the kernel keeps a part of a workload that is gone");
        }
        self.namespaces.remove(held.number);
        self.cut(spec, &held);
        self.stop(&mut held);
        self.proxy.forget(held.number);
        self.holder.drop_key(held.capture_key);
        self.leave_door(held.netns.cookie(), held.number);
    }

    fn admit(&self, service: &ServiceRef) -> Result<ServiceId, String> {
        self.mesh.admit(service, SystemTime::now())
    }

    fn withdraw_others(&mut self, keep: &[(&Spec, &Held)]) {
        let enrolments: Vec<Enrolment<'_>> = keep.iter().map(|(_, held)| held.enrolment()).collect();
        match self.kernel.withdraw_others(&enrolments.iter().collect::<Vec<_>>()) {
            Ok(0) => {}
            Ok(gone) => {
                warn!(gone, "workloads of an earlier agent are withdrawn");
                keep.iter().for_each(|(spec, held)| self.cut_strays(spec, held));
            }
            Err(error) => warn!(error = %Chain(&error), "workloads of an earlier agent cannot be withdrawn"),
        }
        let kept: HashSet<Key> = keep.iter().flat_map(|(_, held)| [held.capture_key, door_key(held.netns.cookie())]).collect();
        self.holder.list().into_iter().filter(|key| !kept.contains(key)).for_each(|key| self.holder.drop_key(key));
    }

    fn maintain(&mut self, held: &[(&Spec, &Held)]) {
        let doors = self.doors.iter().map(|(cookie, door)| (door_key(*cookie), &door.listener));
        let all = held.iter().map(|(_, h)| (h.capture_key, &h.capture)).chain(doors);
        let listeners: Vec<(Key, &dyn std::os::fd::AsFd)> = all.map(|(key, l)| (key, l as &dyn std::os::fd::AsFd)).collect();
        self.holder.maintain(&listeners, &self.warnings);
        self.sync_listeners(held);
    }

    fn save(&self, specs: &mut dyn Iterator<Item = &Spec>) {
        match save_live(&self.live_file, specs) {
            Ok(()) => self.warnings.clear(Topic::LiveWorkloads),
            Err(e) => {
                let text = format!("live workloads are not on disk, so a restart forgets them: {}: {e}", self.live_file.display());
                self.warnings.set(Topic::LiveWorkloads, vec![text]);
            }
        }
    }
}

/// A namespace that is named by one of its processes is believed only if that process is the workload's: whoever else sits in there, or
/// has got the number of one that is gone, says nothing of it.
fn belongs(spec: &Spec) -> Result<(), String> {
    let pid = spec.netns.strip_prefix("/proc").ok().and_then(|p| p.iter().next()?.to_str()?.parse::<u32>().ok());
    let Some(pid) = pid else { return Ok(()) };
    let of = cgroup::of_pid(pid).map_err(|e| format!("process {pid}: {}", Chain(&e)))?;
    if of.starts_with(&spec.cgroup) {
        return Ok(());
    }
    Err(format!("network namespace {} is that of a process in cgroup {}, which is not this workload's", spec.netns.display(), of.display()))
}

fn absent(what: &str, path: &Path, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::NotFound => format!("{what} {} is not there", path.display()),
        _ => format!("{what} {}: {e}", path.display()),
    }
}
