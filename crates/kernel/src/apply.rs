//! A revision into the kernel: the generation not in force is made equal to it, then one word switches.

use std::{collections::HashMap, hash::Hash, thread};

use weft_ebpf_common::{
    State,
    limits::{DESTINATIONS_MAX, EXTERNALS_MAX, GRANTS_MAX, PORTS_MAX},
};
use weft_policy::KernelTables;
use weft_types::Revision;

use crate::{
    Kernel, KernelError,
    generation::{Diff, Generation, diff},
    kernel::{Tables, bounded},
    limits::SLOT_GRACE,
    sys,
    table::{Plain, Table},
};

impl Kernel {
    /// Puts a revision in force. An error leaves the one before in force, whole.
    ///
    /// Blocks for some tens of milliseconds and more for large tables.
    pub fn apply(&self, tables: &KernelTables, revision: Revision) -> Result<(), KernelError> {
        if revision.0 == 0 {
            return Err(KernelError::NoRevision);
        }
        let _changing = self.change();
        let state = self.state()?;
        let slot = (state.slot & 1) ^ 1;
        let want = Generation::new(slot, tables)?;
        let t = &self.tables;
        // What the slot holds is read from the kernel, never remembered: it may be another agent's, or have been emptied by hand.
        let destinations = plan(&t.destinations, &want.destinations, DESTINATIONS_MAX, |k| k.slot == slot)?;
        let externals = plan(&t.externals, &want.externals, EXTERNALS_MAX, |k| u32::from_be(k.data.slot_be) == slot)?;
        let ports = plan(&t.ports, &want.ports, PORTS_MAX, |k| k.slot == slot)?;
        let grants = plan(&t.grants, &want.grants, GRANTS_MAX, |k| k.slot == slot)?;
        // A program that began before the last switch may still read this slot.
        if sys::wait_for_programs().is_err() {
            thread::sleep(SLOT_GRACE);
        }
        carry_out(&t.destinations, &destinations)?;
        carry_out(&t.externals, &externals)?;
        carry_out(&t.ports, &ports)?;
        carry_out(&t.grants, &grants)?;
        let mut next = state;
        next.revisions[slot as usize] = revision.0;
        // The number first, then the word: a put is no atomic copy, and no flow may carry the number of a revision that did not judge it.
        t.state.put(&0, &next)?;
        t.state.put(&0, &State { slot, ..next })
    }

    /// The generation in force as the kernel holds it, in policy's words, sorted.
    pub fn dump(&self) -> Result<KernelTables, KernelError> {
        let _changing = self.change();
        self.tables.dump()
    }
}

impl Tables {
    pub(crate) fn dump(&self) -> Result<KernelTables, KernelError> {
        let slot = self.state()?.slot & 1;
        let generation = Generation {
            destinations: of_slot(&self.destinations, |k| k.slot == slot)?.0,
            externals: of_slot(&self.externals, |k| u32::from_be(k.data.slot_be) == slot)?.0,
            ports: of_slot(&self.ports, |k| k.slot == slot)?.0,
            grants: of_slot(&self.grants, |k| k.slot == slot)?.0,
        };
        Ok(generation.tables())
    }
}

fn plan<K: Plain + Eq + Hash, V: Plain + PartialEq>(
    table: &Table<K, V>,
    want: &HashMap<K, V>,
    max: u32,
    in_slot: impl Fn(&K) -> bool,
) -> Result<Diff<K, V>, KernelError> {
    let (have, others) = of_slot(table, in_slot)?;
    bounded(table.name(), others + want.len(), max.min(table.max()))?;
    Ok(diff(&have, want))
}

/// The entries of one slot, and how many the other has.
fn of_slot<K: Plain + Eq + Hash, V: Plain>(table: &Table<K, V>, in_slot: impl Fn(&K) -> bool) -> Result<(HashMap<K, V>, usize), KernelError> {
    let all = table.entries()?;
    let count = all.len();
    let have: HashMap<K, V> = all.into_iter().filter(|(k, _)| in_slot(k)).collect();
    let others = count - have.len();
    Ok((have, others))
}

/// Removes before it puts, so that a table at its bound has room.
fn carry_out<K: Plain, V: Plain>(table: &Table<K, V>, diff: &Diff<K, V>) -> Result<(), KernelError> {
    for key in &diff.remove {
        table.remove(key)?;
    }
    diff.put.iter().try_for_each(|(key, value)| table.put(key, value))
}
