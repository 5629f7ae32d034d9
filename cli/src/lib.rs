//! `weft`, what a person types: reads the command line, asks agents and the IAM bridge, shows the answer.
//!
//! `args` is what was typed, `client` fetches, `view` holds the records, `output` turns them into text, `command` has one module for each
//! command. It decides nothing by itself: verdicts come from `weft-policy`, the same function that agents use.

pub mod args;
pub mod cgroup;
pub mod client;
pub mod command;
pub mod config;
pub mod enter;
pub mod explain;
pub mod health;
pub mod limits;
pub mod output;
pub mod password;
pub mod reorder;
pub mod source;
pub mod suggest;
pub mod view;

use std::{
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Result;

use crate::{args::Global, config::Config, enter::Plan, output::Output, view::Stamp};

/// How a command ended well. Errors are 2, in `main`.
#[derive(Debug)]
pub enum Outcome {
    /// 0: ok, allow.
    Ok,
    /// 1: deny, findings.
    Findings,
    /// Of a program that ran as our child.
    Code(u8),
    /// The process is to become this program, after everything of ours is gone.
    Become(Box<Plan>),
}

impl Outcome {
    pub fn findings_if(found: bool) -> Self {
        if found { Self::Findings } else { Self::Ok }
    }
}

/// What every command gets.
pub struct Context {
    pub global: Global,
    pub output: Output,
    pub now: Stamp,
    home: Option<PathBuf>,
}

impl Context {
    /// The only place that reads environment and clock.
    pub fn new(global: Global) -> Self {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        let style = output::Style { wide: global.output == output::Format::Wide, ..output::Style::of_stdout() };
        let output = Output { format: global.output, style };
        Self { global, output, now: Stamp::millis(ms.max(1)).expect("not zero"), home: std::env::var_os("HOME").map(PathBuf::from) }
    }

    pub fn config(&self) -> Result<Config> {
        Ok(Config::resolve(&self.global, self.home.as_deref())?)
    }
}

/// A word to the person that is no part of the output.
pub(crate) fn remark(text: &str) {
    eprintln!("weft: {text}");
}
