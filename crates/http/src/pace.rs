//! How slowly a body may come. Pure: the clock is a parameter.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Pace;

/// Counts the time in which somebody waited for bytes, and what came in it. Time in which nobody asked is the other side's and does not count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    pace: Pace,
    waited: Duration,
    bytes: u64,
    waiting_since: Option<Instant>,
}

impl Pacer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, waited: Duration::ZERO, bytes: 0, waiting_since: None }
    }

    /// From now on another pace holds; a window that has begun begins anew.
    pub(crate) fn change(&mut self, pace: Pace) {
        if self.pace != pace {
            *self = Self::new(pace);
        }
    }

    /// Nothing is there. Says when it will have been too slow.
    pub(crate) fn waits(&mut self, now: Instant) -> Instant {
        let since = *self.waiting_since.get_or_insert(now);
        since + self.pace.window.saturating_sub(self.waited)
    }

    /// So much has come, after what was waited.
    pub(crate) fn came(&mut self, now: Instant, bytes: u64) {
        self.account(now);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited >= self.pace.window && self.bytes >= self.pace.min_bytes {
            self.waited = Duration::ZERO;
            self.bytes = 0;
        }
    }

    /// Whether a whole window has been waited and too little came. A window with enough in it is closed.
    pub(crate) fn is_too_slow(&mut self, now: Instant) -> bool {
        if self.waiting_since.is_some() {
            self.account(now);
            self.waiting_since = Some(now);
        }
        if self.waited < self.pace.window {
            return false;
        }
        if self.bytes < self.pace.min_bytes {
            return true;
        }
        self.waited = Duration::ZERO;
        self.bytes = 0;
        false
    }

    fn account(&mut self, now: Instant) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { window: Duration::from_secs(10), min_bytes: 100 };

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn drops_of_one_byte_do_not_buy_time() {
        let start = Instant::now();
        let mut pacer = Pacer::new(PACE);
        for second in 0..9 {
            pacer.waits(seconds(start, second));
            pacer.came(seconds(start, second + 1), 1);
            assert!(!pacer.is_too_slow(seconds(start, second + 1)), "{second}");
        }
        assert_eq!(pacer.waits(seconds(start, 9)), seconds(start, 10));
        assert!(pacer.is_too_slow(seconds(start, 10)));
    }

    #[test]
    fn enough_in_a_window_begins_the_next() {
        let start = Instant::now();
        let mut pacer = Pacer::new(PACE);
        pacer.waits(start);
        pacer.came(seconds(start, 5), 100);
        pacer.waits(seconds(start, 5));
        assert!(!pacer.is_too_slow(seconds(start, 10)));
        assert!(!pacer.is_too_slow(seconds(start, 19)));
        assert!(pacer.is_too_slow(seconds(start, 20)));
    }

    #[test]
    fn time_in_which_nobody_asked_does_not_count() {
        let start = Instant::now();
        let mut pacer = Pacer::new(PACE);
        pacer.waits(start);
        pacer.came(seconds(start, 1), 1);
        assert!(!pacer.is_too_slow(seconds(start, 1000)));
        assert_eq!(pacer.waits(seconds(start, 1000)), seconds(start, 1009));
    }

    #[test]
    fn another_pace_begins_anew() {
        let start = Instant::now();
        let mut pacer = Pacer::new(PACE);
        pacer.waits(start);
        pacer.change(Pace { window: Duration::from_secs(60), min_bytes: 1 });
        assert_eq!(pacer.waits(seconds(start, 9)), seconds(start, 69));
    }
}
