//! What all pages have around them: head, landmarks, who is signed in, whom to ask.

use maud::{DOCTYPE, Markup, html};

use super::{Brand, address, assets, icons, paths};
use crate::sso::Person;

/// Around every page.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub brand: &'a Brand,
    /// `https://portal.D[:PORT]`, without a slash at the end.
    pub portal: &'a str,
    /// `None`: nobody has signed in, or it is not known who.
    pub visitor: Option<&'a Person>,
    /// What binds forms to this session; empty where there is none.
    pub csrf: &'a str,
}

impl Frame<'_> {
    pub(super) fn start(&self) -> String {
        format!("{}/", self.portal)
    }
}

/// `main` begins with the one `h1`. `class` is the style sheet's.
pub(super) fn document(frame: &Frame<'_>, title: &str, class: &str, main: &Markup) -> String {
    let brand = frame.brand;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (brand.title) }
                link rel="stylesheet" href=(assets::style().path());
                @if let Some(colours) = &brand.colours { link rel="stylesheet" href=(colours.path()); }
                @let icon = brand.logo.as_ref().unwrap_or_else(|| assets::mark());
                link rel="icon" type=(icon.content_type) href=(icon.path());
                script src=(assets::script().path()) defer {}
            }
            body class=(class) {
                a.skip href="#main" { "Skip to the content" }
                (header(frame))
                main #main tabindex="-1" { (main) }
                (footer(brand))
            }
        }
    };
    page.into_string()
}

fn header(frame: &Frame<'_>) -> Markup {
    html! {
        header.top {
            a.brand href=(frame.start()) {
                @match &frame.brand.logo {
                    Some(logo) => img.logo src=(logo.path()) alt="" height="32";,
                    None => (icons::symbol("ui-mark")),
                }
                span dir="auto" { (frame.brand.title) }
            }
            @if let Some(person) = frame.visitor {
                nav.you aria-label="Your account" {
                    span.name dir="auto" { (display_name(person)) }
                    a href=(format!("{}{}", frame.portal, paths::SESSIONS)) { "Sessions" }
                    (post(frame, paths::SIGN_OUT, &html! { button.plain { "Sign out" } }))
                }
            }
        }
    }
}

fn footer(brand: &Brand) -> Markup {
    html! {
        @if !brand.support.is_empty() {
            footer.bottom { p { "Need help? Ask " (address::contact(&brand.support, None)) } }
        }
    }
}

/// A form that changes something: always a POST, always with what binds it to the session.
pub(super) fn post(frame: &Frame<'_>, path: &str, fields: &Markup) -> Markup {
    html! {
        form method="post" action=(path) {
            @if !frame.csrf.is_empty() { input type="hidden" name="csrf" value=(frame.csrf); }
            (fields)
        }
    }
}

pub(super) fn display_name(person: &Person) -> &str {
    person.name.as_deref().unwrap_or(&person.user)
}

/// `Alice Example (alice)`, in one piece whatever its direction.
pub(super) fn named(person: &Person) -> Markup {
    html! {
        bdi { (display_name(person)) }
        @if person.name.as_deref().is_some_and(|name| name != person.user) { " (" bdi { (person.user) } ")" }
    }
}

/// `a`, `a or b`, `a, b or c`; of more than `max` it is said how many are left.
pub(super) fn list(items: &[String], last: &str, max: usize) -> Markup {
    let shown = &items[..items.len().min(max)];
    let left = items.len() - shown.len();
    html! {
        @for (i, item) in shown.iter().enumerate() {
            @if i > 0 { @if i + 1 == items.len() { " " (last) " " } @else { ", " } }
            bdi.token { (item) }
        }
        @if left > 0 { " " (last) " " (left) " more" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_says_how_much_is_left() {
        let said = |count: usize| {
            let items: Vec<String> = (1..=count).map(|n| n.to_string()).collect();
            list(&items, "or", 3).into_string().replace("<bdi class=\"token\">", "").replace("</bdi>", "")
        };
        assert_eq!([0, 1, 2, 3, 4, 9].map(said), ["", "1", "1 or 2", "1, 2 or 3", "1, 2, 3 or 1 more", "1, 2, 3 or 6 more"]);
    }
}
