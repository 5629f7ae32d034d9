//! Log lines on standard error, for people or for programs.

use std::{fmt, io, str::FromStr};

use thiserror::Error;
use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

/// The environment variable that overrides the configured level, in `tracing`'s directive syntax: `info,weft_agent=debug`.
const FILTER_VARIABLE: &str = "WEFT_LOG";

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Error)]
pub enum LogError {
    #[error("log filter {filter:?} of {origin} cannot be read")]
    Filter { filter: String, origin: &'static str, source: ParseError },
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

#[derive(Debug, Error)]
#[error("log format {0:?} is neither \"text\" nor \"json\"")]
pub struct ParseFormatError(String);

/// Sends this process's log to standard error, at `level` (a word or `tracing` directives) unless `WEFT_LOG` says otherwise.
pub fn init_logs(level: &str, format: LogFormat) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let (filter, origin) = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) if !filter.is_empty() => (filter, FILTER_VARIABLE),
        _ => (level.to_owned(), "the configuration"),
    };
    let parsed = EnvFilter::try_new(&filter).map_err(|source| LogError::Filter { filter, origin, source })?;
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => lines.finish().try_init()?,
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

impl FromStr for LogFormat {
    type Err = ParseFormatError;
    fn from_str(s: &str) -> Result<Self, ParseFormatError> {
        match s {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ParseFormatError(s.to_owned())),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}
