//! A moment, for people without a script in UTC; the script says it in the browser's own zone and language.

use maud::{Markup, html};
use time::{OffsetDateTime, macros::format_description};

/// `at` in Unix seconds.
pub(super) fn when(at: u64) -> Markup {
    let parts = i64::try_from(at).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok()).and_then(|at| {
        let machine = at.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z")).ok()?;
        let people = at.format(format_description!("[day padding:none] [month repr:short] [year], [hour]:[minute] UTC")).ok()?;
        Some((machine, people))
    });
    match parts {
        Some((machine, people)) => html! { time datetime=(machine) { (people) } },
        None => html! { "at an unknown time" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_said_twice() {
        assert_eq!(when(1_767_225_600).into_string(), "<time datetime=\"2026-01-01T00:00:00Z\">1 Jan 2026, 00:00 UTC</time>");
        assert_eq!(when(u64::MAX).into_string(), "at an unknown time");
    }
}
