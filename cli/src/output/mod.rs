//! From records to text: tables for people, JSON for programs. Nothing here fetches anything or knows the time.

mod answer;
mod flow;
mod lint;
mod node;
mod policy;
mod request;
mod route;
mod status;
mod table;
mod user;
mod why;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

pub use answer::answers;
pub use flow::{flow_line, flows};
pub use lint::lint;
pub use node::{certs, nodes, workloads};
pub use policy::{policies, services};
pub use request::request;
pub use route::routes;
pub use status::status;
pub use table::{Grid, Tone};
pub use user::users;
pub use why::why;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    /// A table with more columns, where a command has them.
    Wide,
    Json,
}

/// How text for people may look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
    /// Columns of the terminal; `None`: as wide as it gets.
    pub width: Option<u16>,
    /// Columns that most people can do without.
    pub wide: bool,
}

impl Style {
    /// Colours only on a terminal, and never with NO_COLOR (no-color.org: set and not empty).
    pub fn of_stdout() -> Self {
        let tty = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        let width = comfy_table::Table::new().width().filter(|w| tty && *w >= 40);
        Self { colour: tty && !plain, width, wide: false }
    }

    pub fn paint(self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.colour) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// Where output goes. A reader that has seen enough (`| head`) is no error of ours, see `main`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output {
    pub format: Format,
    pub style: Style,
}

impl Output {
    /// One document: `table` when people read.
    pub fn show<T: Serialize>(&self, value: &T, table: impl FnOnce(Style) -> String) -> io::Result<()> {
        match self.format {
            Format::Table | Format::Wide => print(&table(self.style)),
            Format::Json => print(&json(value)),
        }
    }

    /// One line of an open-ended list.
    pub fn line<T: Serialize>(&self, value: &T, line: impl FnOnce(Style) -> String) -> String {
        match self.format {
            Format::Table | Format::Wide => line(self.style),
            Format::Json => json_line(value),
        }
    }
}

/// Writes `text` and, when it lacks one, a final newline; nothing for nothing.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("records have string keys and no fallible parts")
}

pub fn json_line<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("records have string keys and no fallible parts")
}

/// A dash where there is nothing to say.
fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn or_dash(text: Option<&str>) -> &str {
    dash(text.unwrap_or(""))
}

fn indent(text: &str, by: usize) -> String {
    text.lines().map(|l| if l.is_empty() { "\n".to_owned() } else { format!("{:by$}{l}\n", "") }).collect()
}

#[cfg(test)]
mod tests;
