//! `[provider]`: the local OpenID provider, which is there only if this section is.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use ipnet::IpNet;
use serde::Deserialize;
use weft_config::{ConfigError, Fields};

use super::{parse_duration, socket};
use crate::{
    limits::provider as limits,
    provider::{Issuer, origin},
};

/// Where the provider answers, where the configuration does not say.
pub(super) const SOCKET: &str = "/run/weft/provider.sock";
/// The same of the way out, in the directory of the other one.
pub(super) const OUT_SOCKET: &str = "provider-out.sock";
/// The client that is there when none is named.
const GATEWAY: &str = "weft-gateway";
/// The gateway's host in the mesh, for the bridge alone. Only the front can reach it.
pub(crate) const GATEWAY_HOST: &str = "gateway.weft.weft.internal";

/// What the local provider runs on.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    pub listen: Listen,
    /// Where the front waits for logout tokens to the gateway. `None`: nobody brings them there.
    pub out_socket: Option<PathBuf>,
    /// Whose the two sockets are besides the bridge's user. `None`: nobody's.
    pub socket_group: Option<u32>,
    /// The public address, an origin.
    pub issuer: String,
    /// How long a login is remembered: unused, and at most.
    pub session_idle: Duration,
    pub session_life: Duration,
    /// Life of ID and access tokens.
    pub token_ttl: Duration,
    /// Networks of proxies that say whose a request is.
    pub proxies: Vec<IpNet>,
    pub clients: Vec<ClientConfig>,
}

/// Where it speaks plain HTTP, for the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// For the front, which is a workload of the mesh.
    Socket(PathBuf),
    /// Port 0: the kernel chooses, and the bridge prints it.
    Tcp(SocketAddr),
}

/// A relying party.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub id: String,
    /// `None`: a file in the state directory.
    pub secret_file: Option<PathBuf>,
    pub redirect_uris: Vec<String>,
    pub post_logout_redirect_uris: Vec<String>,
    pub backchannel_logout_uri: Option<String>,
    pub origins: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    socket: Option<PathBuf>,
    out_socket: Option<PathBuf>,
    socket_group: Option<String>,
    listen: Option<String>,
    issuer: String,
    session_idle: Option<String>,
    session_life: Option<String>,
    token_ttl: Option<String>,
    #[serde(default)]
    proxies: Vec<String>,
    #[serde(default)]
    clients: Vec<RawClient>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    id: String,
    secret_file: Option<PathBuf>,
    redirect_uris: Vec<String>,
    #[serde(default)]
    post_logout_redirect_uris: Vec<String>,
    backchannel_logout_uri: Option<String>,
    #[serde(default)]
    origins: Vec<String>,
}

impl Raw {
    /// Where the front finds the two sockets, where it is not told.
    pub(super) fn sockets(&self) -> (Option<&Path>, Option<&Path>) {
        (self.socket.as_deref(), self.out_socket.as_deref())
    }

