//! What this process wrote into the two generations, so that the next revision costs what differs and not what there is. Whoever else writes there
//! changes the state word or is found by [`Kernel::recheck`]; then nothing is known, and the tables are read from the kernel again.

use std::cmp::Ordering;

use weft_ebpf_common::State;
use weft_policy::KernelTables;

use crate::{Kernel, KernelError};

/// Both generations, as far as they are known.
#[derive(Default)]
pub(crate) struct Known {
    state: State,
    pub(crate) slots: [Option<Written>; 2],
}

/// One generation as it was written.
pub(crate) struct Written {
    /// Sorted, no key twice.
    pub(crate) tables: KernelTables,
    /// Entries in the kernel: destinations, externals, ports, grants.
    pub(crate) entries: [usize; 4],
}

impl Known {
    /// Forgets everything unless the kernel is as this process left it.
    pub(crate) fn hold_against(&mut self, state: State) {
        if state != self.state {
            *self = Self { state, ..Self::default() };
        }
    }

    pub(crate) fn left_at(&mut self, state: State) {
        self.state = state;
    }
}

impl Kernel {
    /// The next revision is written whole.
    pub fn forget(&self) {
        let _changing = self.change();
        *self.known() = Known::default();
    }

    /// Whether the generation that is not in force is what this process believes of it. Where it is not, the belief is given up.
    pub fn recheck(&self) -> Result<bool, KernelError> {
        let _changing = self.change();
        let mut known = self.known();
        let state = self.state()?;
        known.hold_against(state);
        let standby = (state.slot & 1) ^ 1;
        let Some(written) = &known.slots[standby as usize] else { return Ok(true) };
        let holds = sorted(self.tables.dump_slot(standby)?) == written.tables;
        if !holds {
            known.slots[standby as usize] = None;
        }
        Ok(holds)
    }
}

/// In the order in which [`narrowed`] walks them.
pub(crate) fn sorted(mut tables: KernelTables) -> KernelTables {
    tables.destinations.sort_unstable();
    tables.externals.sort_unstable();
    tables.ports.sort_unstable();
    tables.grants.sort_unstable();
    tables
}

/// Whether no key has two rows; of sorted tables.
pub(crate) fn no_key_twice(t: &KernelTables) -> bool {
    t.destinations.windows(2).all(|w| w[0].0 != w[1].0)
        && t.externals.windows(2).all(|w| w[0].0 != w[1].0)
        && t.ports.windows(2).all(|w| (w[0].0, w[0].1, w[0].2, w[0].3) != (w[1].0, w[1].1, w[1].2, w[1].3))
        && t.grants.windows(2).all(|w| (w[0].0, w[0].1, w[0].2, w[0].3) != (w[1].0, w[1].1, w[1].2, w[1].3))
}

/// Of two sorted generations only what differs: the same changes lead from one to the other. Grants of one pair stay together, because more than one
/// entry follows from them.
pub(crate) fn narrowed(old: &KernelTables, new: &KernelTables) -> (KernelTables, KernelTables) {
    let (mut a, mut b) = (KernelTables::default(), KernelTables::default());
    (a.destinations, b.destinations) = only(&old.destinations, &new.destinations);
    (a.externals, b.externals) = only(&old.externals, &new.externals);
    (a.ports, b.ports) = only(&old.ports, &new.ports);
    let (gone, come) = only(&old.grants, &new.grants);
    let mut pairs: Vec<_> = gone.iter().chain(&come).map(|g| (g.0, g.1)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    for pair in pairs {
        for (from, to) in [(&old.grants, &mut a.grants), (&new.grants, &mut b.grants)] {
            let first = from.partition_point(|g| (g.0, g.1) < pair);
            to.extend(from[first..].iter().take_while(|g| (g.0, g.1) == pair));
        }
    }
    (a, b)
}

/// What only the one, and what only the other of two sorted lists has.
fn only<T: Ord + Copy>(a: &[T], b: &[T]) -> (Vec<T>, Vec<T>) {
    let (mut only_a, mut only_b, mut i, mut j) = (Vec::new(), Vec::new(), 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        match x.cmp(y) {
            Ordering::Equal => (i, j) = (i + 1, j + 1),
            Ordering::Less => {
                only_a.push(*x);
                i += 1;
            }
            Ordering::Greater => {
                only_b.push(*y);
                j += 1;
            }
        }
    }
    only_a.extend(&a[i..]);
    only_b.extend(&b[j..]);
    (only_a, only_b)
}

#[cfg(test)]
mod tests {
    use weft_policy::Kind;
    use weft_types::{Protocol, RuleId, ServiceId};

    use super::*;
    use crate::generation::{Generation, diff};

    /// Some of what a small mesh may hold; each bit of `seed` leaves something out or tells it otherwise.
    fn some(seed: u64) -> KernelTables {
        let bit = |n: u32| seed >> (n % 64) & 1 == 1;
        let mut t = KernelTables::default();
        for i in 0..8_u32 {
            if bit(i) {
                t.destinations.push(([10, 0, 0, i as u8].into(), ServiceId(if bit(i + 1) { 1 } else { 2 }), Kind::Endpoint));
            }
            if bit(i + 5) {
                t.externals.push((format!("192.0.{i}.0/24").parse().unwrap(), ServiceId(i + bit(i + 9) as u32)));
                t.ports.push((ServiceId(i), Kind::Vip, 80, Protocol::Tcp, 80, if bit(i + 7) { 8080 } else { 9090 }));
            }
            for port in [80, 443] {
                if bit(i + u32::from(port)) {
                    t.grants.push((ServiceId(i), ServiceId(i % 3), port, Protocol::Tcp, RuleId(i + u32::from(port)), bit(i + 3)));
                }
            }
        }
        sorted(t)
    }

    #[test]
    fn what_differs_makes_the_same_changes_as_everything() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..2_000 {
            let (old, new) = (some(seed), some(seed.rotate_left(17) ^ (seed >> 9)));
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            assert!(no_key_twice(&new));
            let whole = (Generation::new(1, &old).unwrap(), Generation::new(1, &new).unwrap());
            let (a, b) = narrowed(&old, &new);
            let part = (Generation::new(1, &a).unwrap(), Generation::new(1, &b).unwrap());
            macro_rules! same {
                ($($table:ident),*) => { $(
                    let (mut all, mut few) = (diff(&whole.0.$table, &whole.1.$table), diff(&part.0.$table, &part.1.$table));
                    for d in [&mut all, &mut few] {
                        d.remove.sort_unstable_by_key(|k| format!("{k:?}"));
                        d.put.sort_unstable_by_key(|k| format!("{k:?}"));
                    }
                    assert_eq!(all, few);
                )* };
            }
            same!(destinations, externals, ports, grants);
        }
    }

    #[test]
    fn equal_generations_differ_in_nothing() {
        let (a, b) = narrowed(&some(u64::MAX), &some(u64::MAX));
        assert_eq!((a, b), (KernelTables::default(), KernelTables::default()));
    }

    #[test]
    fn a_key_with_two_rows_is_seen() {
        let mut t = some(u64::MAX);
        let (addr, _, kind) = t.destinations[0];
        t.destinations.push((addr, ServiceId(99), kind));
        assert!(!no_key_twice(&sorted(t)));
    }
}
