//! Where a sign-in leads back to: an address of one of our own hosts, and never any other (no open redirect).

use std::{fmt, sync::Arc};

use url::Url;

use crate::limits;

/// Whether a host (lower-case, without a port) has routes at the moment.
pub type HasRoutes = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// An address below `https://HOST[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: String,
    /// Begins with exactly one slash.
    path_and_query: String,
}

/// What a browser sees of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) auth_host: String,
    pub(crate) port: u16,
}

impl Place {
    /// The address of a request. One that is too long, or would lead into the sign-in itself, is the host's start page.
    pub(crate) fn new(host: &str, path_and_query: &str) -> Self {
        let fits = path_and_query.len() <= limits::ORIGINAL_URL_MAX_BYTES && is_local(path_and_query) && !path_and_query.starts_with("/.weft/");
        Self { host: host.to_owned(), path_and_query: if fits { path_and_query } else { "/" }.to_owned() }
    }

    pub(crate) fn start(host: &str) -> Self {
        Self::new(host, "/")
    }
}

impl Outside {
    /// `https://HOST`, with the port where it is not the usual one.
    pub(crate) fn origin(&self, host: &str) -> String {
        if self.port == 443 { format!("https://{host}") } else { format!("https://{host}:{}", self.port) }
    }

    pub(crate) fn url(&self, place: &Place) -> String {
        self.origin(&place.host) + &place.path_and_query
    }

    pub(crate) fn auth(&self, path: &str) -> String {
        self.origin(&self.auth_host) + path
    }

    /// Reads an address that came from outside. `None`: it is none of ours.
    pub(crate) fn parse(&self, url: &str, has_routes: &HasRoutes) -> Option<Place> {
        // Browsers drop tabs and line breaks and take a backslash for a slash: such an address is not what it looks like.
        if url.len() > limits::ORIGINAL_URL_MAX_BYTES + 300 || url.bytes().any(|b| b <= b' ' || b == b'\\' || b == 0x7f) {
            return None;
        }
        let parsed = Url::parse(url).ok()?;
        let host = parsed.host_str()?;
        let own = parsed.scheme() == "https"
            && parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.port_or_known_default() == Some(self.port)
            && (host == self.auth_host || has_routes(host));
        own.then(|| Place::new(host, &parsed[url::Position::BeforePath..url::Position::AfterQuery]))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path_and_query)
    }
}

/// A path that stays on the host it is opened at: `//x` and `/\x` would not.
fn is_local(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.bytes().any(|b| b <= b' ' || b == b'\\' || b == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_hosts_are_led_back_to() {
        let outside = Outside { auth_host: "portal.localhost".to_owned(), port: 8443 };
        let has_routes: HasRoutes = Arc::new(|host| host == "shop.localhost");
        let check = |url: &str, expect: Option<&str>| {
            assert_eq!(outside.parse(url, &has_routes).map(|place| place.to_string()).as_deref(), expect, "{url}");
        };
        check("https://shop.localhost:8443/orders?a=1", Some("shop.localhost/orders?a=1"));
        check("https://SHOP.localhost:8443/orders", Some("shop.localhost/orders"));
        check("https://portal.localhost:8443/", Some("portal.localhost/"));
        check("https://shop.localhost:8443/orders#frag", Some("shop.localhost/orders"));
        check("https://shop.localhost:8443", Some("shop.localhost/"));
        check("https://shop.localhost:8443/.weft/enter?code=x", Some("shop.localhost/"));
        check("https://shop.localhost:8443//evil.example", Some("shop.localhost/"));
        for bad in [
            "http://shop.localhost:8443/",
            "https://shop.localhost/",
            "https://evil.example:8443/",
            "https://shop.localhost.evil.example:8443/",
            "https://shop.localhost:8443@evil.example/",
            "https://user@shop.localhost:8443/",
            "https://shop.localhost:8443\\@evil.example/",
            "https:\\\\evil.example:8443/",
            "https://evil.example:8443/https://shop.localhost:8443/",
            "//evil.example/",
            "/orders",
            "javascript:alert(1)",
            "java\nscript:alert(1)",
            "https://shop.localhost:8443/\t/evil.example",
            "",
        ] {
            check(bad, None);
        }
        assert_eq!(outside.parse(&format!("https://shop.localhost:8443/{}", "a".repeat(2100)), &has_routes), Some(Place::start("shop.localhost")));
        assert_eq!(outside.parse(&format!("https://shop.localhost:8443/{}", "a".repeat(5000)), &has_routes), None);
        assert_eq!(outside.url(&Place::new("a.b", "/x?y")), "https://a.b:8443/x?y");
        assert_eq!(Outside { port: 443, ..outside }.auth("/.weft/start"), "https://portal.localhost/.weft/start");
    }

    #[test]
    fn a_path_stays_on_its_host() {
        for path in ["//evil", "/\\evil", "evil", "", "/a\nb", "/.weft/start?to=x"] {
            assert_eq!(Place::new("a", path).path_and_query, "/", "{path:?}");
        }
        assert_eq!(Place::new("a", "/b//c?d=//e").path_and_query, "/b//c?d=//e");
    }
}
