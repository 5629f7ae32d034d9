//! The provider's two cookies: the session, and what a form is bound to. Both are of this host alone, and no script sees them.
//!
//! Two tabs that begin at the same time are given two bindings, and must not take each other's away: so the cookie of a form is named by the
//! binding too. Whoever has one is given no other, so that there are no more of them than tabs that began at once.
//!
//! Their names do not begin as the gateway's do, which takes its own cookies out of whatever it passes on.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::limits::provider as limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cookie {
    Session,
    Form,
}

/// Of the binding, in a cookie's name: enough to tell a browser's few from each other.
const NAMED_BY_CHARS: usize = 8;

impl Cookie {
    /// `__Host-` (RFC 6265bis section 4.1.3.2) where it can be: it wants https.
    fn name(self, https: bool) -> &'static str {
        match (self, https) {
            (Self::Session, true) => "__Host-id",
            (Self::Session, false) => "id",
            (Self::Form, true) => "__Host-id-form",
            (Self::Form, false) => "id-form",
        }
    }

    fn is_named(self, found: &str, name: &str) -> bool {
        match found.strip_prefix(name) {
            Some("") => self == Self::Session,
            Some(which) => self == Self::Form && which.starts_with('-'),
            None => false,
        }
    }

    /// Lax: a login starts with a navigation from another site, and must find the session.
    pub(super) fn set(self, https: bool, value: &str, life: Option<Duration>) -> String {
        let secure = if https { "; Secure" } else { "" };
        let age = life.map_or(String::new(), |l| format!("; Max-Age={}", l.as_secs()));
        let which = match self {
            Self::Session => String::new(),
            Self::Form => format!("-{}", value.get(..NAMED_BY_CHARS).unwrap_or(value)),
        };
        format!("{}{which}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}", self.name(https))
    }

    pub(super) fn clear(self, https: bool) -> String {
        self.set(https, "", Some(Duration::ZERO))
    }

    /// Every value that the browser sent under this name: an older one must not hide the right one.
    pub(super) fn values(self, https: bool, headers: &HeaderMap) -> impl Iterator<Item = &str> {
        let name = self.name(https);
        headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(';'))
            .filter_map(move |pair| pair.trim().split_once('=').filter(|(n, _)| self.is_named(n, name)))
            .map(|(_, value)| value)
            // Ours are 256 bits in base64.
            .filter(|value| value.len() == 43)
            .take(limits::COOKIES_TRIED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_the_hosts_own_where_it_can_be() {
        assert_eq!(Cookie::Session.set(true, "v", Some(Duration::from_secs(9))), "__Host-id=v; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=9");
        assert_eq!(Cookie::Form.set(false, "v", None), "id-form-v=v; Path=/; HttpOnly; SameSite=Lax");
        assert!(Cookie::Session.clear(true).contains("__Host-id=; ") && Cookie::Session.clear(true).contains("Max-Age=0"));
    }

    #[test]
    fn every_value_of_the_name_is_seen_up_to_the_bound() {
        let (one, two) = ("1".repeat(43), "2".repeat(43));
        let read = |text: String| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, text.parse().unwrap());
            Cookie::Session.values(true, &headers).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(read(format!("a=b; __Host-id={one}; __Host-id={two}; id={two}")), [one.clone(), two]);
        let (a, b) = ("a".repeat(43), "b".repeat(43));
        let mut headers = HeaderMap::new();
        let sent = [&a, &b].map(|value| Cookie::Form.set(true, value, None).split(';').next().unwrap().to_owned()).join("; ");
        headers.insert(header::COOKIE, format!("{sent}; __Host-id={one}; __Host-id-formula={one}").parse().unwrap());
        assert_eq!(Cookie::Form.values(true, &headers).collect::<Vec<_>>(), [a, b], "those of two tabs, and no other");
        assert_eq!(read("__Host-id=short".into()), Vec::<String>::new());
        assert_eq!(read(format!("__Host-id={one}; ").repeat(9)).len(), limits::COOKIES_TRIED_MAX);
    }
}
