//! One application connection in one tunnel: bytes to frames and back, each direction by itself, until both have ended or one breaks.
//!
//! Each direction holds one buffer, and only while its bytes are on their way; it reads no further before they are taken. That is
//! all the flow control there is: TCP's own, on both sides.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use weft_tunnel::{Event, FRAME_HEADER_BYTES, FrameDecoder, FrameError, ResetReason, data_header, fin};

use super::{
    host::Host,
    keepalive::mirror,
    limits::FAREWELL,
    live::Lease,
    sockets,
    tunnel::{Stream, Tunnel, read, read_behind},
    turns::Turns,
    watched::Watched,
};

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// FIN both ways: the tunnel may carry the next connection.
    Finished,
    /// The application reset, or its socket failed.
    Application(io::Error),
    /// The other side said RESET.
    Peer(ResetReason),
    /// Somebody on this node ended it.
    Stopped(ResetReason),
    /// The tunnel failed.
    Broken(io::Error),
    /// The other side broke the protocol.
    Frames(FrameError),
}

/// Bytes carried, readable while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    pub(crate) from_application: AtomicU64,
    pub(crate) to_application: AtomicU64,
}

impl Carried {
    pub(crate) fn total(&self) -> u64 {
        self.from_application.load(Ordering::Relaxed).wrapping_add(self.to_application.load(Ordering::Relaxed))
    }
}

/// What a connection is carried with.
pub(crate) struct Around<'a> {
    pub(crate) host: &'a Arc<dyn Host>,
    pub(crate) lease: &'a Lease,
    pub(crate) carried: &'a Carried,
}

/// How far the way out of the application has come.
#[derive(Default)]
struct Outward {
    /// Inside a frame a RESET would be taken for data; there the end of the connection has to say it.
    in_frame: AtomicBool,
    /// FIN has been sent.
    ended: AtomicBool,
    ending: Notify,
}

/// Carries until the end, then tells both sides of it: the application by FIN or RST, the tunnel by FIN or RESET.
pub(crate) async fn relay(application: TcpStream, tunnel: &mut Tunnel, around: &Around<'_>) -> Outcome {
    let application = Watched::new(application);
    let outward = Outward::default();
    let Err(outcome) = carry(&application, tunnel, around, &outward).await else { return Outcome::Finished };
    sockets::reset_on_close(application.socket());
    drop(application);
    let farewell = match &outcome {
        Outcome::Application(_) => Some(ResetReason::Aborted),
        Outcome::Stopped(reason) => Some(*reason),
        Outcome::Frames(_) => Some(ResetReason::Protocol),
        _ => None,
    };
    if let Some(reason) = farewell
        && !outward.in_frame.load(Ordering::Relaxed)
        && timeout(FAREWELL, say_reset(tunnel, reason)).await.is_ok()
    {
        return outcome;
    }
    // A FIN would wait behind all that the other side does not take.
    sockets::reset_on_close(tunnel.socket().socket());
    outcome
}

/// Ends when the other side has heard it.
async fn say_reset(tunnel: &mut Tunnel, reason: ResetReason) {
    if tunnel.send_reset(reason).await.is_ok() {
        tunnel.ended().await;
    }
}

async fn carry(application: &Watched, tunnel: &mut Tunnel, around: &Around<'_>, outward: &Outward) -> Result<(), Outcome> {
    let wire = tunnel.socket().clone();
    let Tunnel { stream, unread, .. } = tunnel;
    let (mut from_tunnel, mut to_tunnel) = tokio::io::split(&mut **stream);
    let mut decoder = FrameDecoder::default();

    let mut out = pin!(send_all(application.clone(), &mut to_tunnel, around.carried, outward));
    let mut ended = pin!(ended(application, &wire, around, outward));
    let first = {
        let mut back = pin!(backward(&mut from_tunnel, application.clone(), &mut decoder, unread, &around.carried.to_application));
        tokio::select! {
            biased;
            outcome = &mut ended => return Err(outcome),
            done = &mut back => { done?; First::Back }
            done = &mut out => match done {
                Ok(()) => First::Out(tokio::select! {
                    biased;
                    outcome = &mut ended => return Err(outcome),
                    done = &mut back => done,
                }),
                Err(failed) => return Err(last_words(failed, async { back.await.err() }).await),
            }
        }
    };
    if let First::Out(done) = first {
        return done;
    }
    // The other side has said FIN, but may still say RESET. Outward comes first: once it has sent its FIN, what arrives is not ours.
    let mut rest = pin!(after_fin(&mut from_tunnel, &mut decoder, unread));
    tokio::select! {
        biased;
        done = &mut out => match done {
            Ok(()) => Ok(()),
            Err(failed) => Err(last_words(failed, async { Some(rest.await) }).await),
        },
        outcome = &mut ended => Err(outcome),
        outcome = &mut rest => Err(outcome),
    }
}

enum First {
    Out(Result<(), Outcome>),
    Back,
}

