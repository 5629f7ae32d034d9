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
    sync::PoisonError,
};

use weft_ebpf_common::{Addr, LocalAddr, LocalBackend, Workload, limits::LEVELS_MAX};
use weft_types::ServiceId;

use crate::{
    Kernel, KernelError, Survey, cgroup,
    kernel::bounded,
    limits::{ADDRESSES_MAX, HOST_ADDRESSES_MAX},
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
    /// One for the namespace, whoever lives in it.
    pub tunnel: BorrowedFd<'a>,
}

impl Enrolment<'_> {
    fn own(&self, v4: bool) -> Addr {
        self.addresses.iter().find(|ip| ip.is_ipv4() == v4).map_or(Addr::UNSPECIFIED, |ip| (*ip).into())
    }

    fn workload(&self, capture_port: u16) -> Workload {
        Workload { identity: self.identity.0, workload: self.number, netns: self.netns.cookie(), capture_port, pad: [0; 6] }
    }

    fn is(&self, w: &Workload) -> bool {
        *w == self.workload(w.capture_port)
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
        if !known {
            self.settle_listeners(e)?;
        }
        self.guard_namespace(e)?;
        self.watch(e)?;
        t.listeners.put(&cookie, &(listeners.tunnel.as_raw_fd() as u32))?;
        self.take_addresses(e)?;
        self.settle(cookie, Some(&e.workload(capture_port)), (e.own(true), e.own(false)))?;
        Ok(!known || !closed)
    }

    /// Lets the workload's cgroup talk as its identity: the last step.
    pub fn allow(&self, e: &Enrolment<'_>, listeners: Listeners<'_>) -> Result<(), KernelError> {
        let capture_port = port_of(listeners.capture).map_err(|source| KernelError::Listener { path: e.netns.path().to_owned(), source })?;
        let _changing = self.change();
        let cgroup = self.check_enrolment(e)?;
        self.tables.workloads.put(&cgroup, &e.workload(capture_port))?;
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
        self.moved_out(e.netns.cookie(), e.identity.0)
    }

    /// Withdraws every workload that is not among `keep`: what an earlier agent enrolled and this one does not know. Returns how many.
    pub fn withdraw_others(&self, keep: &[&Enrolment<'_>]) -> Result<usize, KernelError> {
        let _changing = self.change();
        let mut gone = 0;
        for (id, w) in self.tables.workloads.entries()? {
            if !keep.iter().any(|e| e.is(&w) && cgroup::id(&e.cgroup).is_ok_and(|own| own == id)) {
                self.tables.workloads.remove(&id)?;
                self.moved_out(w.netns, w.identity)?;
                gone += 1;
            }
        }
        // Namespaces whose workload entry was lost in between.
        for cookie in self.tables.netns.keys()? {
            if !keep.iter().any(|e| e.netns.cookie() == cookie) {
                self.settle(cookie, None, Default::default())?;
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
        let flags = self.flags(cookie, &self.residents(cookie).map_err(text)?);
        let vouches_for = if flags == 0 { e.identity.0 } else { 0 };
        match t.netns.get(&cookie).map_err(text)? {
            Some(n) if n.identity == vouches_for && n.flags == flags && (n.capture_port != 0) == (flags == 0) => {}
            Some(n) => return Err(format!("NETNS holds service {}, flags {} and capture port {}", n.identity, n.flags, n.capture_port)),
            None => return Err("the namespace is not in NETNS".to_owned()),
        }
        let held = LocalAddr { netns: cookie, service: vouches_for, flags: flags.into() };
        for ip in &e.addresses {
            if t.local_addrs.get(&(*ip).into()).map_err(text)? != Some(held) {
                return Err(format!("address {ip} is not in LOCAL_ADDRS"));
            }
        }
        if !self.has_backend(e.identity.0, LocalBackend { netns: cookie, v4: e.own(true), v6: e.own(false) }).map_err(text)? {
            return Err(format!("it is not among the endpoints of service {} in LOCAL", e.identity));
        }
        self.watched(e)?;
        let cgroup = cgroup::id(&e.cgroup).map_err(|err| format!("cgroup {}: {err}", e.cgroup.display()))?;
        match t.workloads.get(&cgroup).map_err(text)? {
            Some(w) if e.is(&w) && w.capture_port != 0 => {}
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

    /// Attaches the namespace's `sk_lookup` program, this build's: what an earlier agent attached is swapped once.
    fn guard_namespace(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        let cookie = e.netns.cookie();
        let mut guarded = self.guarded.lock().unwrap_or_else(PoisonError::into_inner);
        if guarded.contains(&cookie) && self.given.holds(&self.pins, &lookup_link(cookie), &Target::of(e.netns)) {
            return Ok(());
        }
        let mut instance = object::open(&self.pins, self.base_level, cookie, cookie == self.own_netns)?;
        let program = object::load(&mut instance, &LOOKUP)?;
        self.lookup(e.netns, program)?;
        guarded.insert(cookie);
        Ok(())
    }

    /// Makes the namespace's addresses known as these, and no others: one that it has given up is free for somebody else.
    fn take_addresses(&self, e: &Enrolment<'_>) -> Result<(), KernelError> {
        let (t, cookie) = (&self.tables, e.netns.cookie());
        let mut wanted: Vec<Addr> = e.addresses.iter().map(|ip| (*ip).into()).collect();
        if cookie == self.own_netns {
            // What the host is reached at is what it says; what it speaks from is any of its addresses.
            let all = e.netns.addresses().map_err(|source| KernelError::Netns { path: e.netns.path().to_owned(), source })?;
            wanted.extend(all.into_iter().take(HOST_ADDRESSES_MAX).map(Addr::from));
        }
        for (addr, held) in t.local_addrs.entries()? {
            if held.netns == cookie && !wanted.contains(&addr) {
                t.local_addrs.remove(&addr)?;
            }
        }
        // Whose they are, [`Self::settle`] writes.
        wanted.iter().try_for_each(|addr| match t.local_addrs.get(addr)? {
            Some(held) if held.netns == cookie => Ok(()),
            _ => t.local_addrs.put(addr, &LocalAddr { netns: cookie, service: 0, flags: 0 }),
        })
    }

    /// Whether an enrolled namespace still exists: its link loses its target with it.
    fn is_alive(&self, cookie: u64) -> Result<bool, KernelError> {
        Ok(self.tables.netns.get(&cookie)?.is_some() && links::info(&self.pins, &lookup_link(cookie)).is_some_and(|i| i.netns_inode() != 0))
    }
}

fn port_of(listener: BorrowedFd<'_>) -> io::Result<u16> {
    let addr = socket2::SockRef::from(&listener).local_addr()?;
    addr.as_socket().map(|a| a.port()).filter(|p| *p != 0).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "has no TCP port"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_listener_tells_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(port_of(listener.as_fd()).unwrap(), listener.local_addr().unwrap().port());
    }
}
