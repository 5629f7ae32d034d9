//! What a person types into the address line, as far as it decides anything.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{
    HostName, NameError,
    url_path::{self, PathError},
};

/// `https://HOST[:PORT][/PATH]`; what stands behind `?` or `#` decides nothing and is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl {
    pub host: HostName,
    pub port: Option<u16>,
    /// In normal form.
    pub path: String,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WebUrlError {
    #[error("{0:?} does not begin with https://, and the gateway speaks nothing else")]
    Scheme(String),
    #[error("{0:?} holds a user name, which is no part of what the gateway is asked for")]
    UserInfo(String),
    #[error("{0:?} has a port that is no number from 1 to 65535")]
    Port(String),
    #[error(transparent)]
    Host(NameError),
    #[error("{0}: the gateway refuses or rewrites it, so ask for the path that it makes of it")]
    Path(PathError),
}

impl FromStr for WebUrl {
    type Err = WebUrlError;
    fn from_str(s: &str) -> Result<Self, WebUrlError> {
        let rest = s.strip_prefix("https://").ok_or_else(|| WebUrlError::Scheme(s.to_owned()))?;
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(WebUrlError::UserInfo(s.to_owned()));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|n| *n != 0).ok_or_else(|| WebUrlError::Port(s.to_owned()))?)),
            None => (authority, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        url_path::check_normal(path).map_err(WebUrlError::Path)?;
        Ok(Self { host: host.to_ascii_lowercase().parse().map_err(WebUrlError::Host)?, port, path: path.to_owned() })
    }
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_gateway_would() {
        let check = |typed: &str, expect: &str| assert_eq!(typed.parse::<WebUrl>().unwrap().to_string(), expect);
        check("https://shop.localhost:8443/orders", "https://shop.localhost:8443/orders");
        check("https://Shop.Example", "https://shop.example/");
        check("https://shop.example?a=/../b", "https://shop.example/");
        check("https://shop.example/a?b#c", "https://shop.example/a");
        for bad in [
            "shop.example",
            "http://shop.example/",
            "https://",
            "https://a@b/",
            "https://shop.example:0/",
            "https://shop.example:x/",
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://shop.example/a/../b",
            "https://shop.example/%61",
            "https://shop.example/a//b",
        ] {
            assert!(bad.parse::<WebUrl>().is_err(), "{bad}");
        }
    }
}
