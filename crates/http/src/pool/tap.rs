//! A request's body on its way to the upstream, and what is known of it from outside.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::{body::Body, error::Error};

/// What has become of a body.
#[derive(Clone, Debug)]
pub(super) struct Fate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    ended: bool,
    moved: Instant,
    error: Option<Error>,
}

impl Fate {
    /// Watches a body. Where there is none, it has ended.
    pub(super) fn of(body: Body) -> (Body, Self) {
        let fate = Self(Arc::new(Mutex::new(State { ended: body.is_end_stream(), moved: Instant::now(), error: None })));
        let watched = if body.is_end_stream() { body } else { Body::stream(Tap { body, fate: fate.clone() }) };
        (watched, fate)
    }

    /// All of it was given away.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// When something was last given away.
    pub(super) fn moved(&self) -> Instant {
        self.lock().moved
    }

    /// Why it broke off: an upstream's connection that fails over a client's body is the client's fault.
    pub(super) fn error(&self) -> Option<Error> {
        self.lock().error.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Tap {
    body: Body,
    fate: Fate,
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let mut state = self.fate.lock();
        state.moved = Instant::now();
        match &frame {
            None => state.ended = true,
            Some(Err(error)) => state.error = Some(error.clone()),
            Some(Ok(_)) => state.ended = self.body.is_end_stream(),
        }
        drop(state);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
