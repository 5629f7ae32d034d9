//! A request's body on its way to the upstream, and what is known of it from outside.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::{body::Body, error::Error};

/// What has become of a body; `None`: there was none.
#[derive(Clone, Debug)]
pub(super) struct Fate(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
struct State {
    ended: bool,
    moved: Instant,
    error: Option<Error>,
}

impl Fate {
    /// Watches a body.
    pub(super) fn of(body: Body) -> (Body, Self) {
        if body.is_end_stream() {
            return (body, Self(None));
        }
        let state = Arc::new(Mutex::new(State { ended: false, moved: Instant::now(), error: None }));
        (Body::stream(Tap { body, state: Arc::clone(&state) }), Self(Some(state)))
    }

    /// All of it was given away.
    pub(super) fn has_ended(&self) -> bool {
        self.state().is_none_or(|state| state.ended)
    }

    /// When something was last given away.
    pub(super) fn moved(&self) -> Option<Instant> {
        self.state().map(|state| state.moved)
    }

    /// Why it broke off: an upstream's connection that fails over a client's body is the client's fault.
    pub(super) fn error(&self) -> Option<Error> {
        self.state().and_then(|state| state.error.clone())
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Tap {
    body: Body,
    state: Arc<Mutex<State>>,
}

impl HttpBody for Tap {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let this = self.get_mut();
        let mut state = this.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.moved = Instant::now();
        match &frame {
            None => state.ended = true,
            Some(Err(error)) => state.error = Some(error.clone()),
            Some(Ok(_)) => state.ended = this.body.is_end_stream(),
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
