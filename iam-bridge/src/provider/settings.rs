//! What the provider is told by its configuration.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::Uri;
use weft_types::builtin;

use super::Client;

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) issuer: Issuer,
    /// How long a login is remembered: unused, and at most.
    pub(crate) session_idle: Duration,
    pub(crate) session_life: Duration,
    /// Life of ID and access tokens.
    pub(crate) token_ttl: Duration,
    pub(crate) clients: Vec<Arc<Client>>,
}

/// The provider's public address: an origin, as browsers write one. Everything is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    url: String,
    https: bool,
}

impl Settings {
    pub(super) fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.clients.iter().find(|c| c.id == id).cloned()
    }

    /// Where a form of ours may lead to in the end, as sources of a content security policy: browsers follow the redirects of a form only to
    /// these. The client leads on to the apps, which are the issuer's siblings or named in the configuration.
    pub(super) fn form_targets(&self, client: &Client) -> Vec<String> {
        let mut targets: Vec<String> = client.redirect_uris.iter().chain(&client.post_logout_redirect_uris).filter_map(|u| origin(u)).collect();
        targets.extend(self.issuer.siblings());
        targets.extend(client.origins.iter().cloned());
        targets.sort();
        targets.dedup();
        targets
    }
}

impl Issuer {
    /// `Err`: what is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| format!("{text:?} is no address, as in \"https://id.apps.corp.example\""))?;
        let plain = uri.path() == "/" && uri.query().is_none() && !text.ends_with('/');
        let Some(found) = origin(text).filter(|o| plain && o == text) else {
            return Err(format!("{text:?} must be scheme, host and port alone: lower-case, no path, no default port, no slash behind it"));
        };
        let https = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        if !https && !address.map_or(host == "localhost" || host.ends_with(".localhost"), |a| a.is_loopback()) {
            return Err(format!("{text:?} must be https, unless its host is this machine: passwords go there"));
        }
        Ok(Self { url: found, https })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.url
    }

    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    pub(super) fn endpoint(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// `https://id.apps.example:8443` → `https://portal.apps.example:8443`, where the gateway signs people in.
    pub(crate) fn portal(&self) -> Option<String> {
        let domain = self.url.strip_prefix(&format!("https://{}.", builtin::PROVIDER_HOST))?;
        Some(format!("https://{}.{domain}", builtin::PORTAL_HOST))
    }

    /// `https://id.apps.example:8443` → `https://*.apps.example:8443`; none where the host is an address or has no parent.
    fn siblings(&self) -> Option<String> {
        let (scheme, authority) = self.url.split_once("://")?;
        let (_, parent) = authority.split_once('.')?;
        let host = parent.split(':').next().unwrap_or_default();
        let numeric = host.split('.').next_back().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        (!numeric).then(|| format!("{scheme}://*.{parent}"))
    }
}

/// Scheme, host and port of an address as a browser writes an origin; `None`: it is no http or https address with a host, or has a user in it.
pub(crate) fn origin(uri: &str) -> Option<String> {
    let uri: Uri = uri.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = authority.host();
    if host.is_empty() || authority.as_str().contains('@') {
        return None;
    }
    let port = match authority.port_u16() {
        Some(port) if port != default => format!(":{port}"),
        _ => String::new(),
    };
    Some(format!("{scheme}://{}{port}", host.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_origin_and_secret_where_it_leaves_the_machine() {
        for good in ["https://id.apps.corp.example", "https://id.localhost:8443", "http://127.0.0.1:15021", "http://id.localhost:1", "http://[::1]:80808"] {
            let expect = !good.ends_with("80808");
            assert_eq!(Issuer::parse(good).is_ok(), expect, "{good}");
        }
        for bad in [
            "",
            "id.example",
            "https://id.example/",
            "https://id.example/x",
            "https://id.example?x",
            "https://ID.example",
            "https://id.example:443",
            "http://id.example",
            "https://u@id.example",
            "ftp://id.example",
            "http://127.evil.example",
        ] {
            assert!(Issuer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn siblings_share_the_parent_domain() {
        for (issuer, expect) in [
            ("https://id.localhost:8443", Some("https://*.localhost:8443")),
            ("https://id.apps.corp.example", Some("https://*.apps.corp.example")),
            ("http://127.0.0.1:5", None),
            ("http://localhost:5", None),
        ] {
            assert_eq!(Issuer::parse(issuer).unwrap().siblings().as_deref(), expect, "{issuer}");
        }
    }
}
