//! Enrolment: a workload becomes known to the kernel, is read back, and goes again.
//!
//! Order is everything: [`Kernel::gate`] denies the cgroup and puts in place what refuses and steers inbound traffic; then what was open before
//! is ended ([`Kernel::end_sockets`]); only then [`Kernel::allow`] writes the cgroup's entry, until which the workload is unidentified and
//! denied. Withdrawal goes the other way.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::PathBuf,
};

use weft_ebpf_common::{
    Addr, LocalAddr, LocalBackend, LocalBackends, Netns as NetnsEntry, Workload,
    limits::{LEVELS_MAX, LOCAL_BACKENDS_MAX},
};
use weft_types::ServiceId;

use crate::{
    Kernel, KernelError, Survey, cgroup,
    kernel::bounded,
    limits::ADDRESSES_MAX,
    links::{self, Target},
    netns::Netns,
    object::{self, LOOKUP},
    pins::lookup_link,
};

/// A workload as the agent observed it.
#[derive(Clone, Debug)]
pub struct Enrolment<'a> {
    /// The agent's number of this instance.
    pub number: u32,
    pub identity: ServiceId,
    /// Absolute directory of its cgroup, at the workload's level.
    pub cgroup: PathBuf,
    pub netns: &'a Netns,
    /// Addresses that the namespace really has; the first of each family is its own.
    pub addresses: Vec<IpAddr>,
}

/// The agent's listeners inside the workload's namespace, already listening.
#[derive(Clone, Copy, Debug)]
pub struct Listeners<'a> {
    pub capture: BorrowedFd<'a>,
    pub tunnel: BorrowedFd<'a>,
}

impl Enrolment<'_> {
    fn own(&self, v4: bool) -> Addr {
        self.addresses.iter().find(|ip| ip.is_ipv4() == v4).map_or(Addr::UNSPECIFIED, |ip| (*ip).into())
    }

    fn backend(&self) -> LocalBackend {
        LocalBackend { netns: self.netns.cookie(), v4: self.own(true), v6: self.own(false) }
    }

    fn local_addr(&self) -> LocalAddr {
        LocalAddr { netns: self.netns.cookie(), service: self.identity.0, pad: 0 }
    }

    fn workload(&self) -> Workload {
        Workload { identity: self.identity.0, workload: self.number, netns: self.netns.cookie() }
    }
}

impl Kernel {
    /// Denies the workload unless the kernel allows this very one already, and puts everything in place but the entry that allows it. Doing it
    /// again repairs what is missing, without a gap in what is allowed. True: the workload was denied, or its door was open, until now.
    pub fn gate(&self, e: &Enrolment<'_>, listeners: Listeners<'_>) -> Result<bool, KernelError> {
        let capture_port = port_of(listeners.capture).map_err(|source| KernelError::Listener { path: e.netns.path().to_owned(), source })?;
        let _changing = self.change();
        let cgroup = self.check_enrolment(e)?;
        let (t, cookie) = (&self.tables, e.netns.cookie());
        let known = t.workloads.get(&cgroup)?.is_some_and(|w| w.identity == e.identity.0 && w.netns == cookie);
        if !known {
            if !self.is_managed(&e.cgroup) {
                t.managed.put(&cgroup, &1)?;
            }
            t.workloads.remove(&cgroup)?;
        }
        let door = lookup_link(cookie);
        let closed = links::is_attached(&self.pins, &door, &Target::of(e.netns)) && !self.given.was_replaced(&self.pins, &door);
        let mut instance = object::open(&self.pins, self.base_level, cookie)?;
        let program = object::load(&mut instance, &LOOKUP)?;
        self.lookup(e.netns, program)?;
        self.watch(e)?;
        t.listeners.put(&cookie, &(listeners.tunnel.as_raw_fd() as u32))?;
        let entry = NetnsEntry { identity: e.identity.0, workload: e.number, capture_port, pad: [0; 6], own_v4: e.own(true), own_v6: e.own(false) };
        t.netns.put(&cookie, &entry)?;
        for ip in &e.addresses {
            t.local_addrs.put(&(*ip).into(), &e.local_addr())?;
        }
        self.add_backend(e)?;
        Ok(!known || !closed)
    }

    /// Lets the workload's cgroup talk as its identity: the last step.
    pub fn allow(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        let _changing = self.change();
        let cgroup = self.check_enrolment(e)?;
        self.tables.workloads.put(&cgroup, &e.workload())?;
        if !self.is_managed(&e.cgroup) {
            self.tables.managed.remove(&cgroup)?;
        }
        Ok(())
    }