    pub(super) fn validate(self, at: Fields<'_>) -> Result<ProviderConfig, ConfigError> {
        at_most(at, "provider.clients", self.clients.len(), limits::CLIENTS_MAX)?;
        at_most(at, "provider.proxies", self.proxies.len(), limits::PROXIES_MAX)?;
        let mut ids = BTreeSet::new();
        if let Some(twice) = self.clients.iter().find(|c| !ids.insert(c.id.clone())) {
            return Err(at.wrong("provider.clients.id", format!("{:?} is registered twice", twice.id)));
        }
        let net = |text: &String| at.parse("provider.proxies", text, "a network, as in \"100.64.0.0/16\"");
        let issuer = Issuer::parse(&self.issuer).map_err(|e| at.wrong("provider.issuer", e))?;
        let clients = if self.clients.is_empty() { vec![RawClient::gateway(&issuer, at)?] } else { self.clients };
        let listen = match (self.socket, self.listen) {
            (Some(_), Some(_)) => return Err(at.wrong("provider.listen", "stands beside provider.socket: one of both is possible".to_owned())),
            (None, Some(tcp)) => Listen::Tcp(at.parse("provider.listen", &tcp, "an address with a port, as in \"127.0.0.1:15021\"")?),
            (path, None) => Listen::Socket(socket(at, "provider.socket", path.unwrap_or_else(|| SOCKET.into()))?),
        };
        let out_socket = match (self.out_socket, &listen) {
            (Some(path), _) => Some(path),
            (None, Listen::Socket(path)) => Some(path.with_file_name(OUT_SOCKET)),
            (None, Listen::Tcp(_)) => None,
        };
        Ok(ProviderConfig {
            listen,
            out_socket: out_socket.map(|path| socket(at, "provider.out_socket", path)).transpose()?,
            socket_group: self.socket_group.map(|group| group_id(at, &group)).transpose()?,
            issuer: issuer.as_str().to_owned(),
            session_idle: time(at, "provider.session_idle", self.session_idle, limits::SESSION_IDLE, limits::SESSION_MIN, limits::SESSION_MAX)?,
            session_life: time(at, "provider.session_life", self.session_life, limits::SESSION_LIFE, limits::SESSION_MIN, limits::SESSION_MAX)?,
            token_ttl: time(at, "provider.token_ttl", self.token_ttl, limits::TOKEN_TTL, limits::TOKEN_TTL_MIN, limits::TOKEN_TTL_MAX)?,
            proxies: self.proxies.iter().map(net).collect::<Result<_, _>>()?,
            clients: clients.into_iter().map(|c| c.validate(at)).collect::<Result<_, _>>()?,
        })
    }
}

impl RawClient {
    /// The mesh's own gateway, whose addresses follow from the provider's.
    fn gateway(issuer: &Issuer, at: Fields<'_>) -> Result<Self, ConfigError> {
        let portal = issuer.portal().ok_or_else(|| {
            let problem = format!("none is named, and the gateway's addresses follow only from an issuer https://id.DOMAIN, which {} is not", issuer.as_str());
            at.wrong("provider.clients", problem)
        })?;
        Ok(Self {
            id: GATEWAY.to_owned(),
            secret_file: None,
            redirect_uris: vec![format!("{portal}/.weft/callback")],
            post_logout_redirect_uris: vec![format!("{portal}/.weft/signed-out")],
            backchannel_logout_uri: Some(format!("http://{GATEWAY_HOST}/.weft/backchannel-logout")),
            origins: vec![],
        })
    }

    fn validate(self, at: Fields<'_>) -> Result<ClientConfig, ConfigError> {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        // The id is part of a file's name.
        let plain = self.id.bytes().all(inside) && self.id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !plain || self.id.len() > limits::CLIENT_ID_MAX_CHARS {
            return Err(at.wrong("provider.clients.id", format!("{:?} must be letters, digits and . _ -, at most {}", self.id, limits::CLIENT_ID_MAX_CHARS)));
        }
        if self.redirect_uris.is_empty() {
            return Err(at.wrong("provider.clients.redirect_uris", format!("client {} has none: nobody could come back from a login", self.id)));
        }
        for (field, uris) in
            [("redirect_uris", &self.redirect_uris), ("post_logout_redirect_uris", &self.post_logout_redirect_uris), ("origins", &self.origins)]
        {
            at_most(at, &format!("provider.clients.{field}"), uris.len(), limits::CLIENT_URIS_MAX)?;
        }
        for (field, uris) in [("redirect_uris", &self.redirect_uris), ("post_logout_redirect_uris", &self.post_logout_redirect_uris)] {
            if let Some(bad) = uris.iter().find(|u| !is_address(u)) {
                return Err(at.wrong(&format!("provider.clients.{field}"), format!("{bad:?} must be a whole https (or http) address without a fragment")));
            }
        }
        if let Some(bad) = self.origins.iter().find(|o| origin(o).as_ref() != Some(o)) {
            return Err(at.wrong("provider.clients.origins", format!("{bad:?} must be scheme, host and port alone, lower-case")));
        }
        if let Some(uri) = &self.backchannel_logout_uri
            && !(is_address(uri) && uri.starts_with("http://"))
        {
            let wanted = format!("{uri:?} must be a plain http address: the mesh encrypts the way to it");
            return Err(at.wrong("provider.clients.backchannel_logout_uri", wanted));
        }
        let secret_file = self.secret_file.map(|path| at.absolute("provider.clients.secret_file", path)).transpose()?;
        Ok(ClientConfig {
            id: self.id,
            secret_file,
            redirect_uris: self.redirect_uris,
            post_logout_redirect_uris: self.post_logout_redirect_uris,
            backchannel_logout_uri: self.backchannel_logout_uri,
            origins: self.origins,
        })
    }
}

