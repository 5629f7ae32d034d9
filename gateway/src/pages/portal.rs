//! The launcher: what somebody may open, and nothing else; that choice is made by the policy, here it is only shown.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use serde_json::{Map, Value, json};
use weft_policy::Tile;
use weft_snapshot::Bookmark;
use weft_types::RuleId;

use super::{
    Frame,
    address::{self, Mail},
    find, icons,
    layout::{self, document},
    limits, paths,
};

/// What the portal shows.
#[derive(Clone, Copy, Debug)]
pub struct Portal<'a> {
    pub frame: Frame<'a>,
    /// Exactly these, in this order within a category.
    pub apps: &'a [App<'a>],
    pub bookmarks: &'a [&'a Bookmark],
    /// The field `q` of the address: what is searched for by a browser without a script.
    pub query: &'a str,
}

/// One application that the person may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct App<'a> {
    /// Its name in [`apps_json`].
    pub key: RuleId,
    pub title: &'a str,
    pub url: &'a str,
    pub icon: &'a str,
    pub category: &'a str,
    pub owner: &'a str,
    pub lifecycle: &'a str,
}

/// Whether an application answers now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    Up,
    Down,
    /// Nobody has tried, or lately enough.
    Unknown,
}

/// One tile, whatever it is of.
struct Item<'a> {
    title: &'a str,
    url: &'a str,
    icon: &'a str,
    haystack: String,
    of: Of<'a>,
}

/// The tiles of one category.
struct Section<'a> {
    category: &'a str,
    dye: usize,
    items: Vec<Item<'a>>,
}

enum Of<'a> {
    App(&'a App<'a>),
    /// Its host.
    Outside(String),
}

impl<'a> From<&'a Tile<'a>> for App<'a> {
    fn from(tile: &'a Tile<'a>) -> Self {
        Self {
            key: tile.route.rule,
            title: tile.title,
            url: &tile.url,
            icon: &tile.route.portal.icon,
            category: &tile.route.portal.category,
            owner: tile.service.owner.as_str(),
            lifecycle: &tile.service.lifecycle,
        }
    }
}

impl Reach {
    /// As the script reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// What [`paths::APPS`] answers: `{"apps":{"KEY":"up"}}`. Only of apps that the person may open: nobody learns of others by it.
pub fn apps_json(apps: impl IntoIterator<Item = (RuleId, Reach)>) -> Value {
    let apps: Map<String, Value> = apps.into_iter().map(|(key, reach)| (key.to_string(), Value::from(reach.as_str()))).collect();
    json!({ "apps": apps })
}

/// The whole page, an answer with status 200.
pub fn portal(view: &Portal<'_>) -> String {
    let sections = sections(view);
    if sections.is_empty() {
        return document(&view.frame, "Nothing is open to you yet", "page", &nothing(view));
    }
    document(&view.frame, "Your apps", "portal", &launcher(view, &sections))
}

/// By category, what has none last. As long as there are enough dyes, no two have the same.
fn sections<'a>(view: &Portal<'a>) -> Vec<Section<'a>> {
    let mut by_category: BTreeMap<(bool, &str), Vec<Item<'_>>> = BTreeMap::new();
    let apps = view.apps.iter().map(|app| (app.category.trim(), Item::app(app)));
    let bookmarks = view.bookmarks.iter().map(|bookmark| (bookmark.category.trim(), Item::bookmark(bookmark)));
    for (category, item) in apps.chain(bookmarks) {
        by_category.entry((category.is_empty(), category)).or_default().push(item);
    }
    let mut free = BTreeSet::new();
    let mut dye = |category: &str| {
        if free.is_empty() {
            free.extend(0..icons::DYES);
        }
        let wanted = icons::dye(category);
        let dye = free.range(wanted..).chain(&free).copied().next().unwrap_or(wanted);
        free.remove(&dye);
        dye
    };
    by_category.into_iter().map(|((_, category), items)| Section { category, dye: dye(category), items }).collect()
}

fn launcher(view: &Portal<'_>, sections: &[Section<'_>]) -> Markup {
    let query = find::bounded(view.query);
    let is_found = |item: &Item<'_>| find::matches(&query, &item.haystack);
    let items = || sections.iter().flat_map(|section| &section.items);
    let (found, all) = (items().filter(|item| is_found(item)).count(), items().count());
    html! {
        div.intro {
            h1 { "Your apps" }
            (search(&query))
        }
        p.found #found role="status" data-all=(all) {
            @if query.is_empty() { (all) @if all == 1 { " app" } @else { " apps" } }
            @else if found == 0 { "Nothing matches " q { bdi { (query) } } }
            @else { (found) " of " (all) }
            @if !query.is_empty() { " · " a href="/" { "Show all" } }
        }
        @for (i, section) in sections.iter().enumerate() {
            @let heading = match section.category { "" if sections.len() == 1 => "Apps", "" => "Other", category => category };
            section.thread.{ "dye-" (section.dye) } aria-labelledby={ "category-" (i) } hidden[!section.items.iter().any(is_found)] {
                h2 #{ "category-" (i) } { bdi { (heading) } }
                ul.tiles {
                    @for (j, item) in section.items.iter().enumerate() {
                        // Where nobody has made categories, colours tell tiles apart.
                        @let dye = if sections.len() == 1 && section.category.is_empty() { icons::dye(item.title) } else { section.dye };
                        (tile(item, dye, &format!("tile-{i}-{j}"), !is_found(item)))
                    }
                }
            }
        }
    }
}

