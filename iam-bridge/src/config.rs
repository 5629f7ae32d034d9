//! The configuration file, read once: what was written becomes what the bridge runs on, and unknown fields are refused.

mod front;
mod provider;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use weft_config::{ConfigError, Fields};
pub use weft_config::{ParseDurationError, parse_duration};
use weft_telemetry::LogFormat;

pub use front::FrontConfig;
pub(crate) use provider::GATEWAY_HOST;
pub use provider::{ClientConfig, Listen, ProviderConfig};

use crate::limits;

#[derive(Clone, Debug)]
pub struct Config {
    /// Keys and database; the bridge's alone.
    pub state_dir: PathBuf,
    /// The catalog's directory.
    pub catalog: PathBuf,
    /// For nodes. Port 0: the kernel chooses, and the bridge prints it.
    pub listen: SocketAddr,
    /// For people on this machine.
    pub admin_socket: PathBuf,
    pub svid_ttl: Duration,
    pub node_cert_ttl: Duration,
    pub metrics: Option<SocketAddr>,
    /// `None`: the mesh has an identity provider of its own, or none.
    pub provider: Option<ProviderConfig>,
    pub log_level: String,
    pub log_format: LogFormat,
}

impl Config {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &weft_config::read(file)?)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        weft_config::parse::<Raw>(file, text)?.validate(file)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    #[serde(default = "default_catalog")]
    catalog: PathBuf,
    #[serde(default = "default_listen")]
    listen: String,
    #[serde(default = "default_admin_socket")]
    admin_socket: PathBuf,
    svid_ttl: Option<String>,
    node_cert_ttl: Option<String>,
    #[serde(default)]
    metrics: weft_config::Metrics,
    #[serde(default)]
    log: weft_config::Log,
    provider: Option<provider::Raw>,
    #[serde(default)]
    front: front::Raw,
}

fn default_state_dir() -> PathBuf {
    "/var/lib/weft/bridge".into()
}

fn default_catalog() -> PathBuf {
    "/etc/weft/catalog".into()
}

fn default_listen() -> String {
    "0.0.0.0:15012".into()
}

fn default_admin_socket() -> PathBuf {
    "/run/weft/bridge.sock".into()
}

impl Raw {
    fn validate(self, file: &Path) -> Result<Config, ConfigError> {
        let at = Fields { file };
        Ok(Config {
            state_dir: at.absolute("state_dir", self.state_dir)?,
            catalog: at.absolute("catalog", self.catalog)?,
            listen: at.parse("listen", &self.listen, "an address with a port, as in \"0.0.0.0:15012\"")?,
            admin_socket: socket(at, "admin_socket", self.admin_socket)?,
            svid_ttl: ttl(at, "svid_ttl", self.svid_ttl, limits::SVID_TTL)?,
            node_cert_ttl: ttl(at, "node_cert_ttl", self.node_cert_ttl, limits::NODE_CERT_TTL)?,
            metrics: self.metrics.listen(at)?,
            provider: self.provider.map(|p| p.validate(at)).transpose()?,
            log_format: self.log.format(at)?,
            log_level: self.log.level(),
        })
    }
}

fn socket(at: Fields<'_>, field: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    at.socket(field, path, limits::SOCKET_MAX_BYTES)
}

fn ttl(at: Fields<'_>, field: &str, value: Option<String>, default: Duration) -> Result<Duration, ConfigError> {
    use weft_identity::limits::{TTL_MAX, TTL_MIN};
    let Some(value) = value else { return Ok(default) };
    let ttl = parse_duration(&value).map_err(|e| at.wrong(field, e.to_string()))?;
    if ttl < TTL_MIN || ttl > TTL_MAX {
        return Err(at.wrong(field, format!("{value:?} is not between {} s and {} days", TTL_MIN.as_secs(), TTL_MAX.as_secs() / 86_400)));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/x.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn silence_means_the_defaults_and_every_field_is_read() {
        let silent = parse("").unwrap();
        assert_eq!((silent.listen.port(), silent.svid_ttl, silent.metrics), (15012, Duration::from_secs(86_400), None));
        let full = "state_dir = \"/s\"\ncatalog = \"/c\"\nlisten = \"127.0.0.1:0\"\nadmin_socket = \"/a.sock\"\nsvid_ttl = \"60s\"\nnode_cert_ttl = \"2h\"\n\
                    [metrics]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
        let full = parse(full).unwrap();
        assert_eq!((full.state_dir, full.catalog, full.admin_socket), ("/s".into(), "/c".into(), "/a.sock".into()));
        assert_eq!((full.svid_ttl.as_secs(), full.node_cert_ttl.as_secs(), full.log_format), (60, 7200, LogFormat::Json));
    }

    #[test]
    fn wrong_values_name_their_field() {
        for (text, words) in [
            ("state = \"/s\"", "unknown field `state`"),
            ("state_dir = \"s\"", "field state_dir: s must be an absolute path"),
            ("listen = \"here\"", "field listen"),
            ("svid_ttl = \"59s\"", "field svid_ttl: \"59s\" is not between 60 s and 90 days"),
            ("svid_ttl = \"soon\"", "field svid_ttl: \"soon\" is no duration"),
            ("[log]\nformat = \"xml\"", "field log.format"),
            (&format!("admin_socket = \"/{}\"", "a".repeat(100)), "too long for a socket"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
