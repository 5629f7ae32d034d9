//! Who is worked on next, when there is more to do than workers: the share that has had the least time, however many connections it has.
//!
//! A connection that something has happened to stands in its share's line until a slot is free. A free slot goes to the share that has used
//! the least CPU time since it last had nothing to do (start-time fair queueing, equal weights): one that was idle comes next, behind what is
//! running. So nobody waits for a neighbour's connections, only for the turns under way; and how long a turn may be is bounded by
//! [`Turns`](super::turns::Turns). Nothing waits while slots are free.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::available_parallelism,
};

use rustix::time::{ClockId, clock_gettime};
use weft_types::ServiceId;

use super::memory::{self, Held, Memory};

/// Who has turns and budgets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Share {
    /// What a workload of this node calls.
    Workload(u32),
    /// What calls a workload of this node, apart for each service; `None`: a caller that the snapshot does not know.
    Caller(u32, Option<ServiceId>),
    /// What has not said yet who it is. An address gives nobody an identity; here it only keeps one from standing in another's way.
    Address(IpAddr),
}

pub(crate) struct Fair {
    lines: Mutex<Lines>,
    slots: usize,
    memory: Arc<Memory>,
}

#[derive(Default)]
struct Lines {
    running: usize,
    /// Of every share that has a connection.
    of: HashMap<Share, Line>,
    /// Those in whose line somebody waits, by the time they have had.
    order: BTreeSet<(u64, Share)>,
    /// The time had by the share that a slot was given to last: who begins anew begins here, neither ahead by having rested nor behind.
    now: u64,
}

#[derive(Default)]
struct Line {
    members: usize,
    waiting: VecDeque<Arc<Entry>>,
    /// Nanoseconds of CPU time, counted from [`Lines::now`] of its beginning.
    had: u64,
    /// What its last turn took: charged when the next is given, put right at its end.
    last: u64,
    held: Arc<Held>,
}

/// One future's place in its share's line.
struct Entry {
    fair: Arc<Fair>,
    share: Share,
    held: Arc<Held>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    task: Waker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing has happened to it.
    Idle,
    Queued,
    /// A slot is its own until its next poll has ended; so much has been charged for it.
    Granted {
        charged: u64,
    },
    Running {
        charged: u64,
        woken: bool,
    },
    Done,
}

impl Fair {
    /// Two slots a processor: while one turn ends, the next is on its way to a worker.
    pub(crate) fn new(memory: Arc<Memory>) -> Arc<Self> {
        Self::with_slots(2 * available_parallelism().map_or(1, usize::from), memory)
    }