    /// Removes the workload; what is already missing is no error. Its cgroup and namespace may be gone.
    pub fn withdraw(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        let _changing = self.change();
        let ours = |w: &Workload| w.netns == e.netns.cookie() && w.workload == e.number;
        let cgroups: Vec<u64> = self.tables.workloads.entries()?.into_iter().filter(|(_, w)| ours(w)).map(|(id, _)| id).collect();
        for id in cgroups {
            self.tables.workloads.remove(&id)?;
        }
        self.release_namespace(e.netns.cookie())
    }

    /// Withdraws every workload that is not among `keep`: what an earlier agent enrolled and this one does not know. Returns how many.
    pub fn withdraw_others(&self, keep: &[&Enrolment<'_>]) -> Result<usize, KernelError> {
        let _changing = self.change();
        let mut gone = 0;
        for (id, w) in self.tables.workloads.entries()? {
            if !keep.iter().any(|e| e.workload() == w && cgroup::id(&e.cgroup).is_ok_and(|own| own == id)) {
                self.tables.workloads.remove(&id)?;
                self.release_namespace(w.netns)?;
                gone += 1;
            }
        }
        // Namespaces whose workload entry was lost in between.
        for cookie in self.tables.netns.keys()? {
            if !keep.iter().any(|e| e.netns.cookie() == cookie) {
                self.release_namespace(cookie)?;
            }
        }
        Ok(gone)
    }

    /// Reads every entry and link of the workload back from the kernel, and holds it against one look at the node; the error says what is missing.
    pub fn read_back(&self, e: &Enrolment<'_>, survey: &Survey) -> Result<(), String> {
        let (t, cookie) = (&self.tables, e.netns.cookie());
        let text = |err: KernelError| err.to_string();
        let waiting = self.is_waiting();
        if !waiting && !self.given.holds(&self.pins, &lookup_link(cookie), &Target::of(e.netns)) {
            return Err(format!("no sk_lookup program of ours is attached to namespace {}", e.netns.path().display()));
        }
        if !survey.listeners.contains(&cookie) {
            return Err("the tunnel listener is not in LISTENERS".to_owned());
        }
        match t.netns.get(&cookie).map_err(text)? {
            Some(n) if n.identity == e.identity.0 && n.capture_port != 0 => {}
            Some(n) => return Err(format!("NETNS holds service {} and capture port {}", n.identity, n.capture_port)),
            None => return Err("the namespace is not in NETNS".to_owned()),
        }
        for ip in &e.addresses {
            if t.local_addrs.get(&(*ip).into()).map_err(text)? != Some(e.local_addr()) {
                return Err(format!("address {ip} is not in LOCAL_ADDRS"));
            }
        }
        let backends = t.local.get(&e.identity.0).map_err(text)?.map(|local| list(&local)).unwrap_or_default();
        if backends.len() < LOCAL_BACKENDS_MAX && !backends.contains(&e.backend()) {
            return Err(format!("it is not among the endpoints of service {} in LOCAL", e.identity));
        }
        self.watched(e)?;
        let cgroup = cgroup::id(&e.cgroup).map_err(|err| format!("cgroup {}: {err}", e.cgroup.display()))?;
        match t.workloads.get(&cgroup).map_err(text)? {
            Some(w) if w == e.workload() => {}
            Some(w) => return Err(format!("WORKLOADS holds service {} for cgroup {}", w.identity, e.cgroup.display())),
            None => return Err(format!("cgroup {} is not in WORKLOADS", e.cgroup.display())),
        }
        match survey.missing.first() {
            Some(missing) => Err(missing.clone()),
            None => Ok(()),
        }
    }

    /// The cgroup's id, if the workload may be enrolled.
    fn check_enrolment(&self, e: &Enrolment<'_>) -> Result<u64, KernelError> {
        if e.identity.0 == 0 {
            return Err(KernelError::NoIdentity);
        }
        bounded("addresses of a workload", e.addresses.len(), ADDRESSES_MAX as u32)?;
        let id = cgroup::id(&e.cgroup).map_err(KernelError::cgroup(&e.cgroup))?;
        match cgroup::levels_below(&self.cgroup_root, &e.cgroup) {
            None | Some(0) => return Err(KernelError::OutsideRoot { path: e.cgroup.clone(), root: self.cgroup_root.clone() }),
            Some(level) if level > LEVELS_MAX => {
                return Err(KernelError::TooDeep { path: e.cgroup.clone(), root: self.cgroup_root.clone(), level, max: LEVELS_MAX });
            }
            Some(_) => {}
        }
        let cookie = e.netns.cookie();
        if cookie == self.own_netns {
            return Err(KernelError::OwnNamespace(e.netns.path().to_owned()));
        }
        if let Some(n) = self.tables.netns.get(&cookie)?
            && n.identity != e.identity.0
        {
            return Err(KernelError::NamespaceTaken { path: e.netns.path().to_owned(), other: n.identity });
        }
        for ip in &e.addresses {
            if let Some(held) = self.tables.local_addrs.get(&(*ip).into())?
                && held.netns != cookie
                && self.is_alive(held.netns)?
            {
                return Err(KernelError::AddressTaken { address: *ip });
            }
        }
        Ok(id)
    }

    /// Whether an enrolled namespace still exists: its link loses its target with it.
    fn is_alive(&self, cookie: u64) -> Result<bool, KernelError> {
        Ok(self.tables.netns.get(&cookie)?.is_some() && links::info(&self.pins, &lookup_link(cookie)).is_some_and(|i| i.netns_inode() != 0))
    }

    /// Beyond [`LOCAL_BACKENDS_MAX`] an endpoint is reached by its own address only.
    fn add_backend(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        let mut local = self.tables.local.get(&e.identity.0)?.unwrap_or_default();
        let held = list(&local);
        let mut backends: Vec<_> = held.into_iter().filter(|b| b.netns != e.netns.cookie()).collect();
        backends.push(e.backend());
        set(&mut local, &backends);
        self.tables.local.put(&e.identity.0, &local)
    }

    fn remove_backend(&self, service: u32, cookie: u64) -> Result<(), KernelError> {
        let Some(mut local) = self.tables.local.get(&service)? else { return Ok(()) };
        let backends: Vec<_> = list(&local).into_iter().filter(|b| b.netns != cookie).collect();
        if backends.is_empty() {
            return self.tables.local.remove(&service).map(drop);
        }
        set(&mut local, &backends);
        self.tables.local.put(&service, &local)
    }

    /// Removes a namespace once no workload lives in it.
    fn release_namespace(&self, cookie: u64) -> Result<(), KernelError> {
        let t = &self.tables;
        if t.workloads.entries()?.iter().any(|(_, w)| w.netns == cookie) {
            return Ok(());
        }
        if let Some(n) = t.netns.get(&cookie)? {
            self.remove_backend(n.identity, cookie)?;
        }
        for (addr, held) in t.local_addrs.entries()? {
            if held.netns == cookie {
                t.local_addrs.remove(&addr)?;
            }
        }
        t.netns.remove(&cookie)?;
        t.listeners.remove(&cookie)?;
        self.unwatch(cookie)?;
        self.drop_lookup(cookie)
    }
}

fn port_of(listener: BorrowedFd<'_>) -> io::Result<u16> {
    let addr = socket2::SockRef::from(&listener).local_addr()?;
    addr.as_socket().map(|a| a.port()).filter(|p| *p != 0).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "has no TCP port"))
}

fn list(local: &LocalBackends) -> Vec<LocalBackend> {
    local.backends.iter().take(local.count as usize).copied().collect()
}

fn set(local: &mut LocalBackends, backends: &[LocalBackend]) {
    *local = LocalBackends::default();
    for (place, backend) in local.backends.iter_mut().zip(backends) {
        *place = *backend;
    }
    local.count = backends.len().min(LOCAL_BACKENDS_MAX) as u32;
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn backend(netns: u64) -> LocalBackend {
        LocalBackend { netns, ..LocalBackend::default() }
    }

    #[test]
    fn backends_are_bounded_and_leave_no_rest() {
        let mut local = LocalBackends::default();
        set(&mut local, &(1..=10).map(backend).collect::<Vec<_>>());
        assert_eq!(local.count as usize, LOCAL_BACKENDS_MAX);
        set(&mut local, &[backend(3)]);
        assert_eq!(list(&local), [backend(3)]);
        assert_eq!(local.backends[1], LocalBackend::default());
    }

    #[test]
    fn a_listener_tells_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(port_of(listener.as_fd()).unwrap(), listener.local_addr().unwrap().port());
    }
}