/// A number, or a name of `/etc/group`.
fn group_id(at: Fields<'_>, group: &str) -> Result<u32, ConfigError> {
    let known = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = || known.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|l| l[0] == group).and_then(|l| l.get(2)?.parse().ok());
    let unknown = || at.wrong("provider.socket_group", format!("{group:?} is no group of /etc/group: make it, or give its number"));
    group.parse().ok().or_else(named).ok_or_else(unknown)
}

/// Without a fragment, which a redirect could not carry (RFC 6749 section 3.1.2).
fn is_address(text: &str) -> bool {
    !text.contains('#') && text.is_ascii() && text.parse::<Uri>().is_ok() && origin(text).is_some()
}

fn at_most(at: Fields<'_>, field: &str, found: usize, max: usize) -> Result<(), ConfigError> {
    if found > max {
        return Err(at.wrong(field, format!("{found} are named, at most {max} are possible")));
    }
    Ok(())
}

fn time(at: Fields<'_>, field: &str, value: Option<String>, default: Duration, min: Duration, max: Duration) -> Result<Duration, ConfigError> {
    let Some(value) = value else { return Ok(default) };
    let time = parse_duration(&value).map_err(|e| at.wrong(field, e.to_string()))?;
    if time < min || time > max {
        return Err(at.wrong(field, format!("{value:?} is not between {} s and {} s", min.as_secs(), max.as_secs())));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CLIENT: &str = "\n[[clients]]\nid = \"gateway\"\nredirect_uris = [\"https://portal.example/.weft/callback\"]\n";

    fn read(text: &str) -> Result<ProviderConfig, String> {
        let raw: Raw = weft_config::parse(Path::new("/x.toml"), text).map_err(|e| e.to_string())?;
        raw.validate(Fields { file: Path::new("/x.toml") }).map_err(|e| e.to_string())
    }

    #[test]
    fn silence_means_the_defaults_and_every_field_is_read() {
        let silent = read(&format!("issuer = \"https://id.example\"{CLIENT}")).unwrap();
        assert_eq!((silent.listen, silent.token_ttl.as_secs(), silent.clients[0].secret_file.as_ref()), (Listen::Socket(SOCKET.into()), 300, None));
        assert_eq!((silent.out_socket, silent.socket_group), (Some("/run/weft/provider-out.sock".into()), None));
        assert_eq!((silent.session_idle.as_secs(), silent.session_life.as_secs()), (43_200, 604_800));
        let full = "listen = \"127.0.0.1:0\"\nissuer = \"https://id.example\"\nsession_idle = \"1h\"\nsession_life = \"2h\"\ntoken_ttl = \"60s\"\nproxies = [\"10.0.0.0/8\"]\n\
                    [[clients]]\nid = \"g\"\nsecret_file = \"/s\"\nredirect_uris = [\"https://a/b\"]\npost_logout_redirect_uris = [\"https://a/\"]\n\
                    backchannel_logout_uri = \"http://gateway.weft.internal/x\"\norigins = [\"https://b.example\"]\n";
        let full = read(full).unwrap();
        assert_eq!((full.session_idle.as_secs(), full.session_life.as_secs(), full.proxies.len()), (3600, 7200, 1));
        assert_eq!(full.clients[0].backchannel_logout_uri.as_deref(), Some("http://gateway.weft.internal/x"));
        assert_eq!((full.listen, full.out_socket), (Listen::Tcp("127.0.0.1:0".parse().unwrap()), None));
        let sockets = read(&format!("issuer = \"https://id.example\"\nsocket = \"/r/p.sock\"\nsocket_group = \"7\"{CLIENT}")).unwrap();
        assert_eq!((sockets.listen, sockets.socket_group), (Listen::Socket("/r/p.sock".into()), Some(7)));
        assert_eq!(sockets.out_socket, Some("/r/provider-out.sock".into()));
        let root = read(&format!("issuer = \"https://id.example\"\nsocket_group = \"root\"\nout_socket = \"/o.sock\"{CLIENT}")).unwrap();
        assert_eq!((root.socket_group, root.out_socket), (Some(0), Some("/o.sock".into())));
    }

    #[test]
    fn without_clients_the_gateway_is_one_and_its_addresses_follow_from_the_issuer() {
        for (issuer, portal) in
            [("https://id.apps.corp.example", "https://portal.apps.corp.example"), ("https://id.localhost:8443", "https://portal.localhost:8443")]
        {
            let read = read(&format!("issuer = \"{issuer}\"")).unwrap();
            let [client] = &read.clients[..] else { panic!("{read:?}") };
            assert_eq!((client.id.as_str(), &client.redirect_uris[..]), ("weft-gateway", &[format!("{portal}/.weft/callback")][..]));
            assert_eq!(client.post_logout_redirect_uris, [format!("{portal}/.weft/signed-out")]);
            assert_eq!(client.backchannel_logout_uri.as_deref(), Some("http://gateway.weft.weft.internal/.weft/backchannel-logout"));
            assert!(client.secret_file.is_none());
        }
        for issuer in ["https://login.corp.example", "https://id", "https://idp.corp.example", "http://127.0.0.1:5"] {
            let error = read(&format!("issuer = \"{issuer}\"")).unwrap_err();
            assert!(error.contains("field provider.clients: none is named"), "{issuer}: {error}");
        }
    }

    #[test]
    fn wrong_values_name_their_field() {
        let issuer = "issuer = \"https://id.example\"";
        let client = |more: &str| format!("{issuer}\n[[clients]]\n{more}\n");
        for (text, words) in [
            ("", "missing field `issuer`"),
            ("issuer = \"http://id.example\"", "field provider.issuer"),
            (&format!("{issuer}\ncolour = 1"), "unknown field `colour`"),
            (&format!("{issuer}\nlisten = \"x\""), "field provider.listen"),
            (&format!("{issuer}\nlisten = \"127.0.0.1:0\"\nsocket = \"/p.sock\""), "one of both"),
            (&format!("{issuer}\nsocket = \"p.sock\""), "field provider.socket: p.sock must be an absolute path"),
            (&format!("{issuer}\nout_socket = \"/{}\"", "o".repeat(100)), "field provider.out_socket"),
            (&format!("{issuer}\nsocket_group = \"no-such-group\""), "field provider.socket_group: \"no-such-group\" is no group"),
            (&format!("{issuer}\ntoken_ttl = \"9s\""), "field provider.token_ttl: \"9s\" is not between 10 s and 3600 s"),
            (&format!("{issuer}\nproxies = [\"all\"]"), "field provider.proxies"),
            (&format!("{issuer}{CLIENT}{CLIENT}"), "is registered twice"),
            (&client("id = \"../x\"\nredirect_uris = [\"https://a/b\"]"), "field provider.clients.id"),
            (&client("id = \"a\"\nredirect_uris = []"), "has none"),
            (&client("id = \"a\"\nredirect_uris = [\"https://a/b#c\"]"), "field provider.clients.redirect_uris"),
            (&client("id = \"a\"\nredirect_uris = [\"javascript:alert(1)\"]"), "field provider.clients.redirect_uris"),
            (&client("id = \"a\"\nredirect_uris = [\"https://a/b\"]\norigins = [\"https://a/\"]"), "field provider.clients.origins"),
            (&client("id = \"a\"\nredirect_uris = [\"https://a/b\"]\nbackchannel_logout_uri = \"https://a/b\""), "must be a plain http address"),
            (&client("id = \"a\"\nredirect_uris = [\"https://a/b\"]\nsecret_file = \"s\""), "field provider.clients.secret_file"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
