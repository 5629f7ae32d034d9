//! A revision into the kernel: the generation not in force is made equal to it, then one word switches.

use std::{collections::HashMap, hash::Hash, thread};

use weft_ebpf_common::{
    Destination, DestinationKey, External, Grant, GrantKey, Port, PortKey, State,
    limits::{DESTINATIONS_MAX, EXTERNALS_MAX, GRANTS_MAX, PORTS_MAX},
};
use weft_policy::KernelTables;
use weft_types::Revision;

use crate::{
    Kernel, KernelError,
    generation::{Diff, Generation, diff},
    kernel::{Tables, bounded},
    known::{Written, narrowed, no_key_twice, sorted},
    limits::SLOT_GRACE,
    sys,
    table::{LpmKey, Plain, Table},
};

impl Kernel {
    /// Puts a revision in force. An error leaves the one before in force, whole.
    ///
    /// Blocks for some tens of milliseconds; for large tables longer when it does not know what the kernel holds, as at its first two revisions.
    pub fn apply(&self, tables: &KernelTables, revision: Revision) -> Result<(), KernelError> {
        if revision.0 == 0 {
            return Err(KernelError::NoRevision);
        }
        let _changing = self.change();
        let state = self.state()?;
        let slot = (state.slot & 1) ^ 1;
        let want = sorted(tables.clone());
        let mut known = self.known();
        known.hold_against(state);
        // From here on it is not known, until all is written.
        let held = known.slots[slot as usize].take();
        let plan = match (&held, &known.slots[state.slot as usize & 1]) {
            (Some(held), Some(other)) if no_key_twice(&want) => self.tables.plan_from(slot, held, other, &want)?,
            _ => self.tables.plan(slot, &want)?,
        };
        // A program that began before the last switch may still read this slot.
        if sys::wait_for_programs().is_err() {
            thread::sleep(SLOT_GRACE);
        }
        plan.carry_out(&self.tables)?;
        let mut next = state;
        next.revisions[slot as usize] = revision.0;
        // The number first, then the word: a put is no atomic copy, and no flow may carry the number of a revision that did not judge it.
        self.tables.state.put(&0, &next)?;
        let last = State { slot, ..next };
        self.tables.state.put(&0, &last)?;
        known.slots[slot as usize] = Some(Written { tables: want, entries: plan.entries });
        known.left_at(last);
        Ok(())
    }

    /// The generation in force as the kernel holds it, in policy's words, sorted.
    pub fn dump(&self) -> Result<KernelTables, KernelError> {
        let _changing = self.change();
        self.tables.dump()
    }
}

/// What one generation lacks of another revision.
struct Plan {
    destinations: Diff<DestinationKey, Destination>,
    externals: Diff<LpmKey, External>,
    ports: Diff<PortKey, Port>,
    grants: Diff<GrantKey, Grant>,
    /// That it has afterwards.
    entries: [usize; 4],
}

impl Plan {
    fn carry_out(&self, t: &Tables) -> Result<(), KernelError> {
        carry_out(&t.destinations, &self.destinations)?;
        carry_out(&t.externals, &self.externals)?;
        carry_out(&t.ports, &self.ports)?;
        carry_out(&t.grants, &self.grants)
    }
}

impl Tables {
    /// From what the slot holds by the kernel's own word: it may be another agent's, or have been emptied by hand.
    fn plan(&self, slot: u32, want: &KernelTables) -> Result<Plan, KernelError> {
        let want = Generation::new(slot, want)?;
        Ok(Plan {
            destinations: plan(&self.destinations, &want.destinations, DESTINATIONS_MAX, |k| k.slot == slot)?,
            externals: plan(&self.externals, &want.externals, EXTERNALS_MAX, |k| u32::from_be(k.data.slot_be) == slot)?,
            ports: plan(&self.ports, &want.ports, PORTS_MAX, |k| k.slot == slot)?,
            grants: plan(&self.grants, &want.grants, GRANTS_MAX, |k| k.slot == slot)?,
            entries: want.entries(),
        })
    }

    /// From what this process wrote into it two revisions ago, which differs from `want` by both changes since.
    fn plan_from(&self, slot: u32, held: &Written, other: &Written, want: &KernelTables) -> Result<Plan, KernelError> {
        let (old, new) = narrowed(&held.tables, want);
        let (old, new) = (Generation::new(slot, &old)?, Generation::new(slot, &new)?);
        let (gone, come) = (old.entries(), new.entries());
        let entries = [0, 1, 2, 3].map(|i| held.entries[i] - gone[i] + come[i]);
        let [destinations, externals, ports, grants] = [0, 1, 2, 3].map(|i| entries[i] + other.entries[i]);
        bounded(self.destinations.name(), destinations, DESTINATIONS_MAX.min(self.destinations.max()))?;
        bounded(self.externals.name(), externals, EXTERNALS_MAX.min(self.externals.max()))?;
        bounded(self.ports.name(), ports, PORTS_MAX.min(self.ports.max()))?;
        bounded(self.grants.name(), grants, GRANTS_MAX.min(self.grants.max()))?;
        Ok(Plan {
            destinations: diff(&old.destinations, &new.destinations),
            externals: diff(&old.externals, &new.externals),
            ports: diff(&old.ports, &new.ports),
            grants: diff(&old.grants, &new.grants),
            entries,
        })
    }

    pub(crate) fn dump(&self) -> Result<KernelTables, KernelError> {
        self.dump_slot(self.state()?.slot & 1)
    }

    pub(crate) fn dump_slot(&self, slot: u32) -> Result<KernelTables, KernelError> {
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
    table.put_all(&diff.put)
}
