//! Addresses that somebody else wrote: what becomes a link, and what stays text.

use maud::{Markup, html};
use url::{Url, form_urlencoded};

/// A path of this host, or `http` or `https`. Whatever else a browser might run or open is no link.
pub(super) fn link(address: &str) -> Option<&str> {
    let path = address.starts_with('/') && !address.starts_with("//") && !address.contains(['\\', '\t', '\n', '\r']);
    let web = || Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    (path || web()).then_some(address)
}

/// The host of an address, for people to see where a link leads.
pub(super) fn host(address: &str) -> Option<String> {
    Url::parse(address).ok()?.host_str().map(str::to_owned)
}

/// How to reach somebody: a mail address and a web address are links, everything else (a channel, a telephone number) is text.
pub(super) fn contact(way: &str, mail: Option<&Mail<'_>>) -> Markup {
    let way = way.trim();
    if is_mail_address(way) {
        let to = mail.map_or_else(|| format!("mailto:{way}"), |mail| mail.to(way));
        return html! { a href=(to) { (way) } };
    }
    match link(way).filter(|way| !way.starts_with('/')) {
        Some(to) => html! { a href=(to) rel="noreferrer" { (way) } },
        None => html! { span dir="auto" { (way) } },
    }
}

/// What a mail is begun with.
pub(super) struct Mail<'a> {
    pub(super) subject: &'a str,
    pub(super) body: &'a str,
}

impl Mail<'_> {
    /// RFC 6068: a space is `%20`, never `+`.
    fn to(&self, address: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("subject", self.subject).append_pair("body", self.body).finish();
        format!("mailto:{address}?{}", query.replace('+', "%20"))
    }
}

/// Those that need no encoding in a `mailto`; a stranger one stays text.
fn is_mail_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let plain = |part: &str, also: &[u8]| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || also.contains(&b));
    plain(local, b"._-") && plain(domain, b".-") && domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_web_addresses_are_links() {
        for good in ["/", "/.weft/logout", "https://shop.apps.example/a?b#c", "http://[2001:db8::1]:8080/"] {
            assert_eq!(link(good), Some(good));
        }
        for bad in [
            "",
            "//evil.example/",
            "/\\evil.example/",
            "/\t/evil.example",
            "javascript:alert(1)",
            " javascript:alert(1)",
            "java\nscript:alert(1)",
            "JAVASCRIPT:x",
            "data:text/html,x",
            "vbscript:x",
            "blob:https://x/1",
            "mailto:a@b.c",
            "evil.example",
        ] {
            assert_eq!(link(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_mail_address_is_a_mailto_and_a_channel_is_text() {
        let mail = Mail { subject: "Access & more", body: "flow 1+1" };
        let found = contact(" alice@corp.example ", Some(&mail)).into_string();
        assert_eq!(found, "<a href=\"mailto:alice@corp.example?subject=Access%20%26%20more&amp;body=flow%201%2B1\">alice@corp.example</a>");
        for text in ["#orders", "+49 30 1234", "a@b", "a b@c.d", "a?x=1@b.c", "<b>@x.y", "@x.y", "a@.y", "/etc"] {
            assert!(contact(text, None).into_string().starts_with("<span"), "{text}");
        }
        assert!(contact("https://help.example/", None).into_string().starts_with("<a href=\"https://help.example/\" rel=\"noreferrer\">"));
    }
}
