//! The policy that goes with a page lets in what the page needs, and the page needs nothing else.

use super::{
    dom::{Dom, Element},
    world::*,
};
use crate::pages::{Kind, assets, headers, paths};

const SCRIPT: &str = include_str!("../../../assets/weft.js");
const STYLE: &str = include_str!("../../../assets/weft.css");

fn policy() -> Vec<(String, Vec<String>)> {
    let all = headers(Kind::Page { form_targets: &[PORTAL.to_owned()] });
    let policy = all["content-security-policy"].to_str().unwrap();
    let directive = |text: &str| {
        let mut words = text.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.collect())
    };
    policy.split(';').map(directive).collect()
}

/// What of an element is fetched or run, and by which directive.
fn needs(element: &Element) -> Vec<(&'static str, String)> {
    let attr = |name: &str| element.attr(name).unwrap_or_default().to_owned();
    match (element.tag.as_str(), element.attr("rel")) {
        ("script", _) => vec![("script-src", attr("src"))],
        ("link", Some("stylesheet")) => vec![("style-src", attr("href"))],
        ("link", Some("icon")) | ("use", _) => vec![("img-src", attr("href"))],
        ("link", _) => panic!("{element:?}"),
        ("img", _) => vec![("img-src", attr("src"))],
        ("form", _) => vec![("form-action", attr("action"))],
        _ => vec![],
    }
}

#[test]
fn a_page_needs_only_what_its_policy_lets_in() {
    let policy = policy();
    let sources = |name: &str| policy.iter().find(|(directive, _)| directive == name).map(|(_, sources)| sources.clone());
    assert_eq!(sources("default-src"), Some(vec!["'none'".to_owned()]));
    for name in ["style-src", "script-src", "img-src", "connect-src"] {
        assert_eq!(sources(name), Some(vec!["'self'".to_owned()]), "{name}");
    }
    for name in ["frame-ancestors", "base-uri"] {
        assert_eq!(sources(name), Some(vec!["'none'".to_owned()]), "{name}");
    }
    assert_eq!(sources("form-action"), Some(vec!["'self'".to_owned(), PORTAL.to_owned()]));
    for (page, html) in every_page("x") {
        for element in Dom::parse(&html).all() {
            for (directive, address) in needs(element) {
                // 'self': a path of this host.
                assert!(address.starts_with('/') && !address.starts_with("//"), "{page}: {directive} {address}");
                assert!(sources(directive).is_some_and(|sources| sources.contains(&"'self'".to_owned())), "{page}: {directive}");
            }
        }
    }
}

#[test]
fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
    for (page, html) in every_page("x") {
        let dom = Dom::parse(&html);
        for element in dom.all() {
            let at = format!("{page}: {element:?}");
            for (name, value) in &element.attrs {
                assert!(!name.starts_with("on") && name != "style" && name != "srcdoc", "{at}");
                // Links may lead anywhere; nothing else does.
                assert!(element.tag == "a" || !value.contains("://") || name == "data-find", "{at}");
            }
            assert!(element.tag != "style" && (element.tag != "script" || element.text.is_empty()), "{at}");
        }
        for link in dom.find("a").filter(|link| link.attr("href").is_some_and(|to| to.starts_with("https://outside"))) {
            assert_eq!(link.attr("rel"), Some("noreferrer"), "{page}: {link:?}");
        }
    }
    for never in ["innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Function(", "://", ".style", "import(", "setAttribute(\"on"] {
        assert!(!SCRIPT.contains(never), "{never}");
    }
    for never in ["url(", "@import", "://", "expression("] {
        assert!(!STYLE.contains(never), "{never}");
    }
}

#[test]
fn every_asset_that_is_named_exists() {
    let brand = brand("x", "");
    let mut seen = std::collections::BTreeSet::new();
    for (page, html) in every_page("x") {
        for (_, address) in Dom::parse(&html).all().iter().flat_map(needs).filter(|(directive, _)| *directive != "form-action") {
            let name = address.strip_prefix(paths::ASSETS).unwrap_or_else(|| panic!("{page}: {address} is no asset"));
            let (name, fragment) = name.split_once('#').unwrap_or((name, ""));
            let asset = brand.asset(name).unwrap_or_else(|| panic!("{page}: there is no {name}"));
            let text = String::from_utf8_lossy(&asset.bytes);
            assert!(fragment.is_empty() || text.contains(&format!("id=\"{fragment}\"")), "{page}: {name} has no {fragment}");
            seen.insert(name.to_owned());
        }
    }
    for asset in assets::all() {
        // The brand of these pages has a logo, which stands for the mark.
        assert!(seen.contains(&asset.name) || asset == assets::mark(), "{} is shown nowhere", asset.name);
        assert_eq!(assets::get(&asset.name), Some(asset));
        assert!(asset.name.contains(asset.etag.trim_matches('"')), "{}: the name is that of the content", asset.name);
    }
    assert_eq!((assets::get("weft.css"), assets::get(""), assets::get("../weft.css")), (None, None, None));
}

#[test]
fn whatever_changes_something_is_a_post_that_is_bound_to_the_session() {
    let mut posts = 0;
    for (page, html) in every_page("x") {
        let dom = Dom::parse(&html);
        let signed_in = dom.find(".you").count() == 1;
        for form in dom.find("form").filter(|form| form.attr("method") != Some("get")) {
            assert_eq!(form.attr("method"), Some("post"), "{page}");
            let proof: Vec<Option<&str>> =
                dom.within(form, "input").filter(|input| input.attr("name") == Some("csrf")).map(|input| input.attr("value")).collect();
            // Whoever is not signed in has no session to bind anything to.
            assert_eq!(proof, if signed_in { vec![Some(CSRF)] } else { vec![] }, "{page}: {form:?}");
            posts += usize::from(signed_in);
        }
        // No link changes anything.
        for path in [paths::SIGN_OUT, paths::END_SESSION, paths::END_OTHERS] {
            assert!(dom.find("a").all(|link| link.attr("href") != Some(path)), "{page}: {path}");
        }
    }
    assert!(posts > 10, "{posts}");
}

#[test]
fn the_script_finds_what_it_looks_for() {
    let portal = Dom::parse(&every_page("x")[0].1);
    for id in SCRIPT.split("getElementById(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        portal.one(&format!("#{id}"));
    }
    for class in [".thread", ".word"] {
        assert!(SCRIPT.contains(class) && portal.find(class).next().is_some(), "{class}");
    }
    for attribute in ["data-find", "data-app", "data-all", "data-reach"] {
        assert!(portal.all().iter().any(|element| element.attr(attribute).is_some()), "{attribute}");
    }
    assert!(SCRIPT.contains(&format!("fetch(\"{}\"", paths::APPS)));
    for reach in [crate::pages::Reach::Up, crate::pages::Reach::Down, crate::pages::Reach::Unknown] {
        assert!(SCRIPT.contains(&format!("{}: \"", reach.as_str())), "{reach:?}");
    }
    let refused = every_page("x").into_iter().find(|(name, _)| name.starts_with("denied missing-group")).unwrap();
    let refused = Dom::parse(&refused.1);
    assert!(refused.find(&format!("#{}", refused.one(".copy").attr("data-copy").unwrap())).next().is_some());
}
