//! Flows: as a table when the list is finished, line by line when it is not.

use super::{Grid, Style, Tone, dash, or_dash};
use crate::view::FlowView;

const HEADER: &[&str] = &["TIME", "VERDICT", "FROM", "TO", "HOW", "NODE", "POINT", "FLOW"];
const WIDE: &[&str] = &["SOURCE IDENTITY", "DESTINATION IDENTITY", "ADDRESS", "REVISION", "RULE", "PROCESS", "BYTES OUT/IN"];

pub fn flows(style: Style, flows: &[FlowView], wide: bool) -> String {
    let header: Vec<&str> = HEADER.iter().chain(if wide { WIDE } else { &[] }).copied().collect();
    let mut grid = Grid::new(style, &header);
    for f in flows {
        grid.row(cells(f, wide));
    }
    grid.finish("no flows")
}

/// One line, in columns that are wide enough for most.
pub fn flow_line(style: Style, f: &FlowView, wide: bool) -> String {
    const WIDTHS: [usize; 8] = [12, 7, 24, 26, 18, 8, 10, 16];
    let padded = cells(f, wide).into_iter().enumerate().map(|(i, (tone, text))| {
        let gap = WIDTHS.get(i).map_or(0, |w| w.saturating_sub(text.chars().count()));
        format!("{}{:gap$}", style.paint(tone, &text), "")
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

pub(super) fn tone(f: &FlowView) -> Tone {
    if f.denied() { Tone::Bad } else { Tone::Good }
}

/// The path an allowed connection took, or why it was not; of a request why, and what was answered.
pub(super) fn how(f: &FlowView) -> String {
    if let Some(asked) = &f.request {
        return asked.status.map_or_else(|| f.reason.clone(), |status| format!("{} {status}", f.reason));
    }
    if f.denied() { f.reason.clone() } else { f.path.clone().unwrap_or_else(|| f.reason.clone()) }
}

fn from(f: &FlowView) -> String {
    match (&f.request, &f.source) {
        (Some(_), None) => "anonymous".to_owned(),
        (_, source) => or_dash(source.as_deref()).to_owned(),
    }
}

fn cells(f: &FlowView, wide: bool) -> Vec<(Tone, String)> {
    let udp = if f.protocol == "TCP" { String::new() } else { format!("/{}", f.protocol) };
    let mut cells = vec![
        (Tone::Faint, f.at.map(|t| t.clock()).unwrap_or_default()),
        (tone(f), f.verdict.clone()),
        (Tone::Plain, from(f)),
        (Tone::Plain, format!("{}{udp}", f.to())),
        (Tone::Plain, how(f)),
        (Tone::Plain, f.node.clone()),
        (Tone::Faint, f.point.clone()),
        (Tone::Faint, f.id.clone()),
    ];
    if wide {
        let process = match (&f.command, f.pid) {
            (Some(c), Some(pid)) => format!("{c}[{pid}]"),
            (Some(c), None) => c.clone(),
            (None, Some(pid)) => pid.to_string(),
            (None, None) => "-".to_owned(),
        };
        cells.extend([
            (Tone::Plain, or_dash(f.source_identity.as_deref()).to_owned()),
            (Tone::Plain, or_dash(f.destination_identity.as_deref()).to_owned()),
            (Tone::Plain, dash(&f.address).to_owned()),
            (Tone::Plain, f.revision.to_string()),
            (Tone::Plain, f.rule.map_or_else(|| "-".to_owned(), |r| r.to_string())),
            (Tone::Plain, process),
            (Tone::Plain, format!("{}/{}", f.bytes_out, f.bytes_in)),
        ]);
    }
    cells
}
