//! `weft why`: one flow, told in full.

use super::{Grid, Style, Tone, answer::remedy, dash, flow, or_dash};
use crate::{explain::WhyView, view::FlowView};

pub fn why(style: Style, w: &WhyView) -> String {
    let f = &w.flow;
    let verdict = style.paint(if f.denied() { Tone::Bad } else { Tone::Good }, &f.verdict);
    let mut text = format!("flow {}: {verdict}, {}: {}\n\n", f.id, f.reason, w.explanation);
    for (name, value) in facts(w) {
        text.push_str(&format!("  {}{:pad$}{value}\n", style.paint(Tone::Faint, name), "", pad = 14_usize.saturating_sub(name.len())));
    }
    text.push('\n');
    text.push_str(&records(style, &w.records));
    for note in &w.notes {
        text.push_str(&format!("\n{}: {note}\n", style.paint(Tone::Warn, "note")));
    }
    if f.denied() {
        text.push_str(&remedy(style, w.nearest_miss.as_deref(), w.patch.as_deref()));
    }
    text
}

fn facts(w: &WhyView) -> Vec<(&'static str, String)> {
    let f = &w.flow;
    let owned = |owner: Option<&str>| owner.map_or(String::new(), |o| format!(", owner {o}"));
    let rule = match (f.rule, &f.rule_declared_at) {
        (Some(rule), Some(at)) => format!("{rule}, declared at {at}"),
        (Some(rule), None) => rule.to_string(),
        (None, _) => "none matched".to_owned(),
    };
    let mut facts = vec![
        ("source", format!("{}{}", or_dash(f.source.as_deref()), owned(w.source_owner.as_deref()))),
        ("", or_dash(f.source_identity.as_deref()).to_owned()),
        ("destination", format!("{}{}", f.to(), owned(f.destination_owner.as_deref()))),
        ("", or_dash(f.destination_identity.as_deref()).to_owned()),
        ("dialled", format!("{} port {} {}", dash(&f.address), f.port, f.protocol)),
        ("rule", rule),
        ("revision", f.revision.to_string()),
        ("at", f.at.map_or_else(|| "-".to_owned(), |t| t.to_string())),
    ];
    if let Some(command) = &f.command {
        let pid = f.pid.map_or(String::new(), |p| format!(" (pid {p})"));
        let workload = f.workload.as_ref().map_or(String::new(), |w| format!(" of workload {w}"));
        facts.push(("process", format!("{command}{pid}{workload} on node {}", f.node)));
    }
    facts
}

/// Every record of the flow, in the order the connection met them.
fn records(style: Style, records: &[FlowView]) -> String {
    let mut grid = Grid::new(style, &["AT", "NODE", "POINT", "VERDICT", "HOW", "REVISION", "KEY EXCHANGE", "BYTES OUT/IN", "TOOK", "DETAIL"]);
    for r in records {
        let carried = r.bytes_out + r.bytes_in > 0 || r.duration_us > 0;
        let bytes = if carried { format!("{}/{}", r.bytes_out, r.bytes_in) } else { "-".to_owned() };
        grid.row([
            (Tone::Faint, r.at.map(|t| t.clock()).unwrap_or_default()),
            (Tone::Plain, r.node.clone()),
            (Tone::Plain, r.point.clone()),
            (flow::tone(r), r.verdict.clone()),
            (Tone::Plain, flow::how(r)),
            (Tone::Plain, r.revision.to_string()),
            (Tone::Plain, or_dash(r.key_exchange.as_deref()).to_owned()),
            (Tone::Plain, bytes),
            (Tone::Plain, if r.duration_us == 0 { "-".to_owned() } else { format!("{} ms", r.duration_us.div_ceil(1000)) }),
            (Tone::Plain, or_dash(r.detail.as_deref()).to_owned()),
        ]);
    }
    grid.finish("no records")
}
