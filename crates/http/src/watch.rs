//! The client's side of a connection, watched: framing on the way in, stalls on the way out, and what the driver needs to know of both.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use crate::{
    framing::{Flaw, Framing},
    refusal::Refusal,
};

/// What is known of one connection while hyper owns its socket. Times are milliseconds since its start, plus one; zero is "not now".
#[derive(Debug)]
pub(crate) struct Pulse {
    start: Instant,
    /// Request number and reason of the first flaw, if there is one.
    flaw: AtomicU64,
    head_since: AtomicU64,
    stalled_since: AtomicU64,
    idle_since: AtomicU64,
    active: AtomicUsize,
    /// Requests taken back, less those that ended.
    resets: AtomicUsize,
    /// The bytes are no longer HTTP.
    opaque: AtomicBool,
    /// Something happened that the driver should look at before its timer says so.
    pub(crate) news: Notify,
}

impl Pulse {
    pub(crate) fn new() -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        Arc::new(Self {
            start: Instant::now(),
            flaw: zero(),
            head_since: zero(),
            stalled_since: zero(),
            idle_since: AtomicU64::new(1),
            active: AtomicUsize::new(0),
            resets: AtomicUsize::new(0),
            opaque: AtomicBool::new(false),
            news: Notify::new(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn instant(&self, at: &AtomicU64) -> Option<Instant> {
        match at.load(Ordering::Acquire) {
            0 => None,
            millis => Some(self.start + Duration::from_millis(millis - 1)),
        }
    }

    /// Since when a head is being read.
    pub(crate) fn head_since(&self) -> Option<Instant> {
        self.instant(&self.head_since)
    }

    /// Since when the client has taken nothing of what waits for it.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        self.instant(&self.stalled_since)
    }

    /// Since when no request is being served.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        if self.active.load(Ordering::Acquire) > 0 { None } else { self.instant(&self.idle_since) }
    }

    pub(crate) fn resets(&self) -> usize {
        self.resets.load(Ordering::Relaxed)
    }

    pub(crate) fn is_opaque(&self) -> bool {
        self.opaque.load(Ordering::Relaxed)
    }

    /// From now on the bytes are somebody else's protocol.
    pub(crate) fn set_opaque(&self) {
        self.opaque.store(true, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Release);
    }

    /// What is wrong with the request of this number, or with one before it.
    pub(crate) fn flaw(&self, request: u64) -> Option<Refusal> {
        let flaw = self.flaw.load(Ordering::Acquire);
        let reason = Refusal::ALL.get(usize::try_from(flaw & 0xff).ok()?.checked_sub(1)?)?;
        (flaw >> 8 <= request).then_some(*reason)
    }

    fn set_flaw(&self, flaw: Flaw) {
        let reason = Refusal::ALL.iter().position(|refusal| *refusal == flaw.refusal).unwrap_or_default() as u64 + 1;
        self.flaw.store(flaw.request << 8 | reason, Ordering::Release);
    }

    /// A request is being served until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Active {
        self.active.fetch_add(1, Ordering::AcqRel);
        Active { pulse: Arc::clone(self), answered: false }
    }
}

/// One request that is being served, response included.
#[derive(Debug)]
pub(crate) struct Active {
    pulse: Arc<Pulse>,
    answered: bool,
}

impl Active {
    /// An answer was made: if it is cut from now on, that costs no more than the client has paid for.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
        let _ = self.pulse.resets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |resets| resets.checked_sub(1));
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if !self.answered {
            self.pulse.resets.fetch_add(1, Ordering::Relaxed);
            self.pulse.news.notify_one();
        }
        if self.pulse.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.pulse.idle_since.store(self.pulse.now(), Ordering::Release);
        }
    }
}

/// A socket whose bytes are looked at on their way.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    io: T,
    pulse: Arc<Pulse>,
    /// Absent in HTTP/2, whose frames leave no doubt.
    framing: Option<Framing>,
}

impl<T> Watch<T> {
    pub(crate) fn new(io: T, pulse: Arc<Pulse>, framed: bool) -> Self {
        Self { io, pulse, framing: framed.then(Framing::default) }
    }

    fn look(&mut self, bytes: &[u8]) {
        let Some(framing) = &mut self.framing else { return };
        if self.pulse.is_opaque() {
            return;
        }
        if let Some(flaw) = framing.read(bytes) {
            self.pulse.set_flaw(flaw);
        }
        match (framing.is_in_head(), self.pulse.head_since.load(Ordering::Acquire)) {
            (true, 0) => {
                self.pulse.head_since.store(self.pulse.now(), Ordering::Release);
                self.pulse.news.notify_one();
            }
            (false, since) if since > 0 => self.pulse.head_since.store(0, Ordering::Release),
            _ => {}
        }
    }

    /// Notes whether the client takes what is written.
    fn wrote<R>(&self, result: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match (result.is_pending(), self.pulse.stalled_since.load(Ordering::Acquire)) {
            (true, 0) => {
                self.pulse.stalled_since.store(self.pulse.now(), Ordering::Release);
                self.pulse.news.notify_one();
            }
            (false, since) if since > 0 => self.pulse.stalled_since.store(0, Ordering::Release),
            _ => {}
        }
        result
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watch<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.look(bytes);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watch<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.wrote(result)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
