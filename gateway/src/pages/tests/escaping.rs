//! Whatever anybody calls anything, it stays text.

use proptest::prelude::*;

use super::{dom::Dom, world::*};
use crate::pages::{Portal, Sessions, portal, sessions};

/// All that pages are made of. An element or attribute that is not here came in from outside.
const TAGS: &[&str] = &[
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "img", "svg", "use", "span", "nav", "form", "input", "button", "main", "div",
    "h1", "h2", "p", "label", "section", "ul", "li", "bdi", "q", "footer", "dl", "dt", "dd", "code", "time",
];
const ATTRIBUTES: &[&str] = &[
    "alt",
    "aria-controls",
    "aria-describedby",
    "aria-hidden",
    "aria-label",
    "aria-labelledby",
    "aria-pressed",
    "autocapitalize",
    "autocomplete",
    "action",
    "charset",
    "class",
    "content",
    "data-all",
    "data-app",
    "data-copy",
    "data-find",
    "data-reach",
    "datetime",
    "defer",
    "dir",
    "enterkeyhint",
    "focusable",
    "for",
    "height",
    "hidden",
    "href",
    "id",
    "lang",
    "maxlength",
    "method",
    "name",
    "placeholder",
    "rel",
    "role",
    "spellcheck",
    "src",
    "tabindex",
    "title",
    "type",
    "value",
    "width",
];

/// As any HTML parser changes text before it looks at it: no NUL, and one kind of line end.
fn as_parsed(text: &str) -> String {
    in_attribute(&text.replace('\0', ""))
}

fn in_attribute(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "\u{fffd}")
}

/// Anything, with what matters to a parser more often than chance would have it.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        "[ -~]{0,4}",
        Just("<script>alert(1)</script>".to_owned()),
        Just("\"><img src=x onerror=alert(1)>".to_owned()),
        Just("' onmouseover='x".to_owned()),
        Just("</title></textarea></bdi>".to_owned()),
        Just("<!--".to_owned()),
        Just("]]>".to_owned()),
        Just("&lt;&#60;&amp".to_owned()),
        Just("javascript:alert(1)".to_owned()),
        Just("\u{202e}\u{2066}".to_owned()),
        Just("\r\n\t\0".to_owned()),
        Just("🛒🧵".to_owned()),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn check_structure(text: &str) {
    for (name, html) in every_page(text) {
        let page = Dom::parse(&html);
        for element in page.all() {
            assert!(TAGS.contains(&element.tag.as_str()), "{name}: <{}> with {text:?}", element.tag);
            for (attribute, _) in &element.attrs {
                assert!(ATTRIBUTES.contains(&attribute.as_str()), "{name}: {attribute} of <{}> with {text:?}", element.tag);
            }
            assert!(!element.comments, "{name}: a comment with {text:?}");
        }
        assert_eq!(page.find("script").count(), 1, "{name}");
        for (tag, attribute) in [("a", "href"), ("form", "action")] {
            for to in page.find(tag).filter_map(|element| element.attr(attribute)) {
                let scheme = ["/", "#", "https://", "http://", "mailto:"].iter().any(|good| to.starts_with(good));
                assert!(scheme && !to.starts_with("//"), "{name}: {to} with {text:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_adds_anything_to_a_page(text in hostile()) {
        check_structure(&text);
    }

    #[test]
    fn what_is_shown_is_what_was_said(title in hostile(), owner in hostile(), query in hostile(), csrf in hostile()) {
        let (brand, person) = (brand("Portal", ""), person("bob", &[]));
        let frame = crate::pages::Frame { csrf: &csrf, ..frame(&brand, &person) };
        let app = crate::pages::App { owner: &owner, ..app(7, &title, "Sales") };
        let page = Dom::parse(&portal(&Portal { frame, apps: &[app], bookmarks: &[], query: &query }));
        prop_assert_eq!(&page.one(".open").text, &as_parsed(&title));
        prop_assert_eq!(&page.one(".owner").text, &as_parsed(&owner));
        prop_assert_eq!(page.one("#q").attr("value").unwrap(), in_attribute(query.trim()));
        let tokens = page.find("input").filter(|input| input.attr("name") == Some("csrf"));
        for token in tokens {
            prop_assert_eq!(token.attr("value").unwrap(), in_attribute(&csrf));
        }
        let line = crate::pages::Line { id: title.clone(), agent: "curl/8", begun: 1, last_used: 1, provider: &owner, this: false };
        let page = Dom::parse(&sessions(&Sessions { frame, sessions: &[line] }));
        let session = page.find("input").find(|input| input.attr("name") == Some("session")).unwrap();
        prop_assert_eq!(session.attr("value").unwrap(), in_attribute(&title));
    }
}

#[test]
fn known_attacks_stay_text() {
    for text in [
        "<script>alert(1)</script>",
        "\"><svg onload=alert(1)>",
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "//evil.example/",
        "https://evil.example/\" onclick=\"x",
        "</title><script>",
    ] {
        check_structure(text);
    }
}
