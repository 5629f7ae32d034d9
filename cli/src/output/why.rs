//! `weft why`: one flow, told in full.

use weft_policy::Contact;

use super::{Grid, Style, Tone, answer::remedy, dash, flow, indent, or_dash};
use crate::{
    explain::WhyView,
    view::{AskedView, FlowView},
};

pub fn why(style: Style, w: &WhyView) -> String {
    let f = &w.flow;
    let verdict = style.paint(if f.denied() { Tone::Bad } else { Tone::Good }, &f.verdict);
    let mut text = format!("flow {}: {verdict}, {}: {}\n\n", f.id, f.reason, w.explanation);
    let facts = match &f.request {
        None => facts(w),
        Some(asked) => request_facts(w, asked),
    };
    for (name, value) in facts {
        text.push_str(&format!("  {}{:pad$}{value}\n", style.paint(Tone::Faint, name), "", pad = 14_usize.saturating_sub(name.len())));
    }
    text.push('\n');
    text.push_str(&records(style, &w.records));
    for note in &w.notes {
        text.push_str(&format!("\n{}: {note}\n", style.paint(Tone::Warn, "note")));
    }
    match &w.request {
        None if f.denied() => text.push_str(&remedy(style, w.nearest_miss.as_deref(), w.patch.as_deref())),
        Some(r) if f.denied() => {
            text.push_str(&remedy(style, w.nearest_miss.as_deref(), None));
            if let Some(change) = &r.change {
                text.push_str(&format!("\n{}: {change}\n", style.paint(Tone::Strong, "smallest change")));
            }
            if let Some(patch) = &w.patch {
                text.push_str(&format!("\n{}:\n\n{}", style.paint(Tone::Strong, "or, in the catalog"), indent(patch, 2)));
            }
        }
        _ => {}
    }
    text
}

fn rule(f: &FlowView) -> String {
    match (f.rule, &f.rule_declared_at) {
        (Some(rule), Some(at)) => format!("{rule}, declared at {at}"),
        (Some(rule), None) => rule.to_string(),
        (None, _) => "none matched".to_owned(),
    }
}

/// Of a request: who asked whom for what, what came of it, and who can help.
fn request_facts(w: &WhyView, asked: &AskedView) -> Vec<(&'static str, String)> {
    let f = &w.flow;
    let who = match &asked.user {
        None => "nobody who had signed in".to_owned(),
        Some(user) if asked.groups.is_empty() => format!("user:{user}, in no group"),
        Some(user) => format!("user:{user}, in {}", asked.groups.join(", ")),
    };
    let app = w.request.as_ref().and_then(|r| r.app.as_ref());
    let mut facts = vec![("who", who), ("asked", format!("{} https://{}", asked.method, asked.address()))];
    if !f.address.is_empty() {
        facts.push(("from", f.address.clone()));
    }
    facts.push(match (&f.destination, app) {
        (Some(name), app) => {
            let title = app.filter(|a| a.service.to_string() == *name).map_or(String::new(), |a| format!(" ({})", a.title));
            ("application", format!("{name}{title}, owner {}", or_dash(f.destination_owner.as_deref())))
        }
        (None, _) => ("application", "none: no route took it, or it was a page of the gateway itself".to_owned()),
    });
    facts.push(("answered", asked.status.map_or_else(|| "nothing".to_owned(), |s| s.to_string())));
    facts.push(("rule", rule(f)));
    if !asked.missing.is_empty() {
        facts.push(("missing", format!("any one of {}", asked.missing.join(", "))));
    }
    let ask = w.request.iter().flat_map(|r| &r.ask);
    facts.extend(ask.enumerate().map(|(i, c)| (if i == 0 { "ask" } else { "" }, contact(c))));
    facts.extend([
        ("revision", f.revision.to_string()),
        ("at", f.at.map_or_else(|| "-".to_owned(), |t| t.to_string())),
        ("gateway", format!("workload {} on node {}", or_dash(f.workload.as_deref()), f.node)),
    ]);
    facts
}

fn contact(c: &Contact) -> String {
    let of = c.group.as_ref().map_or(String::new(), |g| format!(", whose group {g} is"));
    let ways: Vec<&str> = [c.contact.as_str(), c.lead.as_str()].into_iter().filter(|way| !way.is_empty()).collect();
    if ways.is_empty() { format!("{}{of}", c.team) } else { format!("{}{of}: {}", c.team, ways.join(", ")) }
}

fn facts(w: &WhyView) -> Vec<(&'static str, String)> {
    let f = &w.flow;
    let owned = |owner: Option<&str>| owner.map_or(String::new(), |o| format!(", owner {o}"));
    let mut facts = vec![
        ("source", format!("{}{}", or_dash(f.source.as_deref()), owned(w.source_owner.as_deref()))),
        ("", or_dash(f.source_identity.as_deref()).to_owned()),
        ("destination", format!("{}{}", f.to(), owned(f.destination_owner.as_deref()))),
        ("", or_dash(f.destination_identity.as_deref()).to_owned()),
        ("dialled", format!("{} port {} {}", dash(&f.address), f.port, f.protocol)),
        ("rule", rule(f)),
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
