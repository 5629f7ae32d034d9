//! The three loads, as plain blocking clients and servers: what they cost must not hide what is measured.
//!
//! One server port a load. Every loop is bounded by a duration; nothing here knows of a mesh.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::limits::{BULK_BLOCK_BYTES, IO_TIMEOUT, SAMPLES_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// One direction, as fast as it goes; the server counts and answers with what it got.
    Bulk,
    /// One byte there, one byte back, on kept connections.
    Ping,
    /// connect, one byte there, one byte back, close, the server first: a client that closes first keeps its port in TIME_WAIT, and after the
    /// first fourteen thousand the search for a free one is all that is measured.
    Connect,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub bytes: u64,
    pub operations: u64,
    pub errors: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Outcome {
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    pub fn gbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.seconds
    }
}

/// Serves `load` until the process ends: one thread a connection.
pub fn serve(load: Load, listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        thread::spawn(move || match load {
            Load::Bulk => sink(stream),
            Load::Ping => echo(stream, u64::MAX),
            Load::Connect => echo(stream, 1),
        });
    }
}

/// Drives `load` over `connections` for `duration` after all of them stand.
pub fn drive(load: Load, to: SocketAddr, connections: usize, duration: Duration) -> io::Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let first: Vec<Option<TcpStream>> =
        (0..connections).map(|_| if load == Load::Connect { Ok(None) } else { dial(to).map(Some) }).collect::<io::Result<_>>()?;
    let started = Instant::now();
    let workers: Vec<_> = first
        .into_iter()
        .map(|stream| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || match (load, stream) {
                (Load::Bulk, Some(s)) => bulk(s, &stop),
                (_, Some(s)) => ping(s, &stop),
                (_, None) => reconnect(to, &stop),
            })
        })
        .collect();
    thread::sleep(duration);
    stop.store(true, Ordering::Relaxed);
    let mut samples = Vec::new();
    let mut sum = Outcome::default();
    for w in workers {
        let worker = w.join().map_err(|_| io::Error::other("a load thread panicked"))?;
        sum.bytes += worker.bytes;
        sum.operations += worker.operations;
        sum.errors += worker.errors;
        samples.extend(worker.samples);
    }
    sum.seconds = started.elapsed().as_secs_f64();
    samples.sort_unstable();
    sum.p50_us = percentile_us(&samples, 50);
    sum.p99_us = percentile_us(&samples, 99);
    Ok(sum)
}

#[derive(Default)]
struct Worker {
    bytes: u64,
    operations: u64,
    errors: u64,
    samples: Vec<Duration>,
}

impl Worker {
    fn took(&mut self, since: Instant) {
        self.operations += 1;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(since.elapsed());
        }
    }
}

fn bulk(mut s: TcpStream, stop: &AtomicBool) -> Worker {
    let block = vec![0x5a_u8; BULK_BLOCK_BYTES];
    let mut w = Worker::default();
    while !stop.load(Ordering::Relaxed) {
        if s.write_all(&block).is_err() {
            w.errors += 1;
            break;
        }
        w.operations += 1;
    }
    // What counts is what arrived: the server answers with it once it has seen the end.
    let mut got = [0; 8];
    match s.shutdown(Shutdown::Write).and_then(|()| s.read_exact(&mut got)) {
        Ok(()) => w.bytes = u64::from_be_bytes(got),
        Err(_) => w.errors += 1,
    }
    w
}

fn ping(mut s: TcpStream, stop: &AtomicBool) -> Worker {
    let mut w = Worker::default();
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        if exchange(&mut s).is_err() {
            w.errors += 1;
            break;
        }
        w.took(since);
    }
    w
}

fn reconnect(to: SocketAddr, stop: &AtomicBool) -> Worker {
    let mut w = Worker::default();
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        match dial(to).and_then(|mut s| exchange(&mut s).and_then(|()| end(&mut s))) {
            Ok(()) => w.took(since),
            Err(_) => w.errors += 1,
        }
    }
    w
}

fn exchange(s: &mut TcpStream) -> io::Result<()> {
    let mut byte = [1];
    s.write_all(&byte)?;
    s.read_exact(&mut byte)
}

/// The other side's FIN.
fn end(s: &mut TcpStream) -> io::Result<()> {
    if s.read(&mut [0])? == 0 { Ok(()) } else { Err(io::Error::other("a byte behind the answer")) }
}

fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let s = TcpStream::connect_timeout(&to, IO_TIMEOUT)?;
    s.set_nodelay(true)?;
    s.set_read_timeout(Some(IO_TIMEOUT))?;
    // The host may default to bbr, which halves throughput on veth: every side says cubic. Absent is no error.
    let _ = socket2::SockRef::from(&s).set_tcp_congestion(b"cubic");
    Ok(s)
}

fn sink(mut s: TcpStream) {
    let mut block = vec![0; BULK_BLOCK_BYTES];
    let mut total: u64 = 0;
    while let Ok(n) = s.read(&mut block) {
        if n == 0 {
            let _ = s.write_all(&total.to_be_bytes());
            return;
        }
        total += n as u64;
    }
}

fn echo(mut s: TcpStream, answers: u64) {
    let _ = s.set_nodelay(true);
    let mut byte = [0; 64];
    for _ in 0..answers {
        match s.read(&mut byte) {
            Ok(n) if n > 0 && s.write_all(&byte[..n]).is_ok() => {}
            _ => return,
        }
    }
}

fn percentile_us(sorted: &[Duration], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(0.0, |d| d.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_counts_what_it_did() {
        for load in [Load::Bulk, Load::Ping, Load::Connect] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let to = listener.local_addr().unwrap();
            thread::spawn(move || serve(load, &listener));
            let o = drive(load, to, 2, Duration::from_millis(50)).unwrap();
            assert_eq!(o.errors, 0, "{load:?}");
            assert!(o.operations > 0 && (load != Load::Bulk || o.bytes > 0), "{load:?}: {o:?}");
        }
    }

    #[test]
    fn percentiles_of_nothing_and_of_a_hundred() {
        let samples: Vec<_> = (1..=100).map(Duration::from_micros).collect();
        assert_eq!(percentile_us(&[], 99), 0.0);
        assert_eq!(percentile_us(&samples, 50), 51.0);
        assert_eq!(percentile_us(&samples, 99), 100.0);
    }
}