    fn with_slots(slots: usize, memory: Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { lines: Mutex::default(), slots, memory })
    }

    /// Runs `work`, each of its steps in the turn of `share`, and what it buffers in the name of `share`.
    pub(crate) async fn run<F: Future>(self: &Arc<Self>, share: Share, work: F) -> F::Output {
        let place = self.enter(share);
        let waker = Waker::from(place.0.clone());
        let mut work = pin!(work);
        let mut begun = false;
        std::future::poll_fn(move |cx| {
            let entry = &place.0;
            entry.lock().task.clone_from(cx.waker());
            if !begun {
                begun = true;
                entry.clone().wake();
            }
            let Some(charged) = entry.take_turn() else { return Poll::Pending };
            let since = cpu_time();
            let polled = memory::on_behalf_of(&entry.held, || work.as_mut().poll(&mut Context::from_waker(&waker)));
            entry.end_turn(polled.is_ready(), charged, cpu_time().saturating_sub(since));
            polled
        })
        .await
    }

    fn enter(self: &Arc<Self>, share: Share) -> Place {
        let mut lines = self.lock();
        let line = lines.of.entry(share).or_insert_with(|| Line { held: self.memory.holder(), ..Line::default() });
        line.members += 1;
        let state = State { phase: Phase::Idle, task: Waker::noop().clone() };
        Place(Arc::new(Entry { fair: self.clone(), share, held: line.held.clone(), state: Mutex::new(state) }))
    }

    /// Gives free slots away, in order.
    fn grant(&self) {
        while let Some(task) = self.next() {
            task.wake();
        }
    }

    fn next(&self) -> Option<Waker> {
        let mut lines = self.lock();
        while lines.running < self.slots {
            let (had, share) = lines.order.pop_first()?;
            lines.now = lines.now.max(had);
            let line = lines.of.get_mut(&share)?;
            let entry = line.waiting.pop_front();
            let charged = line.last;
            let granted = entry.and_then(|entry| entry.grant(charged));
            if granted.is_some() {
                line.had += charged;
            }
            let again = (!line.waiting.is_empty()).then_some(line.had);
            if let Some(had) = again {
                lines.order.insert((had, share));
            }
            if granted.is_some() {
                lines.running += 1;
                return granted;
            }
        }
        None
    }

    /// A turn has ended that `charged` was put down for and that took `took`.
    fn release(&self, share: Share, charged: u64, took: u64) {
        let mut lines = self.lock();
        lines.running -= 1;
        let Some(line) = lines.of.get_mut(&share) else { return };
        let before = line.had;
        line.had = before.saturating_sub(charged).saturating_add(took);
        line.last = took;
        let (after, waits) = (line.had, !line.waiting.is_empty());
        if waits && lines.order.remove(&(before, share)) {
            lines.order.insert((after, share));
        }
    }

    /// The last to leave takes the line with it; what a share has had beyond the others' by then is a few turns at most.
    fn leave(&self, share: Share) {
        let mut lines = self.lock();
        let Some(line) = lines.of.get_mut(&share) else { return };
        line.members -= 1;
        if line.members == 0 {
            let had = line.had;
            lines.order.remove(&(had, share));
            lines.of.remove(&share);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// `None`: it does not want its turn any more.
    fn grant(&self, charged: u64) -> Option<Waker> {
        let mut state = self.lock();
        (state.phase == Phase::Queued).then(|| {
            state.phase = Phase::Granted { charged };
            state.task.clone()
        })
    }

    fn take_turn(&self) -> Option<u64> {
        let mut state = self.lock();
        let Phase::Granted { charged } = state.phase else { return None };
        state.phase = Phase::Running { charged, woken: false };
        Some(charged)
    }

    fn end_turn(self: &Arc<Self>, done: bool, charged: u64, took: u64) {
        let woken = {
            let mut state = self.lock();
            let woken = matches!(state.phase, Phase::Running { woken: true, .. }) && !done;
            state.phase = match (done, woken) {
                (true, _) => Phase::Done,
                (_, true) => Phase::Queued,
                _ => Phase::Idle,
            };
            woken
        };
        self.fair.release(self.share, charged, took);
        if woken {
            self.queue();
        }
        self.fair.grant();
    }

    /// Behind its own share's others.
    fn queue(self: &Arc<Self>) {
        let mut lines = self.fair.lock();
        let now = lines.now;
        let Some(line) = lines.of.get_mut(&self.share) else { return };
        line.waiting.push_back(self.clone());
        if line.waiting.len() == 1 {
            line.had = line.had.max(now);
            let had = line.had;
            lines.order.insert((had, self.share));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        {
            let mut state = self.lock();
            match state.phase {
                Phase::Idle => state.phase = Phase::Queued,
                Phase::Running { charged, .. } => return state.phase = Phase::Running { charged, woken: true },
                Phase::Queued | Phase::Granted { .. } | Phase::Done => return,
            }
        }
        self.queue();
        self.fair.grant();
    }
}

/// Leaves the line, and gives the slot back, when the future is dropped.
struct Place(Arc<Entry>);

impl Drop for Place {
    fn drop(&mut self) {
        let (fair, share) = (&self.0.fair, self.0.share);
        let was = std::mem::replace(&mut self.0.lock().phase, Phase::Done);
        let held_a_slot = match was {
            Phase::Granted { charged } | Phase::Running { charged, .. } => {
                fair.release(share, charged, 0);
                true
            }
            _ => false,
        };
        fair.leave(share);
        if held_a_slot {
            fair.grant();
        }
    }
}

/// Of this thread. Time that the kernel gives to others meanwhile is nobody's.
fn cpu_time() -> u64 {
    let t = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::proxy::turns::step_back;

    fn share(workload: u32) -> Share {
        Share::Workload(workload)
    }

    fn fair(slots: usize) -> Arc<Fair> {
        Fair::with_slots(slots, Arc::default())
    }

    /// `connections` of one share, each `steps` turns of so much work; every turn is noted.
    struct Party {
        connections: u32,
        steps: u32,
        work: Duration,
    }

    /// How many turns the first had between the first and the last turn of the second, in one slot.
    async fn turns_beside(greedy: Party, polite: Party) -> usize {
        let fair = fair(1);
        let turns = Arc::new(Mutex::new(Vec::new()));
        let spawn = |workload: u32, party: &Party| {
            let (fair, turns, steps, work) = (fair.clone(), turns.clone(), party.steps, u64::try_from(party.work.as_nanos()).unwrap());
            tokio::spawn(async move {
                fair.run(share(workload), async {
                    for _ in 0..steps {
                        turns.lock().unwrap().push(workload);
                        let until = cpu_time() + work;
                        while cpu_time() < until {}
                        step_back().await;
                    }
                })
                .await;
            })
        };
        let many: Vec<_> = (0..greedy.connections).map(|_| spawn(1, &greedy)).collect();
        let few: Vec<_> = (0..polite.connections).map(|_| spawn(2, &polite)).collect();
        for task in few {
            timeout(Duration::from_secs(30), task).await.expect("it starved").unwrap();
        }
        let so_far = turns.lock().unwrap().clone();
        let polite_at = |at: Option<usize>| at.expect("the polite had no turn");
        let (first, last) = (polite_at(so_far.iter().position(|w| *w == 2)), polite_at(so_far.iter().rposition(|w| *w == 2)));
        let between = so_far[first..last].iter().filter(|w| **w == 1).count();
        for task in many {
            timeout(Duration::from_secs(30), task).await.expect("work was lost").unwrap();
        }
        between
    }

    #[tokio::test]
    async fn a_share_with_many_connections_gets_as_much_as_a_share_with_one() {
        let work = Duration::from_micros(100);
        let greedy = turns_beside(Party { connections: 100, steps: 20, work }, Party { connections: 1, steps: 20, work }).await;
        assert!(greedy <= 30, "the greedy had {greedy} turns beside 20");
    }

    #[tokio::test]
    async fn long_turns_count_for_what_they_take() {
        let (long, short) = (Duration::from_millis(2), Duration::from_micros(100));
        let greedy = turns_beside(Party { connections: 10, steps: 10, work: long }, Party { connections: 2, steps: 40, work: short }).await;
        assert!(greedy <= 10, "the greedy had {greedy} turns of 2 ms beside 80 turns of 0.1 ms");
    }

    #[tokio::test]
    async fn a_slot_comes_back_from_work_that_is_dropped() {
        let fair = fair(1);
        for _ in 0..3 {
            let held = fair.run(share(1), async { std::future::pending::<()>().await });
            let _ = timeout(Duration::from_millis(10), held).await;
        }
        let mut granted = Box::pin(fair.run(share(1), async {}));
        // Its first poll may end it; where it does not, it is dropped with a slot of its own.
        let _ = granted.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(granted);
        timeout(Duration::from_secs(1), fair.run(share(2), async {})).await.expect("the slot is gone");
        let lines = fair.lock();
        assert_eq!((lines.running, lines.of.len(), lines.order.len()), (0, 0, 0), "and nothing is remembered of who has gone");
    }
}
