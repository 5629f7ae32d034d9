//! How the operator wants the pages to look, as far as people can still read them.

use bytes::Bytes;
use weft_snapshot::{Branding, LogoKind};
use weft_types::colour::{self, Colour};

use super::assets::{self, Asset, Type};

/// Made once of each snapshot: a title, whom to ask, and assets of the operator's own.
#[derive(Clone, Debug)]
pub struct Brand {
    pub(super) title: String,
    /// Empty: nobody is named.
    pub(super) support: String,
    /// The accents, where they can be read.
    pub(super) colours: Option<Asset>,
    pub(super) logo: Option<Asset>,
}

impl Brand {
    /// An accent that does not stand out from the page as WCAG AA asks is as if it had not been given: the catalog has said so to whoever wrote it.
    pub fn new(branding: &Branding) -> Self {
        let title = if branding.title.trim().is_empty() { "weft" } else { branding.title.trim() };
        let logo = branding.logo.as_ref().map(|logo| {
            let kind = match logo.kind {
                LogoKind::Svg => Type::Svg,
                LogoKind::Png => Type::Png,
            };
            Asset::of("logo", kind, Bytes::copy_from_slice(&logo.bytes))
        });
        let rules: String = [("light", &branding.accent, colour::PAGE_LIGHT), ("dark", &branding.accent_dark, colour::PAGE_DARK)]
            .into_iter()
            .filter_map(|(scheme, accent, page)| Some(rule(scheme, readable(accent, page)?)))
            .collect();
        let colours = (!rules.is_empty()).then(|| Asset::of("brand", Type::Css, Bytes::from(rules)));
        Self { title: title.to_owned(), support: branding.support.trim().to_owned(), colours, logo }
    }

    /// The asset of that name: of this brand, or one that all have.
    pub fn asset(&self, name: &str) -> Option<&Asset> {
        self.own().find(|asset| asset.name == name).or_else(|| assets::get(name))
    }

    /// Whether this is the operator's logo, whose content is not ours: [`super::Kind::Logo`].
    pub fn is_logo(&self, asset: &Asset) -> bool {
        self.logo.as_ref() == Some(asset)
    }

    fn own(&self) -> impl Iterator<Item = &Asset> {
        self.colours.iter().chain(&self.logo)
    }
}

impl Default for Brand {
    fn default() -> Self {
        Self::new(&Branding::default())
    }
}

fn readable(accent: &str, page: Colour) -> Option<Colour> {
    Colour::parse(accent).filter(|accent| accent.contrast(page) >= colour::TEXT_CONTRAST_MIN)
}

fn rule(scheme: &str, accent: Colour) -> String {
    format!("@media (prefers-color-scheme: {scheme}) {{ :root {{ --accent: {accent}; }} }}\n")
}

#[cfg(test)]
mod tests {
    use weft_snapshot::Logo;

    use super::*;

    #[track_caller]
    fn check(accent: &str, accent_dark: &str, expect: &str) {
        let brand = Brand::new(&Branding { accent: accent.to_owned(), accent_dark: accent_dark.to_owned(), ..Branding::default() });
        let found = brand.colours.map(|asset| String::from_utf8(asset.bytes.to_vec()).unwrap()).unwrap_or_default();
        assert_eq!(found, expect);
    }

    #[test]
    fn an_accent_that_cannot_be_read_is_ours() {
        let light = "@media (prefers-color-scheme: light) { :root { --accent: #0a5c36; } }\n";
        let dark = "@media (prefers-color-scheme: dark) { :root { --accent: #7fd1a3; } }\n";
        check("", "", "");
        check("#0a5c36", "#7fd1a3", &[light, dark].concat());
        // Each for itself: the one is fine where the other is not.
        check("#0a5c36", "#0a5c36", light);
        check("#7fd1a3", "#7fd1a3", dark);
        check("#ffff00", "", "");
        // 4.48 and 4.54: the border is where the recommendation has it.
        check("#777777", "", "");
        check("#767676", "", "@media (prefers-color-scheme: light) { :root { --accent: #767676; } }\n");
        check("red;} * { display: none", "", "");
    }

    #[test]
    fn its_assets_are_found_beside_those_that_all_have() {
        let logo = Logo { kind: LogoKind::Png, bytes: vec![1, 2, 3] };
        let brand = Brand::new(&Branding { logo: Some(logo), accent: "#0a5c36".to_owned(), ..Branding::default() });
        let found = brand.asset(&brand.logo.as_ref().unwrap().name).unwrap();
        assert_eq!((&found.bytes[..], found.content_type, brand.is_logo(found)), (&[1, 2, 3][..], "image/png", true));
        let style = brand.asset(&assets::style().name).unwrap();
        assert!(!brand.is_logo(style) && !brand.is_logo(brand.colours.as_ref().unwrap()));
        assert_eq!(Brand::default().asset(&found.name), None);
    }
}
