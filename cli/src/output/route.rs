//! What is exposed.

use weft_snapshot::Shown;

use super::{Grid, Style, Tone, dash, or_dash};
use crate::view::RouteView;

pub fn routes(style: Style, routes: &[RouteView]) -> String {
    let mut header = vec!["ADDRESS", "OPEN TO", "METHODS", "LEADS TO", "OWNER", "DECLARED AT"];
    if style.wide {
        header.extend(["SPEAKS", "REWRITTEN TO", "OTHER ORIGINS", "PORTAL", "RULE"]);
    }
    let mut grid = Grid::new(style, &header);
    for r in routes {
        let to = match &r.port_name {
            Some(name) => format!("{}:{} ({name})", r.service, r.port),
            None => format!("{}:{}", r.service, r.port),
        };
        let methods = if r.methods.is_empty() { "every one".to_owned() } else { r.methods.join(", ") };
        let mut cells = vec![
            (Tone::Strong, r.url.clone()),
            open_to(r),
            (Tone::Plain, methods),
            (Tone::Plain, to),
            (Tone::Plain, dash(&r.owner).to_owned()),
            (Tone::Faint, r.declared_at.clone()),
        ];
        if style.wide {
            let origins = r.cors.as_ref().map(|c| c.origins.join(", "));
            cells.extend([
                (Tone::Plain, r.upstream.clone()),
                (Tone::Plain, or_dash(r.rewrite.as_deref()).to_owned()),
                (Tone::Plain, or_dash(origins.as_deref()).to_owned()),
                (Tone::Plain, portal(r)),
                (Tone::Plain, r.rule.to_string()),
            ]);
        }
        grid.row(cells);
    }
    grid.finish("no routes: nothing is exposed")
}

fn open_to(r: &RouteView) -> (Tone, String) {
    match r.access.as_str() {
        "public" => (Tone::Warn, "everybody".to_owned()),
        "authenticated" => (Tone::Plain, "whoever signed in".to_owned()),
        _ => (Tone::Plain, r.groups.join(" or ")),
    }
}

fn portal(r: &RouteView) -> String {
    match r.portal.shown {
        Shown::Hidden => "hidden".to_owned(),
        Shown::Default => "by default".to_owned(),
        Shown::Own if r.portal.title.is_empty() => "a tile".to_owned(),
        Shown::Own => r.portal.title.clone(),
    }
}
