//! Plays a sequence on the model and on the real mesh, and compares: what is answered while a step is under way, what every possible dial meets
//! when it has settled, and what has become of every connection that is kept.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use weft_tests::SETTLE;

use super::{
    program::Outcome,
    rules::{Expect, Source, State, Target},
    steps::{Done, Step},
    world::{Attempt, World},
};

const EPERM: i32 = 1;

pub struct Player {
    world: World,
    until: Instant,
    /// Nothing has failed yet: sequences end at the bound.
    green: bool,
    /// The last sequence left things as nobody knows.
    astray: bool,
    played: Played,
}

#[derive(Default)]
struct Played {
    sequences: usize,
    steps: usize,
    attempts: usize,
}

/// Where model and mesh disagree.
#[derive(Debug)]
pub struct Failure {
    /// The step, from 0, after which they did.
    at: usize,
    what: String,
    logs: String,
}

impl Player {
    /// The time begins when the mesh stands.
    pub fn start(time: Duration) -> Result<Self> {
        let world = World::start()?;
        Ok(Self { world, until: Instant::now() + time, green: true, astray: false, played: Played::default() })
    }

    pub fn has_time(&self) -> bool {
        Instant::now() < self.until
    }

    pub fn summary(&self) -> String {
        let Played { sequences, steps, attempts } = self.played;
        format!("{sequences} sequences, {steps} steps, {attempts} dials: the mesh did what the model says")
    }

    /// From the initial state. `seen` counts the steps that were begun.
    pub fn play(&mut self, steps: &[Step], seen: Option<&AtomicUsize>) -> Result<(), Failure> {
        self.played.sequences += 1;
        let reset = if self.astray { self.world.start_over() } else { self.world.reset() };
        self.astray = true;
        if let Err(error) = reset {
            return Err(self.failure(0, error.context("the mesh did not come back to its initial state")));
        }
        let mut state = State::initial();
        for (at, step) in steps.iter().enumerate() {
            if self.green && !self.has_time() {
                break;
            }
            if let Some(seen) = seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            let done = step.pass(&state);
            self.played.steps += 1;
            if let Err(error) = self.step(*step, &state, &done) {
                return Err(self.failure(at, error));
            }
            state = done.after;
        }
        self.astray = false;
        Ok(())
    }

    fn failure(&mut self, at: usize, error: anyhow::Error) -> Failure {
        self.green = false;
        Failure { at, what: format!("{error:#}"), logs: self.world.logs() }
    }

    fn step(&mut self, step: Step, before: &State, done: &Done) -> Result<()> {
        if let Step::Dial(_, to) = step {
            let live = done.after.live.last().ok_or_else(|| anyhow!("the model keeps no connection"))?;
            let outcome = self.world.keep(live, to)?;
            return expect_outcome(&outcome, &before.expect(Source::Seat(live.from.0), to), "the kept connection");
        }
        for (act, after) in step.acts(before).into_iter().zip(&done.way[1..]) {
            self.world.act(act, after)?;
        }
        let begun = Instant::now();
        loop {
            self.nothing_else_answers(done)?;
            if self.world.has_settled().is_ok() || begun.elapsed() > SETTLE {
                break;
            }
        }
        self.world.settle()?;
        self.everything_is_as_expected(&done.after)?;
        for live in &done.let_go {
            self.world.let_go(live)?;
        }
        for live in &done.ends {
            if let Err(error) = self.world.ends(live) {
                let carries = if self.world.lives(live).unwrap_or(false) { "carries on" } else { "stays open, though nothing passes" };
                return Err(anyhow!("model: kept connection {} ends; mesh: it {carries} ({error:#})", name(live)));
            }
        }
        for live in &done.after.live {
            if !self.world.lives(live)? {
                return Err(anyhow!("model: kept connection {} lives on; mesh: it has ended", name(live)));
            }
        }
        Ok(())
    }

