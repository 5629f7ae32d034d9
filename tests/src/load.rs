//! Load that checks every answer, for tests that do something to the mesh meanwhile.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use weft_lab::{Place, Proc};

const LOAD: &str = include_str!("load.py");
const END_DEADLINE: Duration = Duration::from_secs(60);

/// What one load saw.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Seen {
    /// Answers as they should be.
    pub ok: u32,
    /// Answers with other bytes, or with another peer.
    pub wrong: u32,
    /// Connections that ended by themselves, or did not come about.
    pub ended: u32,
    /// Connections whose last question was never answered.
    pub silent: u32,
    /// The longest wait for an answer.
    pub waited_ms: u32,
    /// The first error.
    pub error: String,
}

impl Seen {
    pub fn is_whole(&self) -> bool {
        self.ok > 0 && (self.wrong, self.ended, self.silent) == (0, 0, 0)
    }
}

/// Loads that run until [`Loads::end`].
#[derive(Debug)]
pub struct Loads {
    stop: PathBuf,
    running: Vec<(String, Proc)>,
}

impl Loads {
    /// `dir`: for the file that ends them.
    pub fn new(dir: &Path) -> Self {
        Self { stop: dir.join("stop-load"), running: Vec::new() }
    }

    /// Dials again and again.
    pub fn dial(&mut self, name: &str, from: &Place, host: &str, port: u16) -> Result<()> {
        self.start(name, from, &["dial", host, &port.to_string()], None).map(drop)
    }

    /// Keeps so many connections; returns when all stand.
    pub fn keep(&mut self, name: &str, from: &Place, host: &str, port: u16, count: usize) -> Result<()> {
        self.start(name, from, &["keep", host, &port.to_string()], Some(count))?.wait_for_log("kept", END_DEADLINE)?;
        Ok(())
    }

    fn start(&mut self, name: &str, from: &Place, words: &[&str], count: Option<usize>) -> Result<&mut Proc> {
        let (stop, count) = (self.stop.display().to_string(), count.map(|c| c.to_string()));
        let argv: Vec<&str> = ["python3", "-u", "-c", LOAD].into_iter().chain(words.iter().copied()).chain([stop.as_str()]).chain(count.as_deref()).collect();
        self.running.push((name.to_owned(), from.spawn(name, &argv)?));
        Ok(&mut self.running.last_mut().context("just pushed")?.1)
    }

    /// Ends all, and says what each saw, in the order in which they were started.
    pub fn end(self) -> Result<Vec<(String, Seen)>> {
        std::fs::write(&self.stop, "")?;
        let mut seen = Vec::new();
        for (name, mut load) in self.running {
            load.wait(END_DEADLINE)?;
            let log = load.log();
            let line = log.lines().find(|l| l.starts_with('{')).with_context(|| format!("{name} said {log:?}"))?;
            seen.push((name, serde_json::from_str(line)?));
        }
        std::fs::remove_file(&self.stop)?;
        Ok(seen)
    }
}
