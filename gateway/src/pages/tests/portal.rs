//! The launcher shows what it is given, finds what is searched for, and says what to do when there is nothing.

use serde_json::json;
use weft_types::RuleId;

use super::{
    dom::{Dom, Element},
    world::*,
};
use crate::pages::{App, Frame, Portal, Reach, apps_json, portal};

fn page(apps: &[App<'_>], bookmarks: &[weft_snapshot::Bookmark], query: &str) -> Dom {
    let (brand, person) = (brand("Corp", "help@corp.example"), person("alice", &["sales", "staff"]));
    let bookmarks: Vec<_> = bookmarks.iter().collect();
    Dom::parse(&portal(&Portal { frame: frame(&brand, &person), apps, bookmarks: &bookmarks, query }))
}

fn titles(dom: &Dom) -> Vec<&str> {
    dom.find(".open").filter(|open| !dom.is_hidden(open)).map(|open| open.text.as_str()).collect()
}

fn headings(dom: &Dom) -> Vec<&str> {
    dom.find("h2").filter(|heading| !dom.is_hidden(heading)).map(|heading| heading.text.as_str()).collect()
}

fn shop() -> (Vec<App<'static>>, Vec<weft_snapshot::Bookmark>) {
    let apps = vec![app(1, "Orders", "Sales"), app(2, "Stock", "Warehouse"), App { owner: "team-money", ..app(3, "Invoices", "Sales") }, app(4, "Notes", "")];
    (apps, vec![bookmark("Handbook", "https://outside.example/start", "Sales"), bookmark("Travel", "https://outside.example:99/", "")])
}

#[test]
fn exactly_what_is_given_is_shown_by_category() {
    let (apps, bookmarks) = shop();
    let dom = page(&apps, &bookmarks, "");
    assert_eq!(headings(&dom), ["Sales", "Warehouse", "Other"]);
    assert_eq!(titles(&dom), ["Orders", "Invoices", "Handbook", "Stock", "Notes", "Travel"]);
    assert_eq!(dom.one("#found").text, "6 apps");
    let tile = dom.find(".tile").next().unwrap();
    let of = |what: &'static str| dom.within(tile, what).map(|e| e.text.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!((of(".owner"), of(".word")), (own(&["team-orders"]), own(&["Not known"])));
    assert_eq!(dom.within(tile, "a").next().unwrap().attr("href"), Some("https://shop.apps.example:8443/"));
    // Without categories nothing is "other".
    assert_eq!(headings(&page(&[app(1, "Orders", "")], &[], "")), ["Apps"]);
    assert_eq!(page(&[app(1, "Orders", " ")], &[], "").one("#found").text, "1 app");
}

#[test]
fn what_is_outside_is_marked_and_not_told_where_one_came_from() {
    let (apps, bookmarks) = shop();
    let dom = page(&apps, &bookmarks, "");
    let outside: Vec<&Element> = dom.find(".tile").filter(|tile| dom.within(tile, ".outside").next().is_some()).collect();
    assert_eq!(outside.len(), 2);
    for tile in outside {
        let link = dom.within(tile, "a").next().unwrap();
        assert_eq!(link.attr("rel"), Some("noreferrer"));
        assert!(tile.text.contains("Outside") && tile.text.contains("outside.example"), "{}", tile.text);
        assert!(dom.within(tile, ".reach").next().is_none());
    }
    let inside = dom.find(".open").find(|open| open.text == "Orders").unwrap();
    assert_eq!(inside.attr("rel"), None);
    // No kind of address but the web's is to be followed.
    let dom = page(&[], &[bookmark("Odd", "javascript:alert(1)", "")], "");
    assert_eq!((titles(&dom), dom.one(".open").tag.as_str()), (vec!["Odd"], "span"));
}

#[test]
fn a_search_leaves_what_has_every_word() {
    let (apps, bookmarks) = shop();
    #[rustfmt::skip]
    let cases: [(&str, &[&str], &[&str], &str); 8] = [
        ("", &["Orders", "Invoices", "Handbook", "Stock", "Notes", "Travel"], &["Sales", "Warehouse", "Other"], "6 apps"),
        ("ord", &["Orders", "Stock", "Notes"], &["Sales", "Warehouse", "Other"], "3 of 6 · Show all"),
        (" SALES ", &["Orders", "Invoices", "Handbook"], &["Sales"], "3 of 6 · Show all"),
        ("sales money", &["Invoices"], &["Sales"], "1 of 6 · Show all"),
        ("shop.apps", &["Orders", "Invoices", "Stock", "Notes"], &["Sales", "Warehouse", "Other"], "4 of 6 · Show all"),
        ("outside", &["Handbook", "Travel"], &["Sales", "Other"], "2 of 6 · Show all"),
        ("<b>", &[], &[], "Nothing matches <b> · Show all"),
        ("nowhere", &[], &[], "Nothing matches nowhere · Show all"),
    ];
    for (query, tiles, sections, found) in cases {
        let dom = page(&apps, &bookmarks, query);
        assert_eq!((titles(&dom), headings(&dom)), (tiles.to_vec(), sections.to_vec()), "{query}");
        assert_eq!(dom.one("#found").text, found, "{query}");
        // The script goes on from there: all are in the page.
        assert_eq!((dom.find(".tile").count(), dom.one("#found").attr("data-all")), (6, Some("6")));
    }
    let form = page(&apps, &bookmarks, "");
    let form = form.one("#search");
    assert_eq!((form.attr("method"), form.attr("action"), form.attr("role")), (Some("get"), Some("/"), Some("search")));
}

#[test]
fn whether_an_app_answers_is_text_and_shape_and_of_ones_own_apps_only() {
    let dom = page(&[app(1, "Orders", ""), app(4_000_000_000, "Stock", "")], &[], "");
    let reach: Vec<_> = dom.find(".reach").map(|reach| (reach.attr("data-app").unwrap(), reach.attr("data-reach").unwrap(), reach.text.as_str())).collect();
    assert_eq!(reach, [("1", "unknown", "Not known"), ("4000000000", "unknown", "Not known")]);
    assert_eq!(dom.find(".shape").count(), 2);
    let json = apps_json([(RuleId(1), Reach::Up), (RuleId(4_000_000_000), Reach::Down), (RuleId(3), Reach::Unknown)]);
    assert_eq!(json, json!({ "apps": { "1": "up", "4000000000": "down", "3": "unknown" } }));
}

#[test]
fn a_stage_is_said_unless_it_is_production() {
    for (lifecycle, expect) in [("production", 0), ("", 0), ("experimental", 1), ("deprecated", 1)] {
        assert_eq!(page(&[App { lifecycle, ..app(1, "Orders", "") }], &[], "").find(".stage").count(), expect, "{lifecycle}");
    }
}

#[test]
fn nothing_to_show_says_what_to_do_and_whom_to_ask() {
    let dom = page(&[], &[], "anything");
    let main = &dom.one("main").text;
    for said in ["Nothing is open to you yet", "alice in full (alice)", "sales and staff", "help@corp.example", "Sign in as somebody else"] {
        assert!(main.contains(said), "{said}: {main}");
    }
    let mail = dom.find("a").find_map(|link| link.attr("href").filter(|to| to.contains("subject="))).unwrap();
    assert!(mail.starts_with("mailto:help@corp.example?subject=I%20see%20no%20apps&body=My%20user%20name%20is%20alice."), "{mail}");
    // Nobody to ask is named: still it is said whom to ask.
    let (brand, person) = (brand("", ""), person("bob", &[]));
    let dom = Dom::parse(&portal(&Portal { frame: frame(&brand, &person), apps: &[], bookmarks: &[], query: "" }));
    assert!(dom.one("main").text.contains("whoever gave you this address") && dom.one("main").text.contains("None"));
    // A control: one thing to show.
    assert!(!page(&[app(1, "Orders", "")], &[], "").one("main").text.contains("Nothing is open"));
}

#[test]
fn the_top_names_the_person_and_leads_to_sessions_and_out() {
    let dom = page(&[app(1, "Orders", "")], &[], "");
    let you = dom.one(".you");
    assert_eq!(dom.within(you, ".name").next().unwrap().text, "alice in full");
    assert_eq!(dom.within(you, "a").next().unwrap().attr("href"), Some("https://portal.apps.example:8443/.weft/sessions"));
    assert_eq!(dom.within(you, "form").next().unwrap().attr("action"), Some("/.weft/logout"));
    let brand = brand("", "");
    let nobody = Frame { brand: &brand, portal: PORTAL, visitor: None, csrf: "" };
    let dom = Dom::parse(&portal(&Portal { frame: nobody, apps: &[], bookmarks: &[], query: "" }));
    assert_eq!(dom.find(".you").count(), 0);
}

#[test]
fn branding_is_title_logo_colours_and_support() {
    let dom = page(&[app(1, "Orders", "")], &[], "");
    assert_eq!(dom.one("title").text, "Your apps · Corp");
    assert_eq!(dom.find(".logo").count(), 1);
    assert_eq!(dom.find("link").filter(|link| link.attr("href").is_some_and(|href| href.contains("/brand-"))).count(), 1);
    assert!(dom.one("footer").text.contains("help@corp.example"));
    let (plain, person) = (crate::pages::Brand::default(), person("bob", &[]));
    let dom = Dom::parse(&portal(&Portal { frame: frame(&plain, &person), apps: &[], bookmarks: &[], query: "" }));
    assert_eq!((dom.one(".brand").text.as_str(), dom.find(".logo").count(), dom.find("footer").count()), ("weft", 0, 0));
}

#[test]
fn neighbours_differ_in_colour_and_two_hundred_tiles_are_a_page() {
    let names: Vec<(String, String)> = (0..200).map(|n| (format!("App {n}"), format!("Category {}", n % 12))).collect();
    let apps: Vec<App<'_>> = (0..).zip(&names).map(|(key, (title, category))| app(key, title, category)).collect();
    let dom = page(&apps, &[], "");
    assert_eq!((dom.find(".tile").count(), dom.find(".thread").count()), (200, 12));
    let dyes: Vec<&str> = dom.find(".thread").map(|section| section.attr("class").unwrap()).collect();
    for (first, second) in [(0, 6), (6, 12)] {
        let mut six = dyes[first..second].to_vec();
        six.sort_unstable();
        six.dedup();
        assert_eq!(six.len(), 6, "{dyes:?}");
    }
}
