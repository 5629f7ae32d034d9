//! Conditions with deadlines, in place of sleeps.

use std::{
    fmt::Display,
    thread,
    time::{Duration, Instant},
};

use crate::{LabError, limits};

/// Asks `condition` until it gives `Ok`, or fails with the last error when `deadline` has passed.
pub fn eventually<T, E: Display>(deadline: Duration, what: &str, mut condition: impl FnMut() -> Result<T, E>) -> Result<T, LabError> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(e) if start.elapsed() >= deadline => return Err(LabError::Timeout { what: what.to_owned(), deadline, last: format!("{e:#}") }),
            Err(_) => thread::sleep(limits::POLL_INTERVAL),
        }
    }
}

/// Holds that `condition` stays true for all of `span`: for what must *not* happen.
pub fn throughout<E: Display>(span: Duration, what: &str, mut condition: impl FnMut() -> Result<(), E>) -> Result<(), LabError> {
    let start = Instant::now();
    while start.elapsed() < span {
        if let Err(e) = condition() {
            return Err(LabError::Malformed(format!("{what}: broken after {:?}: {e:#}", start.elapsed())));
        }
        thread::sleep(limits::POLL_INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_reason() {
        let mut n = 0;
        let outcome = eventually(Duration::from_millis(60), "the count", || -> Result<(), String> {
            n += 1;
            Err(format!("only {n}"))
        });
        let message = outcome.unwrap_err().to_string();
        assert!(message.starts_with("the count: not within 60ms; last seen: only "), "{message}");
        assert!(n > 1);
    }

    #[test]
    fn returns_what_the_condition_gives() {
        let mut n = 0;
        let got = eventually(Duration::from_secs(5), "three", || {
            n += 1;
            if n == 3 { Ok(n) } else { Err("not yet") }
        });
        assert_eq!(got.unwrap(), 3);
    }
}
