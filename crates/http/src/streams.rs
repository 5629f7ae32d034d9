//! The streams of one HTTP/2 connection, each with an end of its own.
//!
//! A client may leave its window shut and answer every ping: then bytes wait, no timer of the connection sees it, and the upstream's connection is
//! held for as long as the client likes. So each stream notes when it last gave a piece of its response away; while that piece is not taken, nobody
//! asks for the next. A stream that upstream keeps waiting is asked all the time, and is never ended here.

use std::{
    convert::Infallible,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval},
};

tokio::task_local! {
    /// The stream whose future is being polled.
    static CURRENT: Arc<Stream>;
}

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    start: Instant,
    open: Mutex<Vec<Arc<Stream>>>,
}

#[derive(Debug)]
struct Stream {
    /// Since when a piece has not been taken, in milliseconds since the start and one; zero: none is.
    given_at: AtomicU64,
    end: Notify,
    start: Instant,
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { start: Instant::now(), open: Mutex::default() }))
    }

    /// Ends streams whose client has taken nothing for so long.
    pub(crate) async fn sweep(&self, wait: Duration) -> Infallible {
        // An idle connection should not be woken for this more often than it has to.
        let mut ticks = interval((wait / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for stream in self.open().iter().filter(|stream| stream.waited().is_some_and(|waited| waited >= wait)) {
                stream.end.notify_one();
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Stream>>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let stream = Arc::new(Stream { start: self.0.start, given_at: AtomicU64::new(0), end: Notify::new() });
        self.open().push(Arc::clone(&stream));
        let streams = self.clone();
        tokio::spawn(CURRENT.scope(Arc::clone(&stream), async move {
            tokio::select! {
                biased;
                () = future => {}
                // Dropping the future resets the stream.
                () = stream.end.notified() => tracing::debug!("a client does not take its response: the stream is reset"),
            }
            // As many as may be open at the same time are looked through: few.
            streams.open().retain(|open| !Arc::ptr_eq(open, &stream));
        }));
    }
}

impl Stream {
    fn waited(&self) -> Option<Duration> {
        let given = self.given_at.load(Ordering::Relaxed).checked_sub(1)?;
        self.start.elapsed().checked_sub(Duration::from_millis(given))
    }
}

/// A piece of a response was given away. Without a stream (HTTP/1) the socket itself says whether it is taken.
pub(crate) fn gave() {
    let _ = CURRENT.try_with(|stream| {
        let now = u64::try_from(stream.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        stream.given_at.store(now, Ordering::Relaxed);
    });
}

/// The next piece is asked for.
pub(crate) fn asked() {
    let _ = CURRENT.try_with(|stream| stream.given_at.store(0, Ordering::Relaxed));
}
