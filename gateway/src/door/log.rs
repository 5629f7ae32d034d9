//! The access log: lines of JSON for a file or standard output, written by a thread of their own. A full disk or a closed pipe stops no request.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    thread,
};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::limits;

#[derive(Clone, Debug)]
pub struct AccessLog {
    entries: mpsc::Sender<Entry>,
    lost: Counter,
}

#[derive(Debug)]
enum Entry {
    Line(String),
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

impl AccessLog {
    /// Opens the file, to be appended to, and starts its thread. `None`: standard output.
    pub fn open(file: Option<&Path>, lost: Counter) -> io::Result<Self> {
        let mut out: Box<dyn Write + Send> = match file {
            Some(file) => Box::new(OpenOptions::new().create(true).append(true).open(file)?),
            None => Box::new(io::stdout()),
        };
        let (entries, mut taken) = mpsc::channel(limits::LOG_QUEUED_MAX);
        let unwritten = lost.clone();
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let mut batch = Vec::new();
            while taken.blocking_recv_many(&mut batch, limits::LOG_LINES_PER_WRITE) > 0 {
                write(&mut out, &mut batch, &unwritten);
            }
        })?;
        Ok(Self { entries, lost })
    }

    pub(super) fn line(&self, line: &impl Serialize) {
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        if self.entries.try_send(Entry::Line(text)).is_err() {
            self.lost.inc();
        }
    }

    /// Returns when every line so far is written, or lost.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.entries.send(Entry::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

fn write(out: &mut impl Write, batch: &mut Vec<Entry>, lost: &Counter) {
    let (mut text, mut lines, mut flushes) = (String::new(), 0, Vec::new());
    for entry in batch.drain(..) {
        match entry {
            Entry::Line(line) => {
                text.push_str(&line);
                lines += 1;
            }
            Entry::Flush(done) => flushes.push(done),
        }
    }
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        lost.inc_by(lines);
    }
    for done in flushes {
        // Nobody waits any more, then.
        let _ = done.send(());
    }
}
