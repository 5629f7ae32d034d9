//! A look at what an agent has pinned, from another process: nothing is loaded, attached or made.

use std::{collections::BTreeMap, path::Path};

use weft_ebpf_common::{
    Addr, Attestation, State, TupleKey,
    limits::{ATTESTATIONS_MAX, DATAGRAMS_MAX},
};
use weft_policy::KernelTables;

use crate::{
    KernelError,
    kernel::Tables,
    pins::Pins,
    sys,
    table::{Plain, Table},
};

/// The tables of one node, by their pins.
pub struct Pinned {
    tables: Tables,
}

impl Pinned {
    /// `bpffs` is the agent's option of that name.
    pub fn open(bpffs: &Path) -> Result<Self, KernelError> {
        Ok(Self { tables: Tables::open(&Pins::existing(bpffs))? })
    }

    pub fn state(&self) -> Result<State, KernelError> {
        self.tables.state()
    }

    /// The generation in force, in policy's words, sorted.
    pub fn dump(&self) -> Result<KernelTables, KernelError> {
        self.tables.dump()
    }

    /// Entries of the table of handshakes under way.
    pub fn attestations(&self) -> Result<usize, KernelError> {
        Ok(self.tables.attestations.keys()?.len())
    }

    /// Flows of datagrams.
    pub fn datagrams(&self) -> Result<Vec<(TupleKey, Attestation)>, KernelError> {
        self.tables.datagrams.entries()
    }

    /// Fills that table to its bound with flows of nobody, and says how many that took. Fail-closed: no program follows one.
    pub fn fill_datagrams(&self) -> Result<usize, KernelError> {
        let free = DATAGRAMS_MAX as usize - self.tables.datagrams.keys()?.len();
        for n in 0..free {
            self.tables.datagrams.put(&TupleKey { proto: n as u32, ..TupleKey::default() }, &Attestation { since_ns: u64::MAX, ..Attestation::default() })?;
        }
        Ok(free)
    }

    /// Takes away what [`Self::fill_datagrams`] put in.
    pub fn forget_filling(&self) -> Result<(), KernelError> {
        let mut of_nobody = self.tables.datagrams.keys()?.into_iter().filter(|key| key.netns == 0);
        of_nobody.try_for_each(|key| self.tables.datagrams.remove(&key).map(drop))
    }

    /// The kernel's id of each policy table: two agents share none.
    pub fn ids(&self) -> Result<BTreeMap<&'static str, u32>, KernelError> {
        let t = &self.tables;
        [id(&t.state), id(&t.workloads), id(&t.netns), id(&t.destinations), id(&t.grants), id(&t.attestations), id(&t.local)].into_iter().collect()
    }

    /// Fills the table of handshakes under way with records that are nobody's, and says how many there was room for. Fail-closed: no
    /// connection has their tuples, and they keep out those that need room.
    pub fn crowd_attestations(&self) -> Result<usize, KernelError> {
        let record = Attestation { since_ns: u64::MAX, ..Attestation::default() };
        let mut keys = crowd();
        Ok(keys.position(|key| self.tables.attestations.put(&key, &record).is_err()).unwrap_or(ATTESTATIONS_MAX as usize))
    }

    /// Takes those away again.
    pub fn uncrowd_attestations(&self) -> Result<(), KernelError> {
        crowd().try_for_each(|key| self.tables.attestations.remove(&key).map(drop))
    }

    /// How many entries each table has that grows with workloads.
    pub fn occupancy(&self) -> Result<Vec<(&'static str, usize)>, KernelError> {
        let t = &self.tables;
        Ok(vec![
            ("WORKLOADS", t.workloads.keys()?.len()),
            ("NETNS", t.netns.keys()?.len()),
            ("LOCAL", t.local.keys()?.len()),
            ("LOCAL_ADDRS", t.local_addrs.keys()?.len()),
            ("LISTENERS", t.listeners.keys()?.len()),
            ("LISTENING", t.listening.keys()?.len()),
        ])
    }

    /// Removes every grant, or every workload, and says how many there were. Fail-closed: it can only take away.
    pub fn empty_grants(&self) -> Result<usize, KernelError> {
        empty(&self.tables.grants)
    }

    /// As [`Self::empty_grants`].
    pub fn empty_workloads(&self) -> Result<usize, KernelError> {
        empty(&self.tables.workloads)
    }
}

fn id<K: Plain, V: Plain>(table: &Table<K, V>) -> Result<(&'static str, u32), KernelError> {
    let info = sys::map_info(table.fd()).map_err(KernelError::table(table.name(), "inspect"))?;
    Ok((table.name(), info.id))
}

/// Tuples of no namespace.
fn crowd() -> impl Iterator<Item = TupleKey> {
    let of = |port| TupleKey { netns: 0, remote: Addr::UNSPECIFIED, local: Addr::UNSPECIFIED, remote_port: port, local_port: 0, proto: 0 };
    (0..=u16::MAX).map(of)
}

const _: () = assert!(ATTESTATIONS_MAX as usize <= 1 << 16);

fn empty<K: Plain, V: Plain>(table: &Table<K, V>) -> Result<usize, KernelError> {
    let keys = table.keys()?;
    for key in &keys {
        table.remove(key)?;
    }
    Ok(keys.len())
}
