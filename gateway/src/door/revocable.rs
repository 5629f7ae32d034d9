//! A body that breaks off when what let it in is gone.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use weft_http::{Body, Error, Fault};

use crate::live::Lease;

struct Revocable {
    body: Body,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    over: bool,
    _lease: Arc<Lease>,
}

pub(super) fn until_revoked(body: Body, lease: Arc<Lease>) -> Body {
    Body::stream(Revocable { body, ended: Box::pin(lease.ended.clone().cancelled_owned()), over: false, _lease: lease })
}

impl HttpBody for Revocable {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.ended.as_mut().poll(cx).is_ready() {
            self.over = true;
            return Poll::Ready(Some(Err(Error::downstream(Fault::Ended))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
