//! Descriptors of the proxy, shared out: a workload gets no more than are left for others.
//!
//! A workload may take a descriptor as long as it has fewer than are free. So one alone gets half of all, the next half of the rest, and a
//! newcomer always finds some. What does not fit is refused at once, with a record that says so; nothing that stands is ever closed for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    account::Failure,
    fair::Share,
    limits::{CONNECTIONS_PER_SHARE_MAX, DESCRIPTORS_RESERVED_MAX},
};

pub(crate) struct Budget {
    all: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    of: HashMap<Share, usize>,
}

/// Descriptors of one connection; given back when dropped.
pub(crate) struct Place {
    budget: Arc<Budget>,
    share: Share,
    descriptors: usize,
}

impl Budget {
    /// What this process may open, after raising that as far as it goes, less what the rest of the agent needs.
    pub(crate) fn of_process() -> Arc<Self> {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Where it cannot be raised, the present limit counts.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Self::of(limit - (limit / 4).min(DESCRIPTORS_RESERVED_MAX))
    }

    fn of(all: usize) -> Arc<Self> {
        Arc::new(Self { all, taken: Mutex::default() })
    }

    pub(crate) fn take(self: &Arc<Self>, share: Share, descriptors: usize) -> Result<Place, Failure> {
        let mut taken = self.lock();
        let own = taken.of.get(&share).copied().unwrap_or(0);
        let free = self.all - taken.count;
        if own + descriptors > free.saturating_sub(descriptors) || own + descriptors > 2 * CONNECTIONS_PER_SHARE_MAX {
            let detail = format!("it holds {own} descriptors of this agent, {free} are left for all: does it leave connections open?");
            return Err(Failure::new(weft_types::Reason::Budget, detail));
        }
        taken.count += descriptors;
        taken.of.insert(share, own + descriptors);
        Ok(Place { budget: self.clone(), share, descriptors })
    }

    /// Taken now, and all there are.
    pub(crate) fn used(&self) -> (usize, usize) {
        (self.lock().count, self.all)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.budget.lock();
        taken.count -= self.descriptors;
        if let Some(own) = taken.of.get_mut(&self.share) {
            *own -= self.descriptors;
            if *own == 0 {
                taken.of.remove(&self.share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(workload: u32) -> Share {
        Share::Workload(workload)
    }

    fn as_many_as_it_gets(budget: &Arc<Budget>, workload: u32) -> Vec<Place> {
        std::iter::from_fn(|| budget.take(share(workload), 2).ok()).collect()
    }

    #[test]
    fn the_greedy_leave_room_and_the_refusal_has_a_reason() {
        let budget = Budget::of(1000);
        let first = as_many_as_it_gets(&budget, 1);
        assert!((240..=250).contains(&first.len()), "{}", first.len());
        let refused = budget.take(share(1), 2).err().unwrap();
        assert_eq!(refused.reason, weft_types::Reason::Budget);
        let second = as_many_as_it_gets(&budget, 2);
        assert!((120..=130).contains(&second.len()), "{}", second.len());
        assert!(budget.take(share(3), 2).is_ok(), "a newcomer finds some");
        drop((first, second));
        assert_eq!(budget.used(), (0, 1000));
        assert!(budget.take(share(1), 2).is_ok(), "and what was given back can be had again");
    }
}
