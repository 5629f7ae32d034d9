//! What people need who do not see the page, or do not use a pointer (WCAG 2.1, as far as a tree shows it).

use std::collections::HashSet;

use super::{dom::Dom, world::*};

/// Of every page; also with texts that are empty or long.
fn check(check: impl Fn(&str, &Dom)) {
    for text in ["Orders", "", &"long ".repeat(100)] {
        for (page, html) in every_page(text) {
            check(&page, &Dom::parse(&html));
        }
    }
}

#[test]
fn there_are_landmarks_a_language_and_a_way_past_the_top() {
    check(|page, dom| {
        assert_eq!(dom.one("html").attr("lang"), Some("en"), "{page}");
        assert!(!dom.one("title").text.trim().is_empty(), "{page}");
        for landmark in ["main", "header"] {
            assert_eq!(dom.find(landmark).count(), 1, "{page}: {landmark}");
        }
        let first_link = dom.find("a").next().unwrap();
        assert_eq!((first_link.attr("href"), dom.one("main").attr("id")), (Some("#main"), Some("main")), "{page}");
        let viewport = dom.find("meta").find(|meta| meta.attr("name") == Some("viewport")).unwrap();
        assert!(!viewport.attr("content").unwrap().contains("scal") || viewport.attr("content").unwrap().ends_with("initial-scale=1"), "{page}: zoom");
    });
}

#[test]
fn headings_are_in_order() {
    check(|page, dom| {
        let levels: Vec<u32> = dom.all().iter().filter_map(|e| e.tag.strip_prefix('h').and_then(|level| level.parse().ok())).collect();
        assert_eq!(levels.first(), Some(&1), "{page}");
        assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1, "{page}: {levels:?}");
        assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{page}: {levels:?}");
        assert!(dom.within(dom.one("main"), "h1").count() == 1, "{page}");
    });
}

#[test]
fn names_are_there_and_references_lead_somewhere() {
    check(|page, dom| {
        let ids: Vec<&str> = dom.all().iter().filter_map(|element| element.attr("id")).collect();
        let unique: HashSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "{page}: {ids:?}");
        for element in dom.all() {
            for name in ["aria-labelledby", "aria-describedby", "aria-controls", "for"] {
                for id in element.attr(name).unwrap_or_default().split_whitespace() {
                    assert!(unique.contains(id), "{page}: {name} {id}");
                }
            }
            match element.tag.as_str() {
                "img" => assert!(element.attr("alt").is_some(), "{page}: {element:?}"),
                "input" if element.attr("type") != Some("hidden") => {
                    let id = element.attr("id").unwrap();
                    assert!(dom.find("label").any(|label| label.attr("for") == Some(id) && !label.text.trim().is_empty()), "{page}: {id}");
                }
                "svg" => assert_eq!(element.attr("aria-hidden"), Some("true"), "{page}"),
                "section" => assert!(element.attr("aria-labelledby").is_some(), "{page}"),
                _ => {}
            }
        }
    });
    for (page, html) in every_page("Orders") {
        let dom = Dom::parse(&html);
        for element in dom.find("button").chain(dom.find("a")) {
            assert!(!element.text.trim().is_empty(), "{page}: {element:?}");
        }
    }
}

#[test]
fn buttons_of_sessions_say_which_session() {
    let (_, html) = every_page("curl/8").into_iter().find(|(page, _)| page == "sessions").unwrap();
    let dom = Dom::parse(&html);
    let said: HashSet<&str> = dom.within(dom.one("main"), "button").map(|button| button.text.as_str()).collect();
    assert!(said.contains("End this session, and sign out"), "{said:?}");
    assert!(said.contains("End the session of curl, begun 1 Jan 1970, 00:00 UTC"), "{said:?}");
}

#[test]
fn a_key_without_a_modifier_can_be_turned_off() {
    let dom = Dom::parse(&every_page("x")[0].1);
    let key = dom.one("#slash");
    assert_eq!((key.tag.as_str(), key.attr("aria-pressed"), key.attr("type")), ("button", Some("true"), Some("button")));
    // Nobody is promised a key that is not there without the script.
    assert!(key.attr("hidden").is_some());
}
