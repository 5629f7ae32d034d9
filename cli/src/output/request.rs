//! The answer of `weft can` about a person and an address.

use super::{Style, Tone, answer::remedy, indent};
use crate::view::RequestView;

pub fn request(style: Style, a: &RequestView) -> String {
    let tone = if a.allowed() { Tone::Good } else { Tone::Bad };
    let verdict = style.paint(tone, &format!("{:5}", a.verdict));
    let mut text = format!("{verdict}  {} → {} {}  {}{}\n", who(a), a.method, a.url, because(a), basis(a));
    if let Some(app) = &a.app {
        let asked = a.url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        let path = if asked == Some(app.upstream_path.as_str()) { String::new() } else { format!(", as {}", app.upstream_path) };
        text.push_str(&format!("       leads to {} ({}), port {}{path}, owner {}\n", app.service, app.title, app.port, app.owner));
    }
    for note in &a.notes {
        text.push_str(&format!("\n{}: {note}\n", style.paint(Tone::Warn, "note")));
    }
    text.push_str(&remedy(style, a.nearest_miss.as_deref(), None));
    if let Some(change) = &a.change {
        text.push_str(&format!("\n{}: {change}\n", style.paint(Tone::Strong, "smallest change")));
    }
    if let Some(patch) = &a.patch {
        text.push_str(&format!("\n{}:\n\n{}", style.paint(Tone::Strong, "or, in the catalog"), indent(patch, 2)));
    }
    text
}

fn who(a: &RequestView) -> String {
    let groups = a.person.groups.join(",");
    match &a.person.user {
        Some(user) if groups.is_empty() => format!("user:{user}"),
        Some(user) => format!("user:{user}@{groups}"),
        None if groups.is_empty() => "anonymous".to_owned(),
        None => format!("group:{groups}"),
    }
}

fn because(a: &RequestView) -> String {
    let reason = match &a.group {
        Some(group) => format!("group {group}"),
        None => format!("{}: {}", a.reason, a.explanation),
    };
    match (a.rule, &a.rule_declared_at) {
        (Some(rule), Some(at)) => format!("{reason} (rule {rule} at {at})"),
        _ => reason,
    }
}

fn basis(a: &RequestView) -> String {
    a.revision.map_or_else(|| ", by the catalog given".to_owned(), |r| format!(", revision {r}"))
}
