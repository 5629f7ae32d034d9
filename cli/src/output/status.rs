//! `weft status`: what is wrong first, in words; then the tables.

use super::{Style, Tone, node};
use crate::{
    health::{Severity, StatusView},
    view::{Stamp, WorkloadView},
};

pub fn status(style: Style, s: &StatusView, now: Stamp) -> String {
    let mut text = problems(style, s);
    if let Some(b) = &s.bridge {
        let ca = b.ca_not_after.map_or(String::new(), |t| format!(", CA until {}", t.date()));
        text.push_str(&format!("mesh {} ({}), revision {}, bridge {}{ca}\n\n", b.mesh, b.trust_domain, b.revision, b.version));
    }
    text.push_str(&node::nodes(style, &s.nodes, now));
    let workloads: Vec<WorkloadView> = s.nodes.iter().flat_map(|n| n.workloads.clone()).collect();
    text.push('\n');
    text.push_str(&node::workloads(style, &workloads, now));
    if workloads.iter().any(|w| w.proof.is_some()) {
        text.push('\n');
        text.push_str(&node::proofs(style, &workloads));
    }
    text
}

fn problems(style: Style, s: &StatusView) -> String {
    if s.problems.is_empty() {
        return format!("{}\n\n", style.paint(Tone::Good, "all is well"));
    }
    let mut text = String::new();
    for p in &s.problems {
        let word = match p.severity {
            Severity::Problem => style.paint(Tone::Bad, "problem"),
            Severity::Warning => style.paint(Tone::Warn, "warning"),
        };
        let of = if p.node.is_empty() { String::new() } else { format!("node {}: ", p.node) };
        // A message of several lines stays readable when its later lines stand below its first.
        text.push_str(&format!("{word}: {of}{}\n", p.text.replace('\n', "\n         ")));
    }
    text.push('\n');
    text
}
