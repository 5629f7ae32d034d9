//! The picture of a tile: one of the embedded symbols, or initials; and its colour.

use maud::{Markup, html};

use super::assets;

/// The symbols that a catalog can name.
pub(super) const NAMES: &[&str] = &[
    "alert", "bell", "book", "box", "calendar", "cart", "chart", "chat", "clock", "cloud", "code", "database", "default", "document", "factory", "folder",
    "gear", "globe", "graph", "heart", "home", "image", "key", "lock", "mail", "map", "money", "people", "person", "phone", "shield", "star", "tag",
    "terminal", "tools", "truck",
];

/// Dyes of the style sheet, `dye-0` and on.
pub(super) const DYES: usize = 6;

/// For eyes only: the title says it in words. A name that is not embedded gives initials, and a title without letters the default symbol.
pub(super) fn swatch(icon: &str, title: &str) -> Markup {
    let named = NAMES.iter().copied().find(|name| *name == icon);
    let initials = initials(title);
    html! {
        span.swatch aria-hidden="true" {
            @match named {
                Some(name) => (symbol(name)),
                None if initials.is_empty() => (symbol("default")),
                None => span.initials { (initials) },
            }
        }
    }
}

pub(super) fn symbol(name: &str) -> Markup {
    html! { svg.icon width="24" height="24" aria-hidden="true" focusable="false" { use href=(format!("{}#{name}", assets::icons().path())) {} } }
}

/// The same text always has the same dye.
pub(super) fn dye(text: &str) -> usize {
    // FNV-1a: stable across versions, which the standard library's hasher does not promise.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    usize::try_from(hash % DYES as u64).unwrap_or_default()
}

fn initials(title: &str) -> String {
    let first = |word: &str| word.chars().find(|c| c.is_alphanumeric());
    title.split(|c: char| c.is_whitespace() || matches!(c, '-' | '_' | '/')).filter_map(first).take(2).flat_map(char::to_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_symbol_and_every_symbol_a_name() {
        let sprite = String::from_utf8(assets::icons().bytes.to_vec()).unwrap();
        let symbols: Vec<&str> = sprite.split("<symbol id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let named: Vec<&str> = symbols.iter().copied().filter(|name| !name.starts_with("ui-")).collect();
        assert_eq!(named, NAMES);
        let page = include_str!("../../../docs/gateway.md");
        for name in NAMES {
            assert!(page.contains(&format!("`{name}`")), "docs/gateway.md does not name the icon {name}");
        }
    }

    #[test]
    fn an_unknown_icon_is_initials() {
        for (title, expect) in
            [("Orders", "O"), ("Order desk of all", "OD"), ("card-payments", "CP"), ("🛒 shop", "S"), ("🛒", ""), ("", ""), ("مرحبا بك", "مب"), ("ßa", "SS")]
        {
            assert_eq!(initials(title), expect, "{title}");
        }
        assert!(swatch("cart", "Orders").into_string().contains("#cart\""));
        assert!(swatch("../evil", "Orders").into_string().contains(">O<"));
        assert!(swatch("ui-search", "Orders").into_string().contains(">O<"));
        assert!(swatch("", "🛒").into_string().contains("#default\""));
    }
}
