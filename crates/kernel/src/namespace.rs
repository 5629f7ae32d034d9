//! What the kernel knows of an enrolled namespace: who lives in it, at which addresses, and whether it says by itself who somebody is.
//!
//! A namespace of one identity vouches for it. One of several (a pod of two services, the host) vouches for nobody: there callers are known
//! by their cgroup and listeners by theirs. Which of the two it is follows from the entries of `WORKLOADS`, and is worked out here alone.

use std::sync::PoisonError;

use weft_ebpf_common::{
    Addr, LocalAddr, LocalBackend, LocalBackends, NETNS_HOST, NETNS_SHARED, NETNS_WATCHED, Netns as NetnsEntry, Workload, limits::LOCAL_BACKENDS_MAX,
};

use crate::{Kernel, KernelError};

impl Kernel {
    /// Works out what the namespace is with these residents, and writes it. `extra` are identities about to move in.
    ///
    /// From one identity to several the namespace's entry comes first: until then nobody else has been let in.
    pub(crate) fn settle(&self, cookie: u64, extra: Option<&Workload>, own: (Addr, Addr)) -> Result<(), KernelError> {
        let t = &self.tables;
        let mut residents = self.residents(cookie)?;
        residents.retain(|r| extra.is_none_or(|e| e.workload != r.workload));
        residents.extend(extra);
        let Some(last) = residents.last().copied() else { return self.clear(cookie) };
        let flags = self.flags(cookie, &residents);
        let alone = is_of_one(flags);
        let entry = NetnsEntry {
            identity: if alone { last.identity } else { 0 },
            workload: last.workload,
            capture_port: if alone { last.capture_port } else { 0 },
            flags,
            pad: [0; 4],
            own_v4: own.0,
            own_v6: own.1,
        };
        t.netns.put(&cookie, &entry)?;
        let held = LocalAddr { netns: cookie, service: entry.identity, flags: flags.into() };
        for (addr, before) in t.local_addrs.entries()? {
            if before.netns == cookie && before != held {
                t.local_addrs.put(&addr, &held)?;
            }
        }
        let backend = LocalBackend { netns: cookie, v4: own.0, v6: own.1 };
        let mut identities: Vec<u32> = residents.iter().map(|r| r.identity).collect();
        identities.sort_unstable();
        identities.dedup();
        identities.into_iter().try_for_each(|identity| self.add_backend(identity, backend, !alone))
    }

    /// `NETNS_*` of a namespace with these residents.
    pub(crate) fn flags(&self, cookie: u64, residents: &[Workload]) -> u16 {
        if cookie == self.own_netns {
            NETNS_HOST | NETNS_SHARED
        } else if residents.windows(2).any(|pair| pair[0].identity != pair[1].identity) {
            NETNS_SHARED
        } else if self.packets(cookie).is_ok() {
            NETNS_WATCHED
        } else {
            0
        }
    }

    pub(crate) fn residents(&self, cookie: u64) -> Result<Vec<Workload>, KernelError> {
        Ok(self.tables.workloads.entries()?.into_iter().map(|(_, w)| w).filter(|w| w.netns == cookie).collect())
    }

    /// A workload of that identity has moved out: what only it had goes, and the rest is worked out anew.
    pub(crate) fn moved_out(&self, cookie: u64, identity: u32) -> Result<(), KernelError> {
        if !self.residents(cookie)?.iter().any(|r| r.identity == identity) {
            self.remove_backend(identity, cookie)?;
            self.forget_listeners(cookie, |l| l.identity == identity)?;
        }
        let own = self.tables.netns.get(&cookie)?.map_or_else(Default::default, |n| (n.own_v4, n.own_v6));
        self.settle(cookie, None, own)
    }

    /// Nobody lives there any more.
    fn clear(&self, cookie: u64) -> Result<(), KernelError> {
        let t = &self.tables;
        if let Some(n) = t.netns.get(&cookie)?.filter(|n| n.identity != 0) {
            self.remove_backend(n.identity, cookie)?;
        }
        for (addr, held) in t.local_addrs.entries()? {
            if held.netns == cookie {
                t.local_addrs.remove(&addr)?;
            }
        }
        self.forget_listeners(cookie, |_| true)?;
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner).remove(&cookie);
        t.netns.remove(&cookie)?;
        t.listeners.remove(&cookie)?;
        self.unwatch(cookie)?;
        self.drop_lookup(cookie)
    }

    /// Beyond [`LOCAL_BACKENDS_MAX`] an endpoint is reached by its own address only.
    fn add_backend(&self, identity: u32, backend: LocalBackend, shared: bool) -> Result<(), KernelError> {
        let local = self.tables.local.get(&identity)?.unwrap_or_default();
        let mut backends = list(&local);
        backends.retain(|(b, _)| b.netns != backend.netns);
        backends.push((backend, shared));
        let next = of(&backends);
        if next == local { Ok(()) } else { self.tables.local.put(&identity, &next) }
    }

    /// Whether it is among the endpoints of its service, or they are too many for that.
    pub(crate) fn has_backend(&self, identity: u32, backend: LocalBackend) -> Result<bool, KernelError> {
        let all = self.tables.local.get(&identity)?.map(|local| list(&local)).unwrap_or_default();
        Ok(all.len() >= LOCAL_BACKENDS_MAX || all.iter().any(|(b, _)| *b == backend))
    }

    fn remove_backend(&self, identity: u32, cookie: u64) -> Result<(), KernelError> {
        let Some(local) = self.tables.local.get(&identity)? else { return Ok(()) };
        let mut backends = list(&local);
        backends.retain(|(b, _)| b.netns != cookie);
        if backends.is_empty() {
            return self.tables.local.remove(&identity).map(drop);
        }
        self.tables.local.put(&identity, &of(&backends))
    }
}

/// Whether a namespace vouches for who lives in it.
pub(crate) fn is_of_one(flags: u16) -> bool {
    flags & NETNS_SHARED == 0
}

/// Each with whether its namespace is shared.
fn list(local: &LocalBackends) -> Vec<(LocalBackend, bool)> {
    local.backends.iter().take(local.count as usize).enumerate().map(|(i, b)| (*b, local.shared >> i & 1 != 0)).collect()
}

fn of(backends: &[(LocalBackend, bool)]) -> LocalBackends {
    let mut local = LocalBackends { count: backends.len().min(LOCAL_BACKENDS_MAX) as u32, ..LocalBackends::default() };
    for (i, (place, (backend, shared))) in local.backends.iter_mut().zip(backends).enumerate() {
        *place = *backend;
        local.shared |= u32::from(*shared) << i;
    }
    local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(netns: u64) -> LocalBackend {
        LocalBackend { netns, ..LocalBackend::default() }
    }

    #[test]
    fn backends_are_bounded_and_keep_who_shares() {
        let all: Vec<_> = (1..=10).map(|n| (backend(n), n % 2 == 0)).collect();
        let local = of(&all);
        assert_eq!(local.count as usize, LOCAL_BACKENDS_MAX);
        assert_eq!(list(&local), all[..LOCAL_BACKENDS_MAX]);
        assert_eq!(of(&[(backend(3), false)]).backends[1], LocalBackend::default());
    }
}
