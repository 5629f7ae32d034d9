//! Findings of a catalog, as the catalog itself words them.

use super::{Style, Tone};
use crate::source::Lint;

pub fn lint(style: Style, lint: &Lint) -> String {
    let mut text = String::new();
    for f in &lint.findings {
        let tone = if f.severity == "error" { Tone::Bad } else { Tone::Warn };
        // Only the word is coloured; the rest is the catalog's, as it is.
        let shown = match f.text.strip_prefix(f.severity) {
            Some(rest) => format!("{}{rest}", style.paint(tone, f.severity)),
            None => f.text.clone(),
        };
        text.push_str(&format!("{shown}\n\n"));
    }
    text.push_str(&match (lint.errors(), lint.warnings()) {
        (0, 0) => format!("{}: no findings\n", style.paint(Tone::Good, "ok")),
        (0, w) => format!("{}: {}\n", style.paint(Tone::Good, "ok"), count(w, "warning")),
        (e, 0) => format!("{}\n", count(e, "error")),
        (e, w) => format!("{}, {}\n", count(e, "error"), count(w, "warning")),
    });
    text
}

fn count(n: usize, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}
