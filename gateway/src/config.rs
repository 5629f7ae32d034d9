//! The configuration file. Hosts, ports, routes and identity providers are not in it: they come with the policy.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use serde::Deserialize;
use weft_config::{ConfigError, Fields, parse_duration};
use weft_telemetry::LogFormat;

use crate::{limits, sso::Lifetimes};

#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node's agent answers its gateway.
    pub agent_socket: PathBuf,
    /// Keys and sessions; this process's alone.
    pub state_dir: PathBuf,
    /// Address of the public listeners. Their ports are the Mesh's.
    pub listen: IpAddr,
    pub certificates: Vec<CertificateFiles>,
    /// The gateway's secret at the local identity provider.
    pub local_provider_secret_file: Option<PathBuf>,
    /// PEM: who may vouch for identity providers outside the mesh.
    pub provider_roots: PathBuf,
    /// Peers whose word on the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    pub drain: Duration,
    pub lifetimes: Lifetimes,
    pub metrics: Option<std::net::SocketAddr>,
    /// `None`: standard output.
    pub access_log: Option<PathBuf>,
    pub log_level: String,
    pub log_format: LogFormat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Leaf first.
    pub chain: PathBuf,
    pub key: PathBuf,
}

impl Config {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &weft_config::read(file)?)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        weft_config::parse::<Raw>(file, text)?.validate(Fields { file })
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "default_agent_socket")]
    agent_socket: PathBuf,
    #[serde(default = "default_state_dir")]
    state_dir: PathBuf,
    listen: Option<String>,
    #[serde(default)]
    certificates: Vec<RawCertificate>,
    local_provider_secret_file: Option<PathBuf>,
    #[serde(default = "default_roots")]
    provider_roots: PathBuf,
    #[serde(default)]
    trusted_proxies: Vec<String>,
    drain_seconds: Option<u64>,
    #[serde(default)]
    sessions: RawSessions,
    #[serde(default)]
    metrics: weft_config::Metrics,
    #[serde(default)]
    access_log: RawAccessLog,
    #[serde(default)]
    log: weft_config::Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    chain: PathBuf,
    key: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSessions {
    idle: Option<String>,
    absolute: Option<String>,
    refresh: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccessLog {
    file: Option<PathBuf>,
}

fn default_agent_socket() -> PathBuf {
    "/run/weft/gateway.sock".into()
}

fn default_state_dir() -> PathBuf {
    "/var/lib/weft-gateway".into()
}

/// Where Debian and Alpine keep them.
fn default_roots() -> PathBuf {
    "/etc/ssl/certs/ca-certificates.crt".into()
}

impl Raw {
    fn validate(self, at: Fields<'_>) -> Result<Config, ConfigError> {
        let listen = self.listen.as_deref().map_or(Ok(IpAddr::from([0u16; 8])), |l| at.parse("listen", l, "an address without a port, as in \"::\""))?;
        if self.certificates.is_empty() {
            return Err(at.wrong("certificates", "no certificate is named: add [[certificates]] with chain and key, two PEM files".to_owned()));
        }
        let pair =
            |c: RawCertificate| Ok(CertificateFiles { chain: at.absolute("certificates.chain", c.chain)?, key: at.absolute("certificates.key", c.key)? });
        let secret = self.local_provider_secret_file.map(|p| at.absolute("local_provider_secret_file", p)).transpose()?;
        let proxies = self.trusted_proxies.iter().map(|p| network(at, p)).collect::<Result<_, _>>()?;
        let drain = self.drain_seconds.unwrap_or(limits::DRAIN_SECONDS);
        if drain > limits::DRAIN_MAX_SECONDS {
            return Err(at.wrong("drain_seconds", format!("{drain} is more than {}", limits::DRAIN_MAX_SECONDS)));
        }
        Ok(Config {
            agent_socket: at.socket("agent_socket", self.agent_socket, limits::SOCKET_PATH_MAX_BYTES)?,
            state_dir: at.absolute("state_dir", self.state_dir)?,
            listen,
            certificates: self.certificates.into_iter().map(pair).collect::<Result<_, _>>()?,
            local_provider_secret_file: secret,
            provider_roots: at.absolute("provider_roots", self.provider_roots)?,
            trusted_proxies: proxies,
            drain: Duration::from_secs(drain),
            lifetimes: self.sessions.lifetimes(at)?,
            metrics: self.metrics.listen(at)?,
            access_log: self.access_log.file.map(|p| at.absolute("access_log.file", p)).transpose()?,
            log_level: self.log.level(),
            log_format: self.log.format(at)?,
        })
    }
}

impl RawSessions {
    fn lifetimes(&self, at: Fields<'_>) -> Result<Lifetimes, ConfigError> {
        let usual = Lifetimes::default();
        let seconds = |field: &str, text: &Option<String>, usual: u64| match text {
            None => Ok(usual),
            Some(text) => match parse_duration(text) {
                Ok(life) if life.as_secs() > 0 => Ok(life.as_secs()),
                Ok(_) => Err(at.wrong(field, format!("{text:?} is no time at all"))),
                Err(e) => Err(at.wrong(field, e.to_string())),
            },
        };
        let absolute = seconds("sessions.absolute", &self.absolute, usual.absolute)?;
        if absolute > limits::SESSION_LIFE_MAX_SECONDS {
            return Err(at.wrong("sessions.absolute", format!("no session lives longer than {} days", limits::SESSION_LIFE_MAX_SECONDS / 86_400)));
        }
        Ok(Lifetimes { idle: seconds("sessions.idle", &self.idle, usual.idle)?, absolute, refresh: seconds("sessions.refresh", &self.refresh, usual.refresh)? })
    }
}

/// `10.0.0.0/8`, or one address.
fn network(at: Fields<'_>, text: &str) -> Result<IpNet, ConfigError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => at.parse("trusted_proxies", text, "an address or a network, as in \"10.0.0.0/8\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: &str = "[[certificates]]\nchain = \"/c.pem\"\nkey = \"/k.pem\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("/x.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_certificate_is_all_that_is_needed() {
        let config = parse(PAIR).unwrap();
        assert_eq!((config.listen.to_string().as_str(), config.drain.as_secs()), ("::", 30));
        assert_eq!(config.agent_socket, PathBuf::from("/run/weft/gateway.sock"));
        let full = "listen = \"127.0.0.1\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\ndrain_seconds = 5\n[sessions]\nidle = \"30m\"\nabsolute = \"2h\"\nrefresh = \"1m\"\n";
        let config = parse(&format!("{full}{PAIR}")).unwrap();
        assert_eq!(config.lifetimes, Lifetimes { idle: 1800, absolute: 7200, refresh: 60 });
        assert_eq!(config.trusted_proxies.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_field() {
        for (text, words) in [
            ("", "field certificates: no certificate is named"),
            ("listen = \"127.0.0.1:443\"\n", "field listen"),
            ("port = 443\n", "unknown field `port`"),
            ("trusted_proxies = [\"anybody\"]\n", "field trusted_proxies: \"anybody\""),
            ("drain_seconds = 100000\n", "field drain_seconds"),
            ("[sessions]\nidle = \"soon\"\n", "field sessions.idle"),
            ("[sessions]\nidle = \"0s\"\n", "no time at all"),
            ("[sessions]\nabsolute = \"90d\"\n", "30 days"),
        ] {
            let with_pair = if text.is_empty() { String::new() } else { format!("{text}{PAIR}") };
            let error = parse(&with_pair).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
