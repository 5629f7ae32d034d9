//! Answers of `weft can`.

use super::{Style, Tone, indent};
use crate::view::AnswerView;

/// One line an answer, then for each different denial what comes nearest and what would allow it.
pub fn answers(style: Style, answers: &[AnswerView]) -> String {
    let source = |a: &AnswerView| a.source.as_ref().map_or_else(|| "?".to_owned(), |s| s.service.clone());
    let width = answers.iter().map(|a| target(a).chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for a in answers {
        let tone = if a.allowed() { Tone::Good } else { Tone::Bad };
        let verdict = style.paint(tone, &format!("{:5}", a.verdict));
        let owner = a.destination.as_ref().map_or(String::new(), |d| format!(", owner {}", d.owner));
        text.push_str(&format!("{verdict}  {} → {:width$}  {}, {}{owner}\n", source(a), target(a), because(a), basis(a)));
    }
    let mut told: Vec<(&Option<String>, &Option<String>)> = Vec::new();
    for a in answers.iter().filter(|a| !a.allowed()) {
        if told.contains(&(&a.nearest_miss, &a.patch)) {
            continue;
        }
        told.push((&a.nearest_miss, &a.patch));
        text.push_str(&remedy(style, a.nearest_miss.as_deref(), a.patch.as_deref()));
    }
    text
}

/// What is nearest, and what would allow it; nothing when policy knows neither.
pub(super) fn remedy(style: Style, nearest: Option<&str>, patch: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(nearest) = nearest {
        text.push_str(&format!("\n{}: {nearest}\n", style.paint(Tone::Strong, "nearest miss")));
    }
    if let Some(patch) = patch {
        text.push_str(&format!("\n{}:\n\n{}", style.paint(Tone::Strong, "to allow it, put into the catalog"), indent(patch, 2)));
    }
    text
}

fn target(a: &AnswerView) -> String {
    let name = a.port_name.as_ref().map_or(String::new(), |n| format!(" ({n})"));
    format!("{}/{}{name}", a.to(), a.protocol)
}

fn basis(a: &AnswerView) -> String {
    a.revision.map_or_else(|| "by the catalog given".to_owned(), |r| format!("revision {r}"))
}

fn because(a: &AnswerView) -> String {
    match (a.rule, &a.rule_declared_at) {
        (Some(rule), Some(at)) if a.allowed() && a.builtin => format!("built-in rule {rule}, by what is declared at {at}"),
        (Some(rule), Some(at)) if a.allowed() => format!("rule {rule} at {at}"),
        (Some(rule), Some(at)) => format!("{}: {} (rule {rule} at {at})", a.reason, a.explanation),
        _ => format!("{}: {}", a.reason, a.explanation),
    }
}
