//! The content of a message: one type, for both directions, never gathered.
//!
//! A body of a peer is bounded in size and pace, its trailers are filtered, and its errors say whose they are. Deliberately absent: reading a body
//! into memory.

use std::{
    any::Any,
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    error::{Error, Fault, Side},
    fields,
    limits::Pace,
    pace::Pacer,
    pool::Line,
    streams,
    watch::Active,
};

type Stream = Pin<Box<dyn HttpBody<Data = Bytes, Error = Error> + Send + Sync>>;

/// A body of nothing, of bytes that are there, or of what comes.
pub struct Body {
    kind: Kind,
    held: Held,
}

/// Kept until the body has ended or is dropped.
#[derive(Default)]
struct Held {
    /// The request that this body answers.
    active: Option<Active>,
    /// The connection that it comes from.
    line: Option<Line>,
    others: Vec<Box<dyn Any + Send + Sync>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Stream),
}

impl Body {
    pub fn empty() -> Self {
        Self { kind: Kind::Empty, held: Held::default() }
    }

    /// What is there already.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let kind = if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) };
        Self { kind, held: Held::default() }
    }

    /// What comes from another body.
    pub fn stream(body: impl HttpBody<Data = Bytes, Error = Error> + Send + Sync + 'static) -> Self {
        if body.is_end_stream() { Self::empty() } else { Self { kind: Kind::Stream(Box::pin(body)), held: Held::default() } }
    }

    /// Keeps something until this body has ended; drops it at once if there is nothing to come.
    #[must_use]
    pub fn holding(mut self, thing: impl Any + Send + Sync) -> Self {
        if !self.is_end_stream() {
            self.held.others.push(Box::new(thing));
        }
        self
    }

    pub(crate) fn answering(mut self, active: Active) -> Self {
        if !self.is_end_stream() {
            self.held.active = Some(active);
        }
        self
    }

    pub(crate) fn coming_from(mut self, line: Line) -> Self {
        if !self.is_end_stream() {
            self.held.line = Some(line);
        }
        self
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("size", &self.size_hint()).finish()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        // Only the body of a response is asked by its stream.
        let answers = this.held.active.is_some();
        if answers {
            streams::asked();
        }
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Stream(stream) => ready!(stream.as_mut().poll_frame(cx)),
        };
        if answers && frame.is_some() {
            streams::gave();
        }
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) || this.is_end_stream() {
            // Trailers, an error or the end: nothing follows. What was held may be used by somebody else now.
            this.held = Held::default();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

/// What a peer sends, within bounds.
pub(crate) struct Bounded {
    incoming: Incoming,
    side: Side,
    /// Bytes that may still come.
    left: u64,
    pacer: Pacer,
    /// Once the flag is set this pace holds instead.
    later: Option<(Arc<AtomicBool>, Pace)>,
    timer: Option<Pin<Box<Sleep>>>,
    failed: bool,
}

impl Bounded {
    pub(crate) fn new(incoming: Incoming, side: Side, max_bytes: u64, pace: Pace) -> Self {
        Self { incoming, side, left: max_bytes, pacer: Pacer::new(pace), later: None, timer: None, failed: false }
    }

    /// Another pace from the moment the flag is set.
    pub(crate) fn then(mut self, flag: Arc<AtomicBool>, pace: Pace) -> Self {
        self.later = Some((flag, pace));
        self
    }

    fn fail(&mut self, fault: Fault) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.failed = true;
        Poll::Ready(Some(Err(Error::new(self.side, fault, crate::Retry::Never))))
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match frame.into_data() {
            Ok(data) => {
                let bytes = data.len() as u64;
                self.pacer.came(Instant::now(), bytes);
                match self.left.checked_sub(bytes) {
                    Some(left) => self.left = left,
                    None => return self.fail(Fault::TooLarge),
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Err(frame) => Poll::Ready(frame.into_trailers().ok().map(|mut trailers| {
                fields::clean_trailers(&mut trailers);
                Ok(Frame::trailers(trailers))
            })),
        }
    }

    /// Nothing is there: too slow, or not yet.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some((_, pace)) = self.later.take_if(|(flag, _)| flag.load(Ordering::Relaxed)) {
                self.pacer.change(pace);
            }
            let deadline = self.pacer.waits(Instant::now());
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            // The flag may have been set while nobody looked; then the deadline was the wrong one.
            let is_late = self.later.as_ref().is_none_or(|(flag, _)| !flag.load(Ordering::Relaxed));
            if is_late && self.pacer.is_too_slow(Instant::now()) {
                return self.fail(Fault::Timeout);
            }
        }
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => self.take(frame),
            Poll::Ready(Some(Err(error))) => {
                self.failed = true;
                Poll::Ready(Some(Err(Error::of_hyper(self.side, error).with_retry(crate::Retry::Never))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.wait(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
