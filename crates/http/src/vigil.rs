//! The times of one connection, kept beside hyper: it has one for heads and idleness together, and none for a client that takes nothing.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Fault, Side},
    limits::{FAREWELL_WAIT, Limits},
    watch::Pulse,
};

/// Watches over the times of one connection.
pub(crate) struct Vigil<'a> {
    pub(crate) pulse: &'a Arc<Pulse>,
    pub(crate) limits: &'a Limits,
    /// For the end that was asked for to come, once nothing is being served.
    pub(crate) goodbye: Duration,
    pub(crate) begun: CancellationToken,
    pub(crate) ended: CancellationToken,
}

/// What is to be done at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// Nothing before this moment.
    Wait(Instant),
    /// End in order.
    Finish,
    /// End at once.
    Cut(Fault),
}

impl Vigil<'_> {
    /// Drives a connection to its end, in order if nothing else is needed. `finish` is told once, when it is to take no more requests.
    pub(crate) async fn keep<C>(&self, mut connection: Pin<&mut C>, finish: impl Fn(Pin<&mut C>)) -> Result<(), Error>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let mut finishing: Option<Instant> = None;
        let timer = sleep_until(Instant::now() + self.limits.idle);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                biased;
                result = connection.as_mut() => return result.map_err(|error| Error::of_hyper(Side::Downstream, error)),
                () = self.ended.cancelled() => {
                    if self.pulse.is_opaque() {
                        // WebSockets say goodbye over this connection.
                        let _ = timeout(FAREWELL_WAIT, connection.as_mut()).await;
                    }
                    return Err(Error::downstream(Fault::Ended));
                }
                () = self.begun.cancelled(), if finishing.is_none() => {
                    finishing = Some(Instant::now());
                    finish(connection.as_mut());
                }
                () = self.pulse.news.notified() => {}
                () = &mut timer => {}
            }
            let now = Instant::now();
            match self.judge(now, finishing) {
                Judgement::Wait(until) => timer.as_mut().reset(until),
                Judgement::Finish => {
                    finishing = Some(now);
                    finish(connection.as_mut());
                    timer.as_mut().reset(now + self.goodbye);
                }
                Judgement::Cut(fault) => return Err(Error::downstream(fault)),
            }
        }
    }

    fn judge(&self, now: Instant, finishing: Option<Instant>) -> Judgement {
        if self.pulse.resets() > self.limits.resets {
            return Judgement::Cut(Fault::Reset);
        }
        let idle = self.pulse.idle_since();
        let mut next = now + self.limits.idle;
        let mut due = |since: Option<Instant>, wait: Duration| {
            let until = since.map(|since| since + wait);
            next = until.map_or(next, |until| next.min(until.max(now)));
            until.is_some_and(|until| until <= now)
        };
        // A head that has begun behind a request that is still served has its time from the end of that one.
        let head = idle.and_then(|idle| self.pulse.head_since().map(|since| since.max(idle)));
        if due(head, self.limits.header_wait) || due(self.pulse.stalled_since(), self.limits.write_wait) {
            return Judgement::Cut(Fault::Timeout);
        }
        match finishing {
            // HTTP/2 says goodbye in two steps, and a peer that is gone never takes the second; HTTP/1 may have half a head that never ends.
            Some(since) => {
                if due(idle.map(|idle| idle.max(since)), self.goodbye) {
                    return Judgement::Cut(Fault::Timeout);
                }
            }
            None => {
                if due(idle, self.limits.idle) {
                    return Judgement::Finish;
                }
            }
        }
        Judgement::Wait(next)
    }
}
