//! The pages of signing in and out, whose words come from the relying party.

use maud::html;

use super::{Brand, Frame, address, layout::document};
use crate::sso;

/// For [`sso::Parts::render`]: `move |page| sign_on(&brand, &portal, page)`. Several links are a choice, a single one is what to do next.
pub fn sign_on(brand: &Brand, portal: &str, page: &sso::Page) -> String {
    let frame = Frame { brand, portal, visitor: None, csrf: "" };
    let links: Vec<(&str, &str)> = page.links.iter().filter_map(|(label, to)| Some((label.as_str(), address::link(to)?))).collect();
    let is_choice = page.button.is_none() && links.len() > 1;
    let main = html! {
        div.sheet {
            h1 { bdi { (page.title) } }
            p.lede { bdi { (page.text) } }
            @if is_choice {
                ul.choices { @for (label, to) in &links { li { a href=(to) dir="auto" { (label) } } } }
            } @else {
                div.actions {
                    @if let Some((label, path)) = page.button.as_ref().filter(|(_, path)| address::link(path).is_some()) {
                        form method="post" action=(path) { button.button { (label) } }
                    }
                    @for (label, to) in &links { a.button.quiet[page.button.is_some()] href=(to) { (label) } }
                }
            }
        }
    };
    document(&frame, &page.title, "page", &main)
}
