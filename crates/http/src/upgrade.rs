//! Connections that have become WebSockets: bytes both ways until either side, a drain or a revocation ends them.
//!
//! Each direction ends for itself, so half-close stays half-close. Where we end one, the client is told why with a close frame (RFC 6455
//! section 7.4.1) if no other frame is in the middle of its way. Deliberately absent: reading what is said; only the borders of frames are followed.

use std::{any::Any, fmt, io, sync::Arc};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};

use crate::{
    drain::Drain,
    error::{Error, Fault},
    limits::{FAREWELL_WAIT, HALF_CLOSED_WAIT, RELAY_BUFFER_BYTES},
    watch::Pulse,
};

/// A client's connection that is about to become a WebSocket.
pub struct Upgrade {
    client: OnUpgrade,
    pulse: Arc<Pulse>,
    drain: Drain,
    /// Ends the WebSocket with 1008 (policy violation) when it is cancelled.
    pub revoked: CancellationToken,
    held: Vec<Box<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("revoked", &self.revoked.is_cancelled()).finish_non_exhaustive()
    }
}

impl Upgrade {
    pub(crate) fn new(client: OnUpgrade, pulse: Arc<Pulse>, drain: Drain) -> Self {
        Self { client, pulse, drain, revoked: CancellationToken::new(), held: Vec::new() }
    }

    /// Keeps something until the WebSocket has ended, or there is none after all.
    pub fn hold(&mut self, thing: impl Any + Send + Sync) {
        self.held.push(Box::new(thing));
    }

    /// Relays to the upstream once both sides have switched. Returns at once; a drain waits for the relay.
    pub(crate) fn relay_to(self, upstream: OnUpgrade) {
        self.pulse.set_opaque();
        let place = self.drain.place();
        // Over HTTP/2 the connection goes on below the stream, and is not idle.
        let mut active = self.pulse.begin();
        active.answered();
        tokio::spawn(async move {
            let _active = active;
            if let Err(error) = self.run(upstream, place).await {
                tracing::debug!(%error, "a websocket did not end in order");
            }
        });
    }

    async fn run(self, upstream: OnUpgrade, _place: TaskTrackerToken) -> Result<(), Error> {
        let both = async { tokio::try_join!(self.client, upstream) };
        let (client, upstream) = tokio::select! {
            both = both => both.map_err(|error| Error::downstream(Fault::Closed).because(error))?,
            () = self.drain.ended() => return Err(Error::downstream(Fault::Ended)),
            () = self.revoked.cancelled() => return Err(Error::downstream(Fault::Ended)),
        };
        let end = async {
            tokio::select! {
                () = self.drain.ended() => CLOSE_GOING_AWAY,
                () = self.revoked.cancelled() => CLOSE_POLICY,
            }
        };
        relay(TokioIo::new(client), TokioIo::new(upstream), end).await
    }
}

/// RFC 6455 section 7.4.1.
const CLOSE_GOING_AWAY: u16 = 1001;
const CLOSE_POLICY: u16 = 1008;

/// Both directions until both have ended, or until `end` says with which code to stop.
async fn relay<C, U>(client: C, upstream: U, end: impl Future<Output = u16>) -> Result<(), Error>
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let mut frames = Frames::default();
    let code = {
        let up = async { copy(&mut from_client, &mut to_upstream, |_| {}).await };
        let down = async { copy(&mut from_upstream, &mut to_client, |bytes| frames.pass(bytes)).await };
        tokio::select! {
            ended = both(up, down) => return ended.map_err(|error| Error::downstream(Fault::Closed).because(error)),
            code = end => code,
        }
    };
    let farewell = async {
        if frames.is_between() {
            let [high, low] = code.to_be_bytes();
            to_client.write_all(&[0x88, 2, high, low]).await?;
        }
        to_client.shutdown().await?;
        to_upstream.shutdown().await
    };
    // A client that does not take it is not waited for.
    let _ = timeout(FAREWELL_WAIT, farewell).await;
    Err(Error::downstream(Fault::Ended))
}

