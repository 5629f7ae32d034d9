//! Datagrams as programs send them, and what they and the servers saw.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use weft_lab::{Place, Proc};

const UDP: &str = include_str!("udp.py");
const DEADLINE: Duration = Duration::from_secs(60);

/// What one asking program saw.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    pub ok: bool,
    /// Of the call that failed; ETIMEDOUT: no answer came.
    pub errno: i32,
    /// Whether `connect()` succeeded, where there was one.
    #[serde(default)]
    pub connected: bool,
    /// The last answer.
    pub data: String,
    /// Whence it came, as `recvfrom()` says.
    #[serde(default)]
    pub from: String,
    #[serde(default)]
    pub from_port: u16,
    /// `getpeername()`, address and port.
    pub peer: String,
    pub own: String,
}

/// How a program sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    SendTo,
    Connect,
    /// On a connected socket with a control message, which takes another way through the kernel.
    ControlMessage,
}

impl How {
    pub const ALL: [Self; 3] = [Self::SendTo, Self::Connect, Self::ControlMessage];

    fn word(self) -> &'static str {
        match self {
            Self::SendTo => "sendto",
            Self::Connect => "connect",
            Self::ControlMessage => "cmsg",
        }
    }
}

/// One socket, one question after the other.
pub fn ask(from: &Place, how: How, address: &str, port: u16, marks: &[&str]) -> Result<Asked> {
    let port = port.to_string();
    let said = udp(from, &[&["ask", how.word(), address, &port], marks].concat())?;
    serde_json::from_str(&said).with_context(|| format!("udp.py said {said:?}"))
}

/// Runs `udp.py` to its end.
pub fn udp(from: &Place, args: &[&str]) -> Result<String> {
    let said = from.check(&[&["python3", "-c", UDP], args].concat(), DEADLINE)?;
    Ok(said.trim().to_owned())
}

/// Starts `udp.py`, whose log is what it prints.
pub fn start(place: &Place, args: &[&str], ready: &str) -> Result<Proc> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let name = format!("udp-{}-{}", args[0], STARTED.fetch_add(1, Ordering::Relaxed));
    let mut process = place.spawn(&name, &[&["python3", "-u", "-c", UDP], args].concat())?;
    process.wait_for_log(ready, DEADLINE)?;
    Ok(process)
}

/// A server on a port of both families.
pub fn serve(place: &Place, name: &str, port: u16, how: &str) -> Result<Proc> {
    start(place, &["serve", name, &port.to_string(), how], "ready")
}
