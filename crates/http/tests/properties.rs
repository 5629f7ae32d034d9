//! A path has one spelling, whatever it is made of.

use proptest::prelude::*;
use weft_http::{Host, Path};

/// Decodes every percent-encoding once, as a server behind the door would.
fn decode(path: &str) -> Vec<u8> {
    let bytes = path.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok()).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (bytes[at], pair) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

/// Pieces from which paths are hard to read.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just(";".to_owned()),
        Just("%".to_owned()),
        Just("%25".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%5c".to_owned()),
        Just("%3b".to_owned()),
        Just("%00".to_owned()),
        Just("\\".to_owned()),
        "[a-z0-9]{1,2}",
        "%[0-9a-fA-F]{2}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_what_was_read_changes_nothing(text in pieces()) {
        if let Ok(path) = Path::parse(&text) {
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }
    }

    #[test]
    fn nothing_in_it_leads_elsewhere(text in pieces()) {
        if let Ok(path) = Path::new(text.split('?').next().unwrap(), None) {
            let decoded = decode(path.as_str());
            prop_assert!(path.as_str().starts_with('/') && path.as_str().is_ascii());
            prop_assert!(!path.as_str().contains("//"), "{path}");
            for segment in decoded[1..].split(|byte| *byte == b'/') {
                let name = segment.split(|byte| *byte == b';').next().unwrap();
                prop_assert!(!matches!(name, b"." | b".."), "{path}");
            }
            prop_assert!(!decoded.iter().any(|byte| *byte < b' ' || *byte == b'\\' || *byte == 0x7f), "{path}");
            // A slash is a border and nothing else: none comes out of an encoding.
            prop_assert_eq!(decoded.iter().filter(|byte| **byte == b'/').count(), path.as_str().matches('/').count());
        }
    }

    #[test]
    fn decoding_twice_never_differs_from_once(text in pieces()) {
        if let Ok(path) = Path::new(text.split('?').next().unwrap(), None) {
            let once = String::from_utf8(decode(path.as_str())).expect("UTF-8");
            prop_assert_eq!(decode(&once), once.clone().into_bytes(), "{}", path);
        }
    }

    #[test]
    fn a_query_is_kept_byte_for_byte(path in "/[a-z]{0,5}", query in "[!-~]{0,30}") {
        let read = Path::parse(&format!("{path}?{query}")).unwrap();
        prop_assert_eq!(read.query(), Some(query.as_str()));
        prop_assert_eq!(read.to_string(), format!("{path}?{query}"));
    }

    #[test]
    fn unreserved_letters_may_be_encoded_or_not(path in "(/[a-zA-Z0-9._~-]{1,6}){1,4}", encode in any::<u32>()) {
        let encoded: String = path
            .bytes()
            .enumerate()
            .map(|(i, byte)| if byte != b'/' && encode >> (i % 32) & 1 == 1 { format!("%{byte:02x}") } else { char::from(byte).to_string() })
            .collect();
        prop_assert_eq!(Path::parse(&encoded), Path::parse(&path));
    }

    #[test]
    fn a_host_that_is_read_is_written_and_read_the_same(text in "[a-zA-Z0-9.:@/_\\[\\]%-]{0,20}") {
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host.clone()));
            prop_assert!(!host.name().contains(['@', '/', '%']) && !host.name().ends_with('.'));
            prop_assert_eq!(host.name().to_ascii_lowercase(), host.name());
        }
    }
}
