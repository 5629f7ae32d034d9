//! What scripts of other origins may ask of an exposure (Fetch standard, "CORS protocol").

use serde_saphyr::Spanned;
use weft_types::HostName;

use super::{expose::method, read::Reader};
use crate::{Cors, limits, raw};

/// `Some(None)`: nothing is said; `None`: what is said has a fault.
pub(super) fn cors(read: &mut Reader<'_, '_>, entry: Option<Spanned<raw::Cors>>) -> Option<Option<Cors>> {
    let Some(entry) = entry else { return Some(None) };
    let at = read.document.position(entry.referenced);
    let c = entry.value;
    let before = std::mem::take(&mut read.broken);
    let origins = read.list("cors.origins", c.origins, limits::CORS_MAX, &at);
    let origins: Vec<String> = origins.iter().filter_map(|text| origin(read, text)).collect();
    let credentials = c.credentials.unwrap_or_default();
    let any = origins.iter().any(|o| o == "*");
    if origins.is_empty() && !read.broken {
        read.refuse(&at, "cors names no origins", Some("add `origins: [ \"https://HOST\" ]`, or remove cors"));
    } else if any && credentials {
        read.refuse(&at, "cors sends credentials to every origin", Some("name the origins, or leave credentials out"));
    } else if any && origins.len() > 1 {
        read.refuse(&at, "cors names every origin and others", Some("keep \"*\", or keep the others"));
    }
    let methods = read.list("cors.methods", c.methods, limits::METHODS_MAX, &at);
    let methods = methods.iter().filter_map(|text| method(read, text)).collect();
    let headers = read.list("cors.headers", c.headers, limits::CORS_MAX, &at);
    let headers = headers.iter().filter_map(|text| header(read, text)).collect();
    let max_age_seconds = c.max_age_seconds.as_ref().and_then(|text| age(read, text)).unwrap_or_default();
    let fine = !read.broken;
    read.broken |= before;
    fine.then_some(Some(Cors { origins, methods, headers, credentials, max_age_seconds }))
}

/// An origin as browsers write it (RFC 6454 §6.2), or `*`.
fn origin(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<String> {
    let value = &text.value;
    if value == "*" {
        return Some(value.clone());
    }
    let (scheme, rest) = value.split_once("://").unwrap_or(("", ""));
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let standard = matches!((scheme, port), ("https", Some("443")) | ("http", Some("80")));
    let number = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n != 0 && n.to_string() == p));
    if matches!(scheme, "https" | "http") && host.parse::<HostName>().is_ok() && number && !standard {
        return Some(value.clone());
    }
    let help = if standard { "browsers leave the standard port out: so must the rule" } else { "write it as browsers do: https://HOST, without a path" };
    read.refuse(&read.at(text), format!("origin {value:?} is none that a browser names"), Some(help));
    None
}

/// A field name in lower case (RFC 9110 §5.1).
fn header(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b);
    if !text.value.is_empty() && text.value.len() <= 128 && text.value.bytes().all(fits) {
        return Some(text.value.to_ascii_lowercase());
    }
    read.refuse(&read.at(text), format!("header {:?} is no name of one", text.value), Some("name each header, without a value"));
    None
}

fn age(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<u32> {
    let parsed = text.value.parse().ok().filter(|n| *n <= limits::CORS_AGE_MAX_SECONDS);
    if parsed.is_none() {
        let message = format!("maxAgeSeconds {:?} is no number up to {}", text.value, limits::CORS_AGE_MAX_SECONDS);
        read.refuse(&read.at(text), message, None);
    }
    parsed
}
