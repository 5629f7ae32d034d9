//! What the relying party is told: its hosts, its lifetimes, its providers. Checked once.

use std::{fmt, net::IpAddr, path::PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::sso::{
    claims::{ClaimError, ClaimMap, Person},
    session::Lifetimes,
};

/// A secret of the configuration: no Debug shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

#[derive(Clone, Debug)]
pub struct SsoConfig {
    /// Holds the single sign-on session and every address that providers know; lower-case, such as `portal.apps.corp.example`.
    pub auth_host: String,
    /// The port that browsers see.
    pub public_port: u16,
    pub lifetimes: Lifetimes,
    /// The first is the usual one. With several a person chooses.
    pub providers: Vec<ProviderConfig>,
    /// Keys, sessions, and what was last known of providers. It is this process's alone.
    pub state_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderConfig {
    /// Names it in addresses, files and logs: lower-case letters, digits and dashes.
    pub name: String,
    /// What a person reads when they choose.
    pub title: String,
    /// Byte for byte as the provider says it.
    pub issuer: String,
    pub client_id: String,
    /// Absent for a public client; there is PKCE in any case.
    pub client_secret: Option<Secret>,
    /// `openid` is always among them.
    pub scopes: Vec<String>,
    pub claims: ClaimMap,
    /// Groups that are taken from it; others that it says are as if it had not. Empty: all.
    pub groups: Vec<String>,
    /// Audiences of bearer tokens that API clients may send. None: bearer tokens of this provider are refused.
    pub api_audiences: Vec<String>,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("no identity provider is configured")]
    NoProvider,
    #[error("identity provider {0:?}: a name has 1 to 63 lower-case letters, digits and dashes")]
    Name(String),
    #[error("identity provider {0} is configured twice, or its issuer is another one's")]
    Twice(String),
    #[error("identity provider {name}: issuer {issuer:?} must be an https address without query or fragment (http only for a loopback address)")]
    Issuer { name: String, issuer: String },
    #[error("identity provider {0}: the client id is empty")]
    Client(String),
    #[error("auth host {0:?} must be a lower-case host name without a port")]
    AuthHost(String),
}

impl Secret {
    pub fn new(secret: String) -> Self {
        Self(Zeroizing::new(secret))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl SsoConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let host = Host::parse(&self.auth_host).map(|host| host.to_string());
        if host.as_deref() != Ok(self.auth_host.as_str()) {
            return Err(ConfigError::AuthHost(self.auth_host.clone()));
        }
        check_providers(&self.providers)
    }
}

pub(crate) fn check_providers(providers: &[ProviderConfig]) -> Result<(), ConfigError> {
    if providers.is_empty() {
        return Err(ConfigError::NoProvider);
    }
    for (at, provider) in providers.iter().enumerate() {
        provider.check()?;
        if providers[..at].iter().any(|other| other.name == provider.name || other.issuer == provider.issuer) {
            return Err(ConfigError::Twice(provider.name.clone()));
        }
    }
    Ok(())
}

impl ProviderConfig {
    /// The person whom these claims are about.
    pub(crate) fn person(&self, claims: &Map<String, Value>) -> Result<Person, ClaimError> {
        let mut person = self.claims.person(&self.name, claims)?;
        if !self.groups.is_empty() {
            person.groups.retain(|group| self.groups.contains(group));
        }
        Ok(person)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 63 || !self.name.chars().all(fits) {
            return Err(ConfigError::Name(self.name.clone()));
        }
        if !is_trusted_address(&self.issuer) {
            return Err(ConfigError::Issuer { name: self.name.clone(), issuer: self.issuer.clone() });
        }
        if self.client_id.is_empty() {
            return Err(ConfigError::Client(self.name.clone()));
        }
        Ok(())
    }
}

/// Tokens and codes go there: over TLS, or not off this machine.
pub(crate) fn is_trusted_address(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let loopback = match url.host() {
        // RFC 6761 section 6.3.
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => return false,
    };
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    plain && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(name: &str, issuer: &str) -> ProviderConfig {
        ProviderConfig {
            name: name.to_owned(),
            title: name.to_owned(),
            issuer: issuer.to_owned(),
            client_id: "weft".to_owned(),
            client_secret: Some(Secret::new("hush".to_owned())),
            scopes: Vec::new(),
            claims: ClaimMap::default(),
            groups: Vec::new(),
            api_audiences: Vec::new(),
        }
    }

    #[track_caller]
    fn check(auth_host: &str, providers: Vec<ProviderConfig>, expect: Result<(), &str>) {
        let config =
            SsoConfig { auth_host: auth_host.to_owned(), public_port: 443, lifetimes: Lifetimes::default(), providers, state_dir: PathBuf::from("/nowhere") };
        assert!(!format!("{config:?}").contains("hush"));
        match (config.check().map_err(|e| e.to_string()), expect) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_groups_that_are_named_are_taken_when_any_are() {
        let claims = serde_json::json!({"sub": "1", "groups": ["sales", "admins"]});
        let mut provider = provider("corp", "https://id.corp.example");
        for (named, expect) in [(vec![], vec!["admins", "sales"]), (vec!["sales".to_owned(), "ops".to_owned()], vec!["sales"])] {
            provider.groups = named;
            assert_eq!(provider.person(claims.as_object().unwrap()).unwrap().groups, expect);
        }
    }

    #[test]
    fn a_configuration_is_whole_or_refused() {
        let good = || provider("corp", "https://id.corp.example/realms/weft");
        check("portal.corp.example", vec![good(), provider("two", "https://id.two.example")], Ok(()));
        check("portal.corp.example", vec![provider("dev", "http://127.0.0.1:9/x")], Ok(()));
        check("portal.corp.example", vec![], Err("no identity provider"));
        for bad in ["http://id.corp.example", "https://id.corp.example/?a=b", "ftp://127.0.0.1", "id.corp.example", "https://user@id.corp.example"] {
            check("portal.corp.example", vec![provider("corp", bad)], Err("must be an https address"));
        }
        check("portal.corp.example", vec![provider("Corp", "https://a.example")], Err("lower-case letters"));
        check("portal.corp.example", vec![good(), good()], Err("configured twice"));
        check("portal.corp.example", vec![good(), provider("other", &good().issuer)], Err("configured twice"));
        for bad in ["portal:8443", "Portal.corp.example", ""] {
            check(bad, vec![good()], Err("auth host"));
        }
    }
}
