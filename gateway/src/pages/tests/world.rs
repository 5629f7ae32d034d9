//! What pages are made of in tests, and every page there is.

use http::StatusCode;
use weft_policy::{AccessReason, Contact, RequestDecision};
use weft_snapshot::{Bookmark, Branding, Logo, LogoKind};
use weft_types::{Revision, RuleId};

use super::super::*;
use crate::sso::{self, Person};

pub(super) const PORTAL: &str = "https://portal.apps.example:8443";
pub(super) const CSRF: &str = "proof-of-this-session";
pub(super) const FLOW: &str = "00000000000004d2";

pub(super) fn person(name: &str, groups: &[&str]) -> Person {
    Person {
        provider: "corp".to_owned(),
        subject: "1".to_owned(),
        user: name.to_owned(),
        email: Some(format!("{name}@corp.example")),
        name: Some(format!("{name} in full")),
        groups: own(groups),
    }
}

pub(super) fn brand(title: &str, support: &str) -> Brand {
    let logo = Some(Logo { kind: LogoKind::Svg, bytes: b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec() });
    let accent = |accent: &str| accent.to_owned();
    Brand::new(&Branding { title: title.to_owned(), support: support.to_owned(), accent: accent("#0a5c36"), accent_dark: accent("#7fd1a3"), logo })
}

pub(super) fn frame<'a>(brand: &'a Brand, person: &'a Person) -> Frame<'a> {
    Frame { brand, portal: PORTAL, visitor: Some(person), csrf: CSRF }
}

pub(super) fn app<'a>(key: u32, title: &'a str, category: &'a str) -> App<'a> {
    App { key: RuleId(key), title, url: "https://shop.apps.example:8443/", icon: "cart", category, owner: "team-orders", lifecycle: "production" }
}

pub(super) fn bookmark(title: &str, url: &str, category: &str) -> Bookmark {
    Bookmark { title: title.to_owned(), url: url.to_owned(), icon: "book".to_owned(), category: category.to_owned(), groups: vec![] }
}

pub(super) fn contact(team: &str, lead: &str, contact: &str, group: Option<&str>) -> Contact {
    Contact { team: team.parse().unwrap(), lead: lead.to_owned(), contact: contact.to_owned(), group: group.map(str::to_owned) }
}

pub(super) fn decision(reason: AccessReason, title: &str, missing: &[&str]) -> RequestDecision {
    let app = weft_policy::App {
        service: "shop/orders".parse().unwrap(),
        title: title.to_owned(),
        owner: "team-orders".parse().unwrap(),
        port: 80,
        route: "shop.apps.example/orders".to_owned(),
        upstream_path: "/inside".to_owned(),
        declared_at: "orders.yaml:3".to_owned(),
    };
    RequestDecision {
        verdict: reason.verdict(),
        reason,
        revision: Revision(1),
        rule: RuleId(7),
        rule_declared_at: Some("orders.yaml:30".to_owned()),
        app: matches!(reason, AccessReason::SignIn | AccessReason::MissingGroup | AccessReason::Method).then_some(app),
        group: None,
        missing: own(missing),
        methods: if reason == AccessReason::Method { own(&["GET", "POST"]) } else { vec![] },
        ask: vec![contact("team-orders", "olga@corp.example", "#orders", None)],
        nearest_miss: Some("the exposure at orders.yaml:30 is open to sales".to_owned()),
        change: Some("put bob into sales".to_owned()),
        patch: Some("spec: {}".to_owned()),
    }
}

pub(super) fn own(list: &[&str]) -> Vec<String> {
    list.iter().map(|item| (*item).to_owned()).collect()
}

/// Every page, with `text` wherever somebody else decides what is there.
pub(super) fn every_page(text: &str) -> Vec<(String, String)> {
    let (brand, person) = (brand(text, text), person(text, &[text, "staff"]));
    let frame = frame(&brand, &person);
    let nobody = Frame { visitor: None, csrf: "", ..frame };
    let mut apps = vec![app(1, text, text), app(2, "Orders", ""), app(3, text, "Sales")];
    apps[0] = App { icon: text, owner: text, lifecycle: text, ..apps[0] };
    apps[2] = App { url: text, ..apps[2] };
    let bookmarks = [bookmark(text, "https://outside.example/", text), bookmark(text, text, "")];
    let bookmarks: Vec<&Bookmark> = bookmarks.iter().collect();
    let lines: Vec<Line<'_>> =
        [true, false, false].map(|this| Line { id: text.to_owned(), agent: text, begun: 1, last_used: 2, provider: text, this }).to_vec();
    let ask = [contact("team-orders", text, text, None), contact("people-office", text, text, Some(text))];
    let mut pages = vec![
        ("portal".to_owned(), portal(&Portal { frame, apps: &apps, bookmarks: &bookmarks, query: "" })),
        ("search".to_owned(), portal(&Portal { frame, apps: &apps, bookmarks: &bookmarks, query: text })),
        ("nothing".to_owned(), portal(&Portal { frame, apps: &[], bookmarks: &[], query: text })),
        ("sessions".to_owned(), sessions(&Sessions { frame, sessions: &lines })),
        ("one session".to_owned(), sessions(&Sessions { frame, sessions: &lines[..1] })),
    ];
    for reason in AccessReason::ALL.into_iter().filter(|reason| reason.verdict() == weft_types::Verdict::Deny) {
        let decision = RequestDecision { ask: ask.to_vec(), ..decision(reason, text, &[text, "support"]) };
        pages.push((format!("denied {reason}"), denied(&Denied { frame, decision: &decision, method: text, flow: text, apps: &apps }).html));
    }
    let upstream =
        |fault, retry| Trouble::Upstream(Upstream { app: text, owner: text, ask: &ask, status: StatusCode::BAD_GATEWAY, fault, retry, again: Some("/again") });
    let troubles = [
        Trouble::NotFound { apps: &apps },
        upstream(Fault::Broken, Retry::Useless),
        upstream(Fault::Late, Retry::LookFirst),
        upstream(Fault::Away, Retry::Now),
        Trouble::Draining,
        Trouble::Refused { status: StatusCode::BAD_REQUEST, sentence: text },
        Trouble::Internal,
    ];
    pages.extend(troubles.into_iter().map(|trouble| (format!("{trouble:?}"), problem(&Problem { frame: nobody, trouble, flow: text }).html)));
    let pair = |to: &str| (text.to_owned(), to.to_owned());
    let choice = sso::Page { title: text.to_owned(), text: text.to_owned(), links: vec![pair(text), pair("/a"), pair("/b")], button: None };
    pages.push(("choice".to_owned(), sign_on(&brand, PORTAL, &choice)));
    let question = sso::Page { links: vec![pair("/stay")], button: Some(pair("/.weft/logout")), ..choice };
    pages.push(("question".to_owned(), sign_on(&brand, PORTAL, &question)));
    pages
}
