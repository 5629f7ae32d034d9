//! How many requests are taken from gateways. Denials have a share of their own: they are what somebody will ask about.

use std::time::{Duration, Instant};

use weft_types::Verdict;

use crate::limits;

#[derive(Debug)]
pub(super) struct Rate {
    allowed: Bucket,
    denied: Bucket,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    /// Up to when it has been filled.
    filled: Instant,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        let full = || Bucket { left: limits::REQUESTS_BURST, filled: now };
        Self { allowed: full(), denied: full() }
    }

    /// Whether one more is taken.
    pub(super) fn take(&mut self, verdict: Verdict, now: Instant) -> bool {
        match verdict {
            Verdict::Allow => self.allowed.take(now),
            Verdict::Deny => self.denied.take(now),
        }
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        const EACH: Duration = Duration::from_nanos(1_000_000_000 / limits::REQUESTS_PER_SECOND as u64);
        let due = now.saturating_duration_since(self.filled).as_nanos() / EACH.as_nanos();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due >= limits::REQUESTS_BURST - self.left {
            (self.left, self.filled) = (limits::REQUESTS_BURST, now);
        } else {
            self.left += due;
            self.filled += EACH * due;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_then_so_many_a_second_and_denials_beside() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let mut taken = |verdict, after_ms: u64, tries: u32| {
            let now = start + Duration::from_millis(after_ms);
            (0..tries).filter(|_| rate.take(verdict, now)).count() as u32
        };
        let many = limits::REQUESTS_BURST + 100;
        assert_eq!(taken(Verdict::Allow, 0, many), limits::REQUESTS_BURST);
        assert_eq!(taken(Verdict::Deny, 0, many), limits::REQUESTS_BURST, "their own share");
        assert_eq!(taken(Verdict::Allow, 0, 1), 0);
        let second = taken(Verdict::Allow, 1000, many);
        assert!(second.abs_diff(limits::REQUESTS_PER_SECOND) <= 1, "{second}");
        let half = taken(Verdict::Allow, 1500, many);
        assert!(half.abs_diff(limits::REQUESTS_PER_SECOND / 2) <= 1, "{half}");
        assert_eq!(taken(Verdict::Allow, 3_600_000, many), limits::REQUESTS_BURST, "no more than a burst is saved up");
    }
}
