//! The access log: lines of JSON for a file or standard output, written by a thread of their own. A full disk or a closed pipe stops no request.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
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
    /// The file may be another one by now.
    Reopen,
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

impl AccessLog {
    /// Opens the file, to be appended to, and starts its thread. `None`: standard output.
    pub fn open(file: Option<&Path>, lost: Counter) -> io::Result<Self> {
        let mut writer = Writer { out: open(file)?, file: file.map(Path::to_owned), lost: lost.clone() };
        let (entries, mut taken) = mpsc::channel(limits::LOG_QUEUED_MAX);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            let mut batch = Vec::new();
            loop {
                let count = taken.blocking_recv_many(&mut batch, limits::LOG_LINES_PER_WRITE);
                if count == 0 {
                    return;
                }
                writer.take(&mut batch);
                // Whoever waits for each line by itself is woken by each, which costs the request more than the line does.
                if count < limits::LOG_LINES_PER_WRITE {
                    thread::sleep(limits::LOG_PAUSE);
                }
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

    /// Opens the file anew, for whoever has moved the former one away.
    pub fn reopen(&self) {
        // At the bound it comes with the next call.
        let _ = self.entries.try_send(Entry::Reopen);
    }

    /// Returns when every line so far is written, or lost.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.entries.send(Entry::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

struct Writer {
    out: Box<dyn Write + Send>,
    file: Option<PathBuf>,
    lost: Counter,
}

impl Writer {
    fn take(&mut self, batch: &mut Vec<Entry>) {
        let (mut text, mut lines) = (String::new(), 0);
        for entry in batch.drain(..) {
            match entry {
                Entry::Line(line) => {
                    text.push_str(&line);
                    lines += 1;
                    continue;
                }
                Entry::Reopen => {
                    self.write(&mut text, &mut lines);
                    match open(self.file.as_deref()) {
                        Ok(out) => self.out = out,
                        Err(error) => tracing::error!(%error, "the access log cannot be opened anew; the former file stays"),
                    }
                }
                Entry::Flush(done) => {
                    self.write(&mut text, &mut lines);
                    // Nobody waits any more, then.
                    let _ = done.send(());
                }
            }
        }
        self.write(&mut text, &mut lines);
    }

    fn write(&mut self, text: &mut String, lines: &mut u64) {
        if self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).is_err() {
            self.lost.inc_by(*lines);
        }
        text.clear();
        *lines = 0;
    }
}

fn open(file: Option<&Path>) -> io::Result<Box<dyn Write + Send>> {
    Ok(match file {
        Some(file) => Box::new(OpenOptions::new().create(true).append(true).open(file)?),
        None => Box::new(io::stdout()),
    })
}
