//! Colours, and whether one stands out from another enough to be read. The catalog warns by the same measure by which the gateway's pages fall back to their own.

/// Text must stand out by so much against what is behind it (WCAG 2.1, 1.4.3, level AA).
pub const TEXT_CONTRAST_MIN: f64 = 4.5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour([u8; 3]);

/// What is behind everything on the gateway's pages, as their style sheet has it.
pub const PAGE_LIGHT: Colour = Colour([0xff, 0xff, 0xff]);
pub const PAGE_DARK: Colour = Colour([0x12, 0x16, 0x1b]);

impl Colour {
    /// `#rrggbb`, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).ok();
        Some(Self([byte(0)?, byte(2)?, byte(4)?]))
    }

    /// From 1, the same, to 21, black and white (WCAG 2.1, "contrast ratio").
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// WCAG 2.1, "relative luminance".
    fn luminance(self) -> f64 {
        let channel = |c: u8| match f64::from(c) / 255.0 {
            c if c <= 0.04045 => c / 12.92,
            c => ((c + 0.055) / 1.055).powf(2.4),
        };
        let [r, g, b] = self.0.map(channel);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }
}

impl std::fmt::Display for Colour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_six_digits_and_nothing_else() {
        for bad in ["", "#fff", "red", "#12345g", "#1234567", "#+12345", "123456", "#12345\u{e9}", "#123456;}"] {
            assert_eq!(Colour::parse(bad), None, "{bad}");
        }
        assert_eq!(Colour::parse("#0aF01b").unwrap().to_string(), "#0af01b");
    }

    #[test]
    fn contrast_is_that_of_the_recommendation() {
        let about = |a: &str, b: &str, expect: f64| {
            let found = Colour::parse(a).unwrap().contrast(Colour::parse(b).unwrap());
            assert!((found - expect).abs() < 0.01, "{a} {b} {found}");
        };
        about("#000000", "#ffffff", 21.0);
        about("#767676", "#ffffff", 4.54);
        about("#ff0000", "#ffffff", 4.0);
        about("#090909", "#090909", 1.0);
    }
}
