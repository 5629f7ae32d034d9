//! The style sheet's promises: every pair of colours can be read in both schemes, and no colour stands outside of the list that is checked.

use std::collections::BTreeMap;

use crate::pages::icons::DYES;
use weft_types::colour::{Colour, PAGE_DARK, PAGE_LIGHT, TEXT_CONTRAST_MIN};

const STYLE: &str = include_str!("../../../assets/weft.css");
/// Borders, and the ring around what has the focus (WCAG 2.1, 1.4.11).
const GRAPHICS_CONTRAST_MIN: f64 = 3.0;

type Scheme = BTreeMap<String, Colour>;

fn schemes() -> [(&'static str, Scheme); 2] {
    let blocks: Vec<&str> = STYLE.split(":root {").skip(1).filter_map(|rest| rest.split('}').next()).collect();
    let [light, dark] = blocks[..] else { panic!("{} blocks of colours", blocks.len()) };
    let colours = |block: &str| {
        let pairs = block.split(';').filter_map(|line| line.trim().strip_prefix("--")).map(|line| line.split_once(": ").unwrap());
        pairs.map(|(name, value)| (name.to_owned(), Colour::parse(value).unwrap_or_else(|| panic!("{name} is {value}")))).collect()
    };
    [("light", colours(light)), ("dark", colours(dark))]
}

/// What is written, drawn or ringed on what. Dyes are written on the page, in headings, and on their own cloth.
fn pairs() -> Vec<(String, String, f64)> {
    let text = ["ink", "soft"].into_iter().flat_map(|ink| [(ink, "page"), (ink, "well")]);
    let marks = ["accent", "good", "bad"].into_iter().map(|ink| (ink, "page"));
    // Buttons are of the accent and written on in the page's colour.
    let buttons = [("page", "accent")];
    let written = text.chain(marks).chain(buttons).map(|(on, behind)| (on.to_owned(), behind.to_owned(), TEXT_CONTRAST_MIN));
    let dyes = (0..DYES).flat_map(|n| [("page".to_owned(), n), (format!("cloth-{n}"), n)]).map(|(behind, n)| (format!("dye-{n}"), behind, TEXT_CONTRAST_MIN));
    let drawn = [("edge", "page"), ("edge", "well"), ("accent", "well")].map(|(on, behind)| (on.to_owned(), behind.to_owned(), GRAPHICS_CONTRAST_MIN));
    written.chain(dyes).chain(drawn).collect()
}

#[test]
fn every_pair_of_colours_can_be_read() {
    for (scheme, colours) in schemes() {
        for (on, behind, least) in pairs() {
            let contrast = colours[&on].contrast(colours[&behind]);
            assert!(contrast >= least, "{scheme}: {on} on {behind} is {contrast:.2}, less than {least}");
        }
        let paired: Vec<String> = pairs().into_iter().flat_map(|(on, behind, _)| [on, behind]).collect();
        for name in colours.keys() {
            // A hairline only adorns: what it separates stands apart without it.
            assert!(paired.contains(name) || name == "line", "{scheme}: {name} is in no pair");
        }
    }
    let [(_, light), (_, dark)] = schemes();
    assert!(light.keys().eq(dark.keys()), "both schemes have the same colours");
    // What a brand's accent is measured against.
    assert_eq!((light["page"], dark["page"]), (PAGE_LIGHT, PAGE_DARK));
}

#[test]
fn colours_stand_in_one_place() {
    let (_, rules) = STYLE.split_once("/* ---- Ground ---- */").unwrap();
    for line in rules.lines() {
        for colour in ["#", "rgb", "hsl", "oklch", "opacity", "color-mix", "white", "black"] {
            let allowed = line.contains("white-space") || line.contains("opacity: 1;");
            assert!(allowed || !line.contains(colour), "{line}");
        }
    }
    // Text of the accent is on the page: the only other surfaces are the well and cloths.
    let surfaces: Vec<&str> = rules.lines().map(str::trim).filter(|line| line.starts_with("background: ") && line.contains("var(")).collect();
    for surface in surfaces {
        assert!(
            ["background: var(--page);", "background: var(--well);", "background: var(--accent);", "background: var(--cloth);"].contains(&surface),
            "{surface}"
        );
    }
}

#[test]
fn what_moves_is_still_for_who_wants_it() {
    let (before, motion) = STYLE.split_once("@media (prefers-reduced-motion: no-preference) {").unwrap();
    let motion_ends = motion.find("\n}\n").unwrap();
    for still in [before, &motion[motion_ends..]] {
        for moving in ["transition", "animation", "@keyframes", "scroll-behavior"] {
            assert!(!still.contains(moving), "{moving}");
        }
    }
}

#[test]
fn focus_is_seen() {
    // Taken away only where something else is ringed instead.
    let rules: Vec<(&str, &str)> = STYLE.split('}').filter_map(|rule| rule.rsplit_once('{')).collect();
    let without: Vec<&str> =
        rules.iter().filter(|(_, body)| body.contains("outline: none")).map(|(name, _)| name.lines().last().unwrap_or_default().trim()).collect();
    assert_eq!(without, ["main:focus", ".search input", ".open:focus-visible"]);
    for ring in [":focus-visible {", ".search:focus-within {", ".open:focus-visible::after {"] {
        let body = STYLE.split(ring).nth(1).unwrap().split('}').next().unwrap();
        assert!(body.contains("px solid var(--accent)"), "{ring}");
    }
}
