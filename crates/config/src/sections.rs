//! The sections that every program has.

use std::net::SocketAddr;

use serde::Deserialize;
use weft_telemetry::LogFormat;

use crate::{ConfigError, Fields};

/// `[metrics]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    listen: Option<String>,
}

/// `[log]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    level: Option<String>,
    format: Option<String>,
}

impl Metrics {
    /// Where to serve them; `None`: nowhere.
    pub fn listen(&self, at: Fields<'_>) -> Result<Option<SocketAddr>, ConfigError> {
        self.listen.as_deref().map(|l| at.parse("metrics.listen", l, "an address with a port, as in \"127.0.0.1:15020\"")).transpose()
    }
}

impl Log {
    pub fn level(&self) -> String {
        self.level.clone().unwrap_or_else(|| "info".to_owned())
    }

    pub fn format(&self, at: Fields<'_>) -> Result<LogFormat, ConfigError> {
        self.format.as_deref().map_or(Ok(LogFormat::default()), |f| at.parse("log.format", f, "\"text\" or \"json\""))
    }
}