    /// While the step is under way: whoever answers may answer in one of the states that it goes through.
    fn nothing_else_answers(&mut self, done: &Done) -> Result<()> {
        let attempts = attempts(&done.after, |_| false);
        self.played.attempts += attempts.len();
        for (Attempt { from, to, .. }, outcome) in attempts.iter().zip(self.world.attempt(&attempts)?) {
            if let Outcome::Answered(name) = outcome
                && !name.parse().is_ok_and(|instance| done.may_answer(*from, *to).contains(&instance))
            {
                return Err(anyhow!(
                    "{from} dials {to} while the step is under way: model: nobody but {:?} may answer; mesh: #{name} did",
                    done.may_answer(*from, *to)
                ));
            }
        }
        Ok(())
    }

    fn everything_is_as_expected(&mut self, state: &State) -> Result<()> {
        let attempts = attempts(state, |expect| matches!(expect, Expect::Answered { .. }));
        self.played.attempts += attempts.len();
        for (Attempt { from, to, .. }, outcome) in attempts.iter().zip(self.world.attempt(&attempts)?) {
            expect_outcome(&outcome, &state.expect(*from, *to), &format!("{from} dials {to}"))?;
        }
        Ok(())
    }
}

fn attempts(state: &State, hopeful: impl Fn(&Expect) -> bool) -> Vec<Attempt> {
    let all = state.attempts().into_iter();
    all.map(|(from, to): (Source, Target)| Attempt { from, to, hopeful: hopeful(&state.expect(from, to)) }).collect()
}

fn expect_outcome(outcome: &Outcome, expect: &Expect, what: &str) -> Result<()> {
    let fits = match (expect, outcome) {
        (Expect::Denied, Outcome::Failed { errno, .. }) => *errno == EPERM,
        (Expect::Silent, Outcome::Failed { .. }) => true,
        (Expect::Answered { by, .. }, Outcome::Answered(name)) => name.parse().is_ok_and(|instance| by.contains(&instance)),
        (Expect::Answered { always, .. }, Outcome::Failed { .. }) => !always,
        (Expect::Denied | Expect::Silent, Outcome::Answered(_)) => false,
    };
    if fits { Ok(()) } else { Err(anyhow!("{what}: model: {expect}; mesh: {outcome}")) }
}

fn name(live: &super::rules::Live) -> String {
    format!("{} from {} ({}) to {} ({})", live.id, live.from.0, live.from.2, live.to.0, live.to.2)
}

impl Failure {
    /// For people: the sequence as numbered lines, and who said what at which of them.
    pub fn told(&self, title: &str, steps: &[Step]) -> anyhow::Error {
        let mut state = State::initial();
        let mut text = format!("{title}\n   0. {}\n", scene(&state));
        for (number, step) in steps.iter().enumerate().take(self.at + 1) {
            text += &format!("{:4}. {}\n", number + 1, step.line(&state));
            state = step.pass(&state).after;
        }
        anyhow!("{text}      then {}\nwhere things stand, as the model has it: {}\n{}", self.what, scene(&state), self.logs)
    }
}

/// One line: who is where, and what is granted.
fn scene(state: &State) -> String {
    let seats = super::rules::all_seats().map(|seat| match (state.place(seat).pod, state.place(seat).declared) {
        (None, _) => format!("{seat} empty"),
        (Some(pod), declared) => {
            let service = declared.map_or("nobody".to_owned(), |service| service.to_string());
            format!("{seat} {service} #{} at {}", pod.instance, pod.address)
        }
    });
    let grants = state.grants.iter().map(|(from, to)| format!("{from} -> {to}")).collect::<Vec<_>>().join(", ");
    format!("{}; granted {grants}", seats.collect::<Vec<_>>().join(", "))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {}", self.at + 1, self.what)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(name) => write!(f, "answered by #{name}"),
            Self::Failed { errno, text } => write!(f, "errno {errno}, {text}"),
        }
    }
}
