//! Connections that stay open until somebody ends them, and how they ended as their two programs saw it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Result, bail};
use weft_lab::{Place, Proc, eventually};

const HELD: &str = include_str!("held.py");
const DEADLINE: Duration = Duration::from_secs(20);

/// One program that holds connections: it dials them, or it serves.
#[derive(Debug)]
pub struct Held(Proc);

/// An end as the program was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// 0: the orderly end of the other side.
    pub errno: i32,
    /// `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

impl Held {
    pub fn serve(place: &Place, port: u16) -> Result<Self> {
        let mut process = place.spawn(&format!("held-serve-{port}"), &["python3", "-u", "-c", HELD, "serve", &port.to_string()])?;
        process.wait_for_log("ready", DEADLINE)?;
        Ok(Self(process))
    }

    /// Returns when all of them are open and have been answered.
    pub fn dial(place: &Place, address: &str, port: u16, count: usize) -> Result<Self> {
        let mut process = place.spawn(&name("dial", address, port), &["python3", "-u", "-c", HELD, "dial", address, &port.to_string(), &count.to_string()])?;
        process.wait_for_log(&format!("up {count}"), DEADLINE)?;
        Ok(Self(process))
    }

    /// One connection over which something goes and comes all the while.
    pub fn beating(place: &Place, address: &str, port: u16) -> Result<Self> {
        let mut process = place.spawn(&name("beat", address, port), &["python3", "-u", "-c", HELD, "dial", address, &port.to_string(), "1", "beat"])?;
        process.wait_for_log("alive", DEADLINE)?;
        Ok(Self(process))
    }

    /// How often an answer has come so far.
    pub fn beats(&self) -> usize {
        self.0.log().lines().filter(|l| *l == "alive").count()
    }

    pub fn ends(&self) -> Vec<End> {
        let log = self.0.log();
        let end = |line: &str| {
            let mut words = line.strip_prefix("end ")?.split(' ');
            Some(End { errno: words.next()?.parse().ok()?, at_ns: words.next()?.parse().ok()? })
        };
        log.lines().filter_map(end).collect()
    }

    pub fn wait_for_ends(&self, count: usize, within: Duration) -> Result<Vec<End>> {
        Ok(eventually(within, &format!("{count} connections ended"), || {
            let ends = self.ends();
            if ends.len() >= count { Ok(ends) } else { bail!("{} have: {}", ends.len(), self.0.log_tail(10)) }
        })?)
    }

    pub fn log(&self) -> String {
        self.0.log()
    }
}

/// Each program has a log of its own.
fn name(what: &str, address: &str, port: u16) -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("held-{what}-{}-{port}-{}", address.replace(':', "_"), STARTED.fetch_add(1, Ordering::Relaxed))
}