/// Two directions to their ends. One may outlive the other, but not for ever: nobody is left to say that it has ended.
async fn both(up: impl Future<Output = io::Result<()>>, down: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => {
            ended?;
            timeout(HALF_CLOSED_WAIT, down).await.unwrap_or(Ok(()))
        }
        ended = &mut down => {
            ended?;
            timeout(HALF_CLOSED_WAIT, up).await.unwrap_or(Ok(()))
        }
    }
}

/// One direction to its end, which is passed on. `seen` is told of bytes before they are written.
async fn copy<R, W>(from: &mut R, to: &mut W, mut seen: impl FnMut(&[u8])) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; RELAY_BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        seen(&buffer[..read]);
        to.write_all(&buffer[..read]).await?;
        to.flush().await?;
    }
}

/// Where one direction of a WebSocket is (RFC 6455 section 5.2). Pure.
#[derive(Clone, Copy, Debug, Default)]
struct Frames {
    header: [u8; 14],
    filled: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: u64,
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.payload > 0 {
                let taken = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.header[self.filled] = *first;
            self.filled += 1;
            bytes = rest;
            if self.filled == self.header_len() {
                self.payload = self.payload_len();
                self.filled = 0;
            }
        }
    }

    /// Nothing is half said.
    fn is_between(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }

    fn header_len(&self) -> usize {
        if self.filled < 2 {
            return 2;
        }
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + extended + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_len(&self) -> u64 {
        let extended = |bytes: usize| self.header[2..2 + bytes].iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        match self.header[1] & 0x7f {
            126 => extended(2),
            127 => extended(8),
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_followed_however_they_are_cut() {
        let mut bytes = vec![0x81, 3, b'a', b'b', b'c', 0x89, 0];
        bytes.extend([0x82, 126, 1, 0]);
        bytes.extend([7; 256]);
        bytes.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1]);
        bytes.extend([7; 65537]);
        bytes.extend([0x81, 0x82, 1, 2, 3, 4, b'x', b'y']);
        for size in [1, 2, 5, 1000, bytes.len()] {
            let mut frames = Frames::default();
            bytes.chunks(size).for_each(|part| frames.pass(part));
            assert!(frames.is_between(), "in parts of {size}");
        }
        for cut in [1, 3, 4, 8, 9, 300] {
            let mut frames = Frames::default();
            frames.pass(&bytes[..cut]);
            assert!(!frames.is_between(), "cut after {cut}");
        }
    }

    async fn say(end: impl Future<Output = u16> + Send + 'static, from_upstream: &[u8]) -> Vec<u8> {
        let (mut client, inner) = tokio::io::duplex(1024);
        let (mut upstream, other) = tokio::io::duplex(1024);
        let relayed = tokio::spawn(relay(inner, other, end));
        upstream.write_all(from_upstream).await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(relayed.await.unwrap().map_err(|error| error.fault()), Err(Fault::Ended));
        heard
    }

    #[tokio::test]
    async fn who_is_sent_away_is_told_why_unless_a_frame_is_half_said() {
        let soon = || async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            CLOSE_POLICY
        };
        assert_eq!(say(soon(), &[0x81, 1, b'a']).await, [0x81, 1, b'a', 0x88, 2, 3, 0xf0]);
        assert_eq!(say(soon(), &[0x81, 2, b'a']).await, [0x81, 2, b'a']);
    }

    #[tokio::test]
    async fn one_direction_may_end_before_the_other() {
        let (mut client, inner) = tokio::io::duplex(1024);
        let (mut upstream, other) = tokio::io::duplex(1024);
        let relayed = tokio::spawn(relay(inner, other, std::future::pending()));
        client.write_all(b"last words").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        upstream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        upstream.write_all(b"an answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        heard.clear();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"an answer");
        relayed.await.unwrap().unwrap();
    }
}
