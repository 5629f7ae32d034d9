//! `[front]`: what relays between the mesh and the local provider. It stands in the bridge's file, or in one of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use weft_config::{ConfigError, Fields};
use weft_telemetry::LogFormat;
use weft_types::builtin;

use super::{
    provider::{GATEWAY_HOST, OUT_SOCKET, SOCKET},
    socket,
};

/// What the front runs on. There is nothing secret in it.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// For the mesh. Port 0: the kernel chooses, and the front prints it.
    pub listen: SocketAddr,
    /// Where the provider answers.
    pub provider: PathBuf,
    /// Where the bridge gives logout tokens out.
    pub out: PathBuf,
    /// Where these go, `HOST:PORT`, and nowhere else.
    pub backchannel: String,
    pub log_level: String,
    pub log_format: LogFormat,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    listen: Option<String>,
    provider: Option<PathBuf>,
    out: Option<PathBuf>,
    backchannel: Option<String>,
}

impl FrontConfig {
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &weft_config::read(file)?)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let (at, whole) = (Fields { file }, weft_config::parse::<super::Raw>(file, text)?);
        let front = whole.front;
        let (provider, out) = whole.provider.as_ref().map_or((None, None), |p| p.sockets());
        let provider = front.provider.or_else(|| provider.map(Path::to_owned)).unwrap_or_else(|| SOCKET.into());
        let out = front.out.or_else(|| out.map(Path::to_owned)).unwrap_or_else(|| provider.with_file_name(OUT_SOCKET));
        let listen = front.listen.unwrap_or_else(|| format!("0.0.0.0:{}", builtin::PROVIDER_TARGET_PORT));
        let backchannel = front.backchannel.unwrap_or_else(|| format!("{GATEWAY_HOST}:80"));
        if !backchannel.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p != 0)) {
            return Err(at.wrong("front.backchannel", format!("{backchannel:?} is not HOST:PORT")));
        }
        Ok(Self {
            listen: at.parse("front.listen", &listen, "an address with a port, as in \"0.0.0.0:15013\"")?,
            provider: socket(at, "front.provider", provider)?,
            out: socket(at, "front.out", out)?,
            backchannel,
            log_format: whole.log.format(at)?,
            log_level: whole.log.level(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<FrontConfig, String> {
        FrontConfig::parse(Path::new("/x.toml"), text).map_err(|e| e.to_string())
    }

    #[track_caller]
    fn check(text: &str, expect: [&str; 4]) {
        let c = read(text).unwrap();
        let found = [c.listen.to_string(), c.provider.display().to_string(), c.out.display().to_string(), c.backchannel];
        assert_eq!(found, expect);
    }

    #[test]
    fn it_finds_the_bridge_in_the_bridges_file_and_in_one_of_its_own() {
        let usual = ["0.0.0.0:15013", "/run/weft/provider.sock", "/run/weft/provider-out.sock", "gateway.weft.weft.internal:80"];
        check("", usual);
        check("[provider]\nissuer = \"https://id.example\"\n[front]\n", usual);
        let own = ["127.0.0.1:0", "/r/p.sock", "/r/provider-out.sock", "[::1]:9"];
        check("[front]\nlisten = \"127.0.0.1:0\"\nprovider = \"/r/p.sock\"\nbackchannel = \"[::1]:9\"\n", own);
        let shared = ["0.0.0.0:15013", "/r/p.sock", "/o.sock", "gateway.weft.weft.internal:80"];
        check("state_dir = \"/s\"\n[provider]\nissuer = \"https://id.example\"\nsocket = \"/r/p.sock\"\nout_socket = \"/o.sock\"\n", shared);
    }

    #[test]
    fn wrong_values_name_their_field() {
        for (text, words) in [
            ("[front]\ncolour = 1", "unknown field `colour`"),
            ("[front]\nlisten = \"x\"", "field front.listen"),
            ("[front]\nprovider = \"p\"", "field front.provider"),
            ("[front]\nout = \"o\"", "field front.out"),
            ("[front]\nbackchannel = \"gateway\"", "field front.backchannel: \"gateway\" is not HOST:PORT"),
            ("[front]\nbackchannel = \":80\"", "field front.backchannel"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
