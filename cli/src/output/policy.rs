//! Services and policies.

use super::{Grid, Style, Tone, dash, or_dash};
use crate::view::{PolicyView, ServiceView};

pub fn services(style: Style, services: &[ServiceView]) -> String {
    let mut grid = Grid::new(style, &["SERVICE", "TYPE", "OWNER", "LIFECYCLE", "ADDRESS", "PORTS", "ENDPOINTS", "DECLARED AT"]);
    for s in services {
        let ports: Vec<String> = s.ports.iter().map(port).collect();
        let address = if s.externals.is_empty() { or_dash(s.vip.as_deref()).to_owned() } else { s.externals.join(", ") };
        let endpoints = if s.kind == "interface" { "outside".to_owned() } else { s.endpoints.len().to_string() };
        grid.row([
            (Tone::Strong, s.service.clone()),
            (Tone::Plain, s.kind.clone()),
            (Tone::Plain, s.owner.clone()),
            (Tone::Plain, s.lifecycle.clone()),
            (Tone::Plain, address),
            (Tone::Plain, dash(&ports.join(", ")).to_owned()),
            (Tone::Plain, endpoints),
            (Tone::Faint, s.declared_at.clone()),
        ]);
    }
    grid.finish("no services")
}

pub fn policies(style: Style, policies: &[PolicyView]) -> String {
    let mut grid = Grid::new(style, &["RULE", "SOURCE", "DESTINATION", "PORT", "VERDICT", "DECLARED AT"]);
    for p in policies {
        let verdict = match (p.granted, p.needs_l7) {
            (false, _) => (Tone::Warn, "deny: the provider has not consented"),
            (true, true) => (Tone::Warn, "deny: needs HTTP, which this version cannot judge"),
            (true, false) if p.builtin => (Tone::Good, "allow: built in"),
            (true, false) => (Tone::Good, "allow"),
        };
        let port = match (p.port, &p.protocol) {
            (None, _) => "every declared".to_owned(),
            (Some(n), None) => n.to_string(),
            (Some(n), Some(protocol)) => format!("{n}/{protocol}"),
        };
        grid.row([
            (Tone::Plain, p.rule.map_or_else(|| "-".to_owned(), |r| r.to_string())),
            (Tone::Strong, p.source.clone()),
            (Tone::Strong, p.destination.clone()),
            (Tone::Plain, port),
            (verdict.0, verdict.1.to_owned()),
            (Tone::Faint, p.declared_at.clone()),
        ]);
    }
    grid.finish("no policies: nothing may talk to anything")
}

fn port(p: &crate::view::PortView) -> String {
    let arrow = if p.port == p.target_port { String::new() } else { format!("→{}", p.target_port) };
    format!("{} {}{arrow}/{}", p.name, p.port, p.protocol)
}
