//! Points in time as people and programs read them: RFC 3339, UTC.

use std::fmt;

use serde::{Serialize, Serializer};
use time::{OffsetDateTime, UtcOffset};

/// Milliseconds since 1970. The wire's 0 means "none" and becomes no stamp at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    ms: i64,
    fine: bool,
}

impl Stamp {
    pub fn seconds(seconds: i64) -> Option<Self> {
        (seconds != 0).then(|| Self { ms: seconds.saturating_mul(1000), fine: false })
    }

    /// Shown with milliseconds.
    pub fn millis(ms: i64) -> Option<Self> {
        (ms != 0).then_some(Self { ms, fine: true })
    }

    pub fn as_millis(self) -> i64 {
        self.ms
    }

    /// `in 23h 12m`, `4s ago`.
    pub fn relative(self, now: Self) -> String {
        let ahead = self.ms.saturating_sub(now.ms) / 1000;
        if ahead >= 0 { format!("in {}", span(ahead.unsigned_abs())) } else { format!("{} ago", span(ahead.unsigned_abs())) }
    }

    /// Time of day alone, for lists of what happened just now.
    pub fn clock(self) -> String {
        self.to_string().split_once('T').map(|(_, t)| t.trim_end_matches('Z').to_owned()).unwrap_or_default()
    }

    pub fn date(self) -> String {
        self.to_string().split('T').next().unwrap_or_default().to_owned()
    }
}

/// The two largest units of a number of seconds.
pub fn span(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s}s"),
        (0, 0, _) => format!("{m}m {s}s"),
        (0, ..) => format!("{h}h {m}m"),
        _ => format!("{d}d {h}h"),
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(at) = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.ms) * 1_000_000) else {
            return f.pad("out of range");
        };
        let at = at.to_offset(UtcOffset::UTC);
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        let text = format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month));
        if self.fine { f.pad(&format!("{text}.{:03}Z", at.millisecond())) } else { f.pad(&format!("{text}Z")) }
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_rfc_3339_and_zero_is_none() {
        assert_eq!(Stamp::seconds(0), None);
        let at = Stamp::seconds(1_764_000_000).unwrap();
        assert_eq!(at.to_string(), "2025-11-24T16:00:00Z");
        let fine = Stamp::millis(1_764_000_000_123).unwrap();
        assert_eq!((fine.to_string().as_str(), fine.clock().as_str(), fine.date().as_str()), ("2025-11-24T16:00:00.123Z", "16:00:00.123", "2025-11-24"));
        assert_eq!(at.relative(Stamp::seconds(1_764_000_000 - 3 * 3600 - 60).unwrap()), "in 3h 1m");
        assert_eq!(at.relative(Stamp::seconds(1_764_000_004).unwrap()), "4s ago");
        assert_eq!(span(200_000), "2d 7h");
    }
}
