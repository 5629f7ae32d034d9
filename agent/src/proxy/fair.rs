//! Whose connection is worked on next, when there is more to do than workers: each workload in its turn, however many connections it has.
//!
//! A connection that something has happened to stands in its workload's queue until a slot is free; slots go round the queues. So a workload
//! waits for at most one turn of each other one, never for all of their connections. Nothing waits while slots are free.

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::available_parallelism,
};

use weft_types::ServiceId;

/// Who has a turn and a budget: a workload of this node; on the listening side, apart for each caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Share {
    pub(crate) workload: u32,
    /// `None`: its own doing, or a caller that is not known yet.
    pub(crate) caller: Option<ServiceId>,
}

pub(crate) struct Fair {
    queues: Mutex<Queues>,
    slots: usize,
}

#[derive(Default)]
struct Queues {
    running: usize,
    waiting: HashMap<Share, VecDeque<Arc<Entry>>>,
    /// Those who wait, next first.
    order: VecDeque<Share>,
}

/// One future's place in its workload's queue.
struct Entry {
    fair: Arc<Fair>,
    share: Share,
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
    /// A slot is its own until its next poll has ended.
    Granted,
    Running {
        woken: bool,
    },
    Done,
}

impl Fair {
    /// Two slots a processor: while one turn ends, the next is on its way to a worker.
    pub(crate) fn new() -> Arc<Self> {
        Self::with_slots(2 * available_parallelism().map_or(1, usize::from))
    }

    fn with_slots(slots: usize) -> Arc<Self> {
        Arc::new(Self { queues: Mutex::default(), slots })
    }

    /// Runs `work`, each of its steps in the turn of `share`.
    pub(crate) async fn run<F: Future>(self: &Arc<Self>, share: Share, work: F) -> F::Output {
        let state = State { phase: Phase::Idle, task: Waker::noop().clone() };
        let place = Place(Arc::new(Entry { fair: self.clone(), share, state: Mutex::new(state) }));
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
            if !entry.take_turn() {
                return Poll::Pending;
            }
            let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
            entry.end_turn(polled.is_ready());
            polled
        })
        .await
    }

    /// Gives free slots away, in order.
    fn grant(&self) {
        while let Some(task) = self.next() {
            task.wake();
        }
    }

    fn next(&self) -> Option<Waker> {
        let mut queues = self.lock();
        while queues.running < self.slots {
            let share = queues.order.pop_front()?;
            let queue = queues.waiting.get_mut(&share)?;
            let entry = queue.pop_front();
            if queue.is_empty() {
                queues.waiting.remove(&share);
            } else {
                queues.order.push_back(share);
            }
            let Some(entry) = entry else { continue };
            let mut state = entry.lock();
            if state.phase == Phase::Queued {
                state.phase = Phase::Granted;
                queues.running += 1;
                return Some(state.task.clone());
            }
        }
        None
    }

    fn release(&self) {
        self.lock().running -= 1;
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn take_turn(&self) -> bool {
        let mut state = self.lock();
        let granted = state.phase == Phase::Granted;
        if granted {
            state.phase = Phase::Running { woken: false };
        }
        granted
    }

    fn end_turn(self: &Arc<Self>, done: bool) {
        let woken = {
            let mut state = self.lock();
            let woken = state.phase == Phase::Running { woken: true } && !done;
            state.phase = match (done, woken) {
                (true, _) => Phase::Done,
                (_, true) => Phase::Queued,
                _ => Phase::Idle,
            };
            woken
        };
        self.fair.release();
        if woken {
            self.queue();
        }
        self.fair.grant();
    }

    /// Behind its own workload's others.
    fn queue(self: &Arc<Self>) {
        let mut queues = self.fair.lock();
        let queue = queues.waiting.entry(self.share).or_default();
        queue.push_back(self.clone());
        if queue.len() == 1 {
            queues.order.push_back(self.share);
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
                Phase::Running { .. } => return state.phase = Phase::Running { woken: true },
                Phase::Queued | Phase::Granted | Phase::Done => return,
            }
        }
        self.queue();
        self.fair.grant();
    }
}

/// Gives the slot back when the future is dropped before its end.
struct Place(Arc<Entry>);

impl Drop for Place {
    fn drop(&mut self) {
        let was = std::mem::replace(&mut self.0.lock().phase, Phase::Done);
        if matches!(was, Phase::Granted | Phase::Running { .. }) {
            self.0.fair.release();
            self.0.fair.grant();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::proxy::turns::step_back;

    fn share(workload: u32) -> Share {
        Share { workload, caller: None }
    }

    #[tokio::test]
    async fn one_workload_with_many_gets_as_many_turns_as_one_with_one() {
        let fair = Fair::with_slots(1);
        let turns = Arc::new(Mutex::new(Vec::new()));
        let work = |workload: u32, steps: u32| {
            let (fair, turns) = (fair.clone(), turns.clone());
            tokio::spawn(async move {
                fair.run(share(workload), async {
                    for _ in 0..steps {
                        turns.lock().unwrap().push(workload);
                        step_back().await;
                    }
                })
                .await;
            })
        };
        let greedy: Vec<_> = (0..100).map(|_| work(1, 50)).collect();
        let polite = work(2, 20);
        timeout(Duration::from_secs(10), polite).await.expect("it starved").unwrap();
        let so_far = turns.lock().unwrap().clone();
        let polite_at = |at: Option<usize>| at.expect("the polite had no turn");
        let (first, last) = (polite_at(so_far.iter().position(|w| *w == 2)), polite_at(so_far.iter().rposition(|w| *w == 2)));
        let of_the_greedy = so_far[first..last].iter().filter(|w| **w == 1).count();
        assert!(of_the_greedy <= 25, "the greedy had {of_the_greedy} turns beside 20");
        for task in greedy {
            timeout(Duration::from_secs(10), task).await.expect("work was lost").unwrap();
        }
    }

    #[tokio::test]
    async fn a_slot_comes_back_from_work_that_is_dropped() {
        let fair = Fair::with_slots(1);
        for _ in 0..3 {
            let held = fair.run(share(1), async { std::future::pending::<()>().await });
            let _ = timeout(Duration::from_millis(10), held).await;
        }
        let mut granted = Box::pin(fair.run(share(1), async {}));
        // Its first poll may end it; where it does not, it is dropped with a slot of its own.
        let _ = granted.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        drop(granted);
        timeout(Duration::from_secs(1), fair.run(share(2), async {})).await.expect("the slot is gone");
        assert_eq!(fair.lock().running, 0);
    }
}
