//! The search of the portal, as the server does it. The script does the same to the same text.

use super::limits;

/// What is searched in, in lower case: the script compares with this very text.
pub(super) fn haystack(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).map(|part| part.to_lowercase()).collect::<Vec<_>>().join(" ")
}

/// As far as it is looked at.
pub(super) fn bounded(query: &str) -> String {
    query.trim().chars().take(limits::QUERY_MAX_CHARS).collect()
}

/// Every word of the query is somewhere in it.
pub(super) fn matches(query: &str, haystack: &str) -> bool {
    query.to_lowercase().split_whitespace().all(|word| haystack.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_somewhere() {
        let shop = haystack(&["Online Shop", "", "Verkauf Süd", "team-SHOP"]);
        assert_eq!(shop, "online shop verkauf süd team-shop");
        for found in ["", "  ", "shop", "SHOP on", "sÜd online", "line"] {
            assert!(matches(found, &shop), "{found:?}");
        }
        for lost in ["shops", "shop orders", "sud", "onlineshop"] {
            assert!(!matches(lost, &shop), "{lost:?}");
        }
    }

    #[test]
    fn a_long_query_is_cut() {
        assert_eq!(bounded(&format!("  {}", "ü".repeat(1000))).chars().count(), limits::QUERY_MAX_CHARS);
    }
}
