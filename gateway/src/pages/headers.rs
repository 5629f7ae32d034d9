//! What a browser is told about an answer beside its content: what may run in it, who may show it, who may keep it.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

use super::assets::Asset;

/// What an answer is.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// A page. `form_targets`: addresses that a form may lead to by a redirect besides this host, which browsers hold against the policy as well: the portal's, and
    /// those of the identity providers' sign-out. Only their origins are used.
    Page { form_targets: &'a [String] },
    /// For programs.
    Json,
    /// One of ours.
    Asset(&'a Asset),
    /// A picture that the operator has brought: whatever is in it does nothing.
    Logo(&'a Asset),
}

const NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const NOTHING_AT_ALL: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox";

/// All that such an answer has to say, content type included. They replace what an answer already says under these names.
pub fn headers(kind: Kind<'_>) -> HeaderMap {
    let mut all = HeaderMap::new();
    let mut set = |name: HeaderName, value: &'static str| all.insert(name, HeaderValue::from_static(value));
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    match kind {
        Kind::Page { form_targets } => {
            set(header::CONTENT_TYPE, "text/html; charset=utf-8");
            set(header::CACHE_CONTROL, "no-store");
            // With none at all a form of ours would be posted with an origin of "null".
            set(header::REFERRER_POLICY, "same-origin");
            all.insert(header::CONTENT_SECURITY_POLICY, page_policy(form_targets));
        }
        Kind::Json => {
            set(header::CONTENT_TYPE, "application/json");
            set(header::CACHE_CONTROL, "no-store");
            set(header::REFERRER_POLICY, "no-referrer");
            set(header::CONTENT_SECURITY_POLICY, NOTHING);
        }
        Kind::Asset(asset) | Kind::Logo(asset) => {
            set(header::CONTENT_TYPE, asset.content_type);
            set(header::CACHE_CONTROL, "public, max-age=31536000, immutable");
            set(header::REFERRER_POLICY, "no-referrer");
            set(header::CONTENT_SECURITY_POLICY, if matches!(kind, Kind::Logo(_)) { NOTHING_AT_ALL } else { NOTHING });
            if let Ok(etag) = HeaderValue::try_from(&asset.etag) {
                all.insert(header::ETAG, etag);
            }
        }
    }
    all
}

fn page_policy(form_targets: &[String]) -> HeaderValue {
    let mut targets: Vec<String> = form_targets.iter().filter_map(|target| origin(target)).collect();
    targets.sort_unstable();
    targets.dedup();
    let forms = targets.iter().fold("form-action 'self'".to_owned(), |forms, target| forms + " " + target);
    let policy = format!(
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; {forms}; frame-ancestors 'none'; base-uri 'none'; \
         require-trusted-types-for 'script'"
    );
    HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static(NOTHING))
}

/// Of a web address; what is none adds nothing to the policy.
fn origin(address: &str) -> Option<String> {
    let url = Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let origin = url.origin().ascii_serialization();
    // A host may hold what ends a directive: the URL standard forbids fewer characters than the policy's grammar.
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'/' | b'.' | b'-' | b'[' | b']');
    origin.bytes().all(plain).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::assets;

    fn text(all: &HeaderMap, name: &str) -> String {
        all.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_page_lets_in_what_is_ours_and_nothing_else() {
        let targets = ["https://login.corp.example/realms/corp/logout?x=1".to_owned(), "https://portal.apps.example:8443/".to_owned()];
        let all = headers(Kind::Page { form_targets: &targets });
        assert_eq!(
            text(&all, "content-security-policy"),
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self' https://login.corp.example \
             https://portal.apps.example:8443; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
        );
        for (name, expect) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(text(&all, name), expect, "{name}");
        }
    }

    #[test]
    fn no_address_adds_more_than_an_origin_to_the_policy() {
        let bad =
            ["javascript:alert(1)", "https://x.example;script-src *", "*", "", "data:text/html,x", "https://a b/", "'unsafe-inline'", "https://*.example/"];
        let all = headers(Kind::Page { form_targets: &bad.map(str::to_owned) });
        let control = headers(Kind::Page { form_targets: &[] });
        assert_eq!(text(&all, "content-security-policy"), text(&control, "content-security-policy"));
    }

    #[test]
    fn assets_are_kept_for_ever_and_a_logo_does_nothing() {
        let asset = headers(Kind::Asset(assets::style()));
        assert_eq!(text(&asset, "cache-control"), "public, max-age=31536000, immutable");
        assert_eq!(text(&asset, "content-type"), "text/css; charset=utf-8");
        assert!(text(&asset, "etag").starts_with('"'));
        let logo = headers(Kind::Logo(assets::mark()));
        assert!(text(&logo, "content-security-policy").split("; ").any(|directive| directive == "sandbox"));
        assert!(text(&headers(Kind::Json), "content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(text(&headers(Kind::Json), "cache-control"), "no-store");
    }
}
