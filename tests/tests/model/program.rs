//! The program of one pod, seen from outside: it serves under its name, dials as it is told, and keeps connections.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use weft_lab::{Place, Proc};

const SOURCE: &str = include_str!("program.py");
const START: Duration = Duration::from_secs(20);
pub const PORT: u16 = 8080;

pub struct Program {
    process: Proc,
    orders: ChildStdin,
    said: Receiver<String>,
    ready: bool,
    listening: bool,
    outcomes: HashMap<u32, Outcome>,
    pongs: HashSet<u32>,
    ended: HashMap<u32, i32>,
}

/// What came of a dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered(String),
    Failed { errno: i32, text: String },
}

impl Program {
    pub fn start(place: &Place, name: &str) -> Result<Self> {
        let argv = ["python3", "-u", "-c", SOURCE, name, &PORT.to_string()];
        let mut process = place.spawn_with("program", &argv, |command| {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let child = process.child();
        let (orders, out) = (child.stdin.take().context("no standard input")?, child.stdout.take().context("no standard output")?);
        let (tell, said) = mpsc::channel();
        thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let (outcomes, pongs, ended) = (HashMap::new(), HashSet::new(), HashMap::new());
        let mut program = Self { process, orders, said, ready: false, listening: false, outcomes, pongs, ended };
        let started = program.listen(Instant::now() + START, "its start", |program| program.ready.then_some(()));
        started.with_context(|| format!("the program in {}: {}", place.name(), program.process.log_tail(5)))?;
        Ok(program)
    }

    /// Waits until it serves, which it may as soon as it is somebody.
    pub fn serves(&mut self, deadline: Instant) -> Result<()> {
        self.listen(deadline, "its listener", |program| program.listening.then_some(()))
    }

    pub fn kill(&mut self) {
        self.process.kill9();
    }

    pub fn tell(&mut self, order: &str) -> Result<()> {
        writeln!(self.orders, "{order}").and_then(|()| self.orders.flush()).with_context(|| format!("the program has gone: {}", self.process.log_tail(5)))
    }

    /// What came of a dial, as soon as it is known.
    pub fn outcome(&mut self, id: u32, deadline: Instant) -> Result<Outcome> {
        self.listen(deadline, &format!("what came of dial {id}"), |program| program.outcomes.remove(&id))
    }

    /// Whether a kept connection still carries something there and back.
    pub fn lives(&mut self, id: u32, deadline: Instant) -> Result<bool> {
        self.tell(&format!("ping {id}"))?;
        self.listen(deadline, &format!("an answer over kept connection {id}"), |program| {
            if program.ended.contains_key(&id) { Some(false) } else { program.pongs.remove(&id).then_some(true) }
        })
    }

    /// Waits for the end of a kept connection; how its program was told of it.
    pub fn end(&mut self, id: u32, deadline: Instant) -> Result<i32> {
        self.listen(deadline, &format!("the end of kept connection {id}"), |program| program.ended.get(&id).copied())
    }

    fn listen<T>(&mut self, deadline: Instant, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = found(self) {
                return Ok(found);
            }
            let line = self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())).with_context(|| format!("{what} did not come"))?;
            self.hear(&line).with_context(|| format!("the program said {line:?}"))?;
        }
    }

    fn hear(&mut self, line: &str) -> Result<()> {
        let mut words = line.splitn(4, ' ');
        let (id, verb) = (words.next().context("no id")?.parse()?, words.next().context("no verb")?);
        let mut word = || words.next().unwrap_or_default();
        match verb {
            "ready" => self.ready = true,
            "listening" => self.listening = true,
            "answered" => drop(self.outcomes.insert(id, Outcome::Answered(word().to_owned()))),
            "failed" => drop(self.outcomes.insert(id, Outcome::Failed { errno: word().parse()?, text: word().to_owned() })),
            "pong" => drop(self.pongs.insert(id)),
            "ended" => drop(self.ended.insert(id, word().parse()?)),
            _ => bail!("no such word"),
        }
        Ok(())
    }
}