fn search(query: &str) -> Markup {
    html! {
        form.search #search role="search" method="get" action="/" {
            label for="q" { "Search your apps" }
            (icons::symbol("ui-search"))
            input #q type="search" name="q" value=(query) placeholder="Search" maxlength=(limits::QUERY_MAX_CHARS) autocomplete="off" autocapitalize="none"
                spellcheck="false" enterkeyhint="go" aria-controls="found";
            // A key without a modifier can be turned off (WCAG 2.1, 2.1.4); only the script knows of it.
            button.key #slash type="button" hidden aria-pressed="true" title="The key / leads to the search. Press to turn that off or on." {
                span.hush { "Key for the search: " } "/"
            }
            button.go type="submit" { "Search" }
        }
    }
}

fn tile(item: &Item<'_>, dye: usize, id: &str, hidden: bool) -> Markup {
    html! {
        li.tile.{ "dye-" (dye) } data-find=(item.haystack) hidden[hidden] {
            (icons::swatch(item.icon, item.title))
            div.words {
                @match address::link(item.url) {
                    Some(url) => a.open href=(url) rel=[matches!(item.of, Of::Outside(_)).then_some("noreferrer")] aria-describedby=(id) { bdi { (item.title) } },
                    // Not of any kind that a browser should open: there, but not to be followed.
                    None => span.open { bdi { (item.title) } },
                }
                p.meta id=(id) { (meta(&item.of)) }
            }
        }
    }
}

fn meta(of: &Of<'_>) -> Markup {
    html! {
        @match of {
            Of::App(app) => {
                span.hush { "Owner: " } bdi.owner { (app.owner) }
                @if !matches!(app.lifecycle, "" | "production") { span.hush { ", " } span.stage { (app.lifecycle) } }
                span.hush { ", " }
                span.reach data-app=(app.key) data-reach=(Reach::Unknown.as_str()) { span.shape aria-hidden="true" {} span.word { "Not known" } }
            }
            Of::Outside(host) => {
                span.outside { (icons::symbol("ui-outside")) "Outside" }
                @if !host.is_empty() { span.hush { ", " } bdi.owner { (host) } }
            }
        }
    }
}

/// Nothing may be opened: what to do, and whom to ask.
fn nothing(view: &Portal<'_>) -> Markup {
    let support = &view.frame.brand.support;
    let user = view.frame.visitor.map_or("", |person| &person.user);
    let mail = Mail { subject: "I see no apps", body: &format!("My user name is {user}. I see no apps, and I should be able to open:\n\n") };
    html! {
        div.sheet {
            h1 { "Nothing is open to you yet" }
            p.lede { "You are signed in, but no app lets you in so far. An app appears here as soon as its owner opens it to you or to one of your groups." }
            @if let Some(person) = view.frame.visitor {
                dl.facts {
                    div { dt { "Signed in as" } dd { (layout::named(person)) } }
                    div { dt { "Your groups" } dd {
                        @if person.groups.is_empty() { "None" } @else { (layout::list(&person.groups, "and", limits::GROUPS_SHOWN_MAX)) }
                    } }
                    div { dt { "Whom to ask" } dd {
                        @if support.is_empty() { "The owner of the app that you are looking for, or whoever gave you this address" }
                        @else { (address::contact(support, Some(&mail))) }
                        ". Say your user name and your groups."
                    } }
                }
                p { "If you have just been let in, look again in a few minutes, or sign out and in again: then your groups are read anew." }
                div.actions {
                    a.button href="/" { "Look again" }
                    (layout::post(&view.frame, paths::SIGN_OUT, &html! { button.quiet { "Sign in as somebody else" } }))
                }
            }
        }
    }
}

impl<'a> Item<'a> {
    fn app(app: &'a App<'a>) -> Self {
        let host = address::host(app.url).unwrap_or_default();
        Self { title: app.title, url: app.url, icon: app.icon, haystack: find::haystack(&[app.title, app.category, app.owner, &host]), of: Of::App(app) }
    }

    fn bookmark(bookmark: &'a Bookmark) -> Self {
        let host = address::host(&bookmark.url).unwrap_or_default();
        Self {
            title: &bookmark.title,
            url: &bookmark.url,
            icon: &bookmark.icon,
            haystack: find::haystack(&[&bookmark.title, &bookmark.category, &host, "outside"]),
            of: Of::Outside(host),
        }
    }
}