/// What ends a connection whatever its two directions are at.
async fn ended(application: &Watched, wire: &Watched, around: &Around<'_>, outward: &Outward) -> Outcome {
    let application_reset = async {
        sockets::gone(application.socket()).await;
        // As long as it is read from, the reader comes to the reset behind what had been sent before.
        if !outward.ended.load(Ordering::Relaxed) {
            let _ = timeout(FAREWELL, outward.ending.notified()).await;
        }
    };
    let tunnel_reset = async {
        sockets::gone(wire.socket()).await;
        sleep(FAREWELL).await;
    };
    tokio::select! {
        biased;
        reason = around.lease.ended() => Outcome::Stopped(reason),
        () = application_reset => Outcome::Application(io::ErrorKind::ConnectionReset.into()),
        () = tunnel_reset => Outcome::Broken(io::ErrorKind::ConnectionReset.into()),
        () = mirror(around.host, application, wire, around.carried) => unreachable!("it looks for ever"),
    }
}

/// A write into a tunnel that the other side has reset fails before the reset is read; but it has arrived, and says more.
async fn last_words(failed: Outcome, reading: impl Future<Output = Option<Outcome>>) -> Outcome {
    if !matches!(failed, Outcome::Broken(_)) {
        return failed;
    }
    match timeout(FAREWELL, reading).await {
        Ok(Some(said @ Outcome::Peer(_))) => said,
        _ => failed,
    }
}

async fn send_all(mut application: Watched, tunnel: &mut WriteHalf<&mut Stream>, carried: &Carried, outward: &Outward) -> Result<(), Outcome> {
    let mut turns = Turns::default();
    loop {
        turns.next().await;
        let (mut buffer, n) = read_behind(&mut application, FRAME_HEADER_BYTES).await.map_err(Outcome::Application)?;
        outward.in_frame.store(true, Ordering::Relaxed);
        if n == 0 {
            send(tunnel, &fin()).await?;
        } else {
            buffer[..FRAME_HEADER_BYTES].copy_from_slice(&data_header(n));
            send(tunnel, &buffer[..FRAME_HEADER_BYTES + n]).await?;
            carried.from_application.fetch_add(n as u64, Ordering::Relaxed);
        }
        outward.in_frame.store(false, Ordering::Relaxed);
        if n == 0 {
            outward.ended.store(true, Ordering::Relaxed);
            outward.ending.notify_one();
            return Ok(());
        }
    }
}

async fn send(tunnel: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Outcome> {
    tunnel.write_all(bytes).await.map_err(Outcome::Broken)?;
    tunnel.flush().await.map_err(Outcome::Broken)
}

/// Ends with the other side's FIN; what came behind it stays in `unread`.
async fn backward(
    tunnel: &mut ReadHalf<&mut Stream>,
    mut application: Watched,
    decoder: &mut FrameDecoder,
    unread: &mut Vec<u8>,
    carried: &AtomicU64,
) -> Result<(), Outcome> {
    let first = std::mem::take(unread);
    if let Some(rest) = pass_on(&first, &mut application, decoder, carried).await? {
        *unread = rest;
        return Ok(());
    }
    let mut turns = Turns::default();
    loop {
        turns.next().await;
        let (buffer, n) = read(tunnel).await.map_err(Outcome::Broken)?;
        if n == 0 {
            return Err(Outcome::Broken(cut()));
        }
        if let Some(rest) = pass_on(&buffer[..n], &mut application, decoder, carried).await? {
            *unread = rest;
            return Ok(());
        }
    }
}

/// `Some`: FIN has been passed on, and this followed it.
async fn pass_on(mut input: &[u8], application: &mut Watched, decoder: &mut FrameDecoder, carried: &AtomicU64) -> Result<Option<Vec<u8>>, Outcome> {
    while let Some(event) = decoder.decode(&mut input).map_err(Outcome::Frames)? {
        match event {
            Event::Data(bytes) => {
                application.write_all(bytes).await.map_err(Outcome::Application)?;
                carried.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Event::Fin => {
                application.shutdown().await.map_err(Outcome::Application)?;
                return Ok(Some(input.to_vec()));
            }
            Event::Reset(reason) => return Err(Outcome::Peer(reason)),
        }
    }
    Ok(None)
}

/// After the other side's FIN only a RESET or the end may come, before this side has said its own.
async fn after_fin(tunnel: &mut ReadHalf<&mut Stream>, decoder: &mut FrameDecoder, unread: &mut Vec<u8>) -> Outcome {
    let mut pending = std::mem::take(unread);
    loop {
        match decoder.decode(&mut &pending[..]) {
            Ok(Some(Event::Reset(reason))) => return Outcome::Peer(reason),
            Ok(_) => {}
            Err(e) => return Outcome::Frames(e),
        }
        pending = match read(tunnel).await {
            Ok((_, 0)) => return Outcome::Broken(cut()),
            Ok((buffer, n)) => buffer[..n].to_vec(),
            Err(e) => return Outcome::Broken(e),
        };
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other side ended the tunnel in the middle of a connection")
}
