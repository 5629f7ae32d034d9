//! Where the sockets are: flags, else one TOML file. Read only by commands that talk to somebody, so that the others need none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use crate::{
    args::Global,
    limits::{AGENTS_MAX, CONFIG_MAX_BYTES},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub agents: Vec<PathBuf>,
    pub bridge: Option<PathBuf>,
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "no configuration found; tried {}\nwrite one, name one with --config or WEFT_CONFIG, or name sockets with --agent and --bridge; an example:\n\n  agents = [\"/run/weft/agent.sock\"]\n  bridge = \"/run/weft/bridge.sock\"",
        tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    None { tried: Vec<PathBuf> },
    #[error("cannot read configuration {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("configuration {path} is larger than {CONFIG_MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("configuration {path} is wrong")]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("configuration {path} names no socket: set agents = [\"/run/weft/agent.sock\"], bridge = \"/run/weft/bridge.sock\", or both")]
    Empty { path: PathBuf },
    #[error("configuration {path} names {count} agents, more than {AGENTS_MAX}")]
    TooManyAgents { path: PathBuf, count: usize },
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agents: Vec<PathBuf>,
    bridge: Option<PathBuf>,
}

impl Config {
    /// Flags stand for the whole file: who names one socket wants no other. `home` is the caller's home directory.
    pub fn resolve(global: &Global, home: Option<&Path>) -> Result<Self, ConfigError> {
        if !global.agent.is_empty() || global.bridge.is_some() {
            return Ok(Self { agents: global.agent.clone(), bridge: global.bridge.clone() });
        }
        match &global.config {
            Some(path) => Self::read(path)?.ok_or_else(|| ConfigError::Read { path: path.clone(), source: io::ErrorKind::NotFound.into() }),
            None => {
                let tried = default_paths(home);
                for path in &tried {
                    if let Some(config) = Self::read(path)? {
                        return Ok(config);
                    }
                }
                Err(ConfigError::None { tried })
            }
        }
    }

    /// `None` when there is no such file.
    fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let size = match fs::metadata(path) {
            Ok(meta) => meta.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        if size > CONFIG_MAX_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::parse(&text, path).map(Some)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        if file.agents.is_empty() && file.bridge.is_none() {
            return Err(ConfigError::Empty { path: path.to_owned() });
        }
        if file.agents.len() > AGENTS_MAX {
            return Err(ConfigError::TooManyAgents { path: path.to_owned(), count: file.agents.len() });
        }
        // Sockets are relative to the file that names them, so that a checkout can carry one.
        let beside = |socket: PathBuf| path.parent().unwrap_or(Path::new("")).join(socket);
        Ok(Self { agents: file.agents.into_iter().map(beside).collect(), bridge: file.bridge.map(beside) })
    }
}

fn default_paths(home: Option<&Path>) -> Vec<PathBuf> {
    home.map(|h| h.join(".config/weft/config.toml")).into_iter().chain([PathBuf::from("/etc/weft/config.toml")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let got = match Config::parse(text, Path::new("/etc/weft/config.toml")) {
            Ok(c) => format!("{c:?}"),
            Err(e) => format!("{:#}", anyhow::Error::from(e)),
        };
        assert!(got.contains(expect), "{got}");
    }

    #[test]
    fn files_are_read_strictly() {
        check("agents = ['/run/a.sock', 'b.sock']", r#"agents: ["/run/a.sock", "/etc/weft/b.sock"], bridge: None"#);
        check("bridge = '/run/bridge.sock'", r#"agents: [], bridge: Some("/run/bridge.sock")"#);
        check("", "names no socket");
        check("agent = '/x'", "unknown field `agent`");
        check("agents = '/x'", "is wrong");
    }

    #[test]
    fn flags_stand_for_the_file_and_a_missing_file_names_the_paths_tried() {
        let mut global = Global { agent: vec!["/a".into()], config: Some("/nowhere".into()), ..Global::default() };
        assert_eq!(Config::resolve(&global, None).unwrap(), Config { agents: vec!["/a".into()], bridge: None });
        global.agent.clear();
        assert!(Config::resolve(&global, None).unwrap_err().to_string().contains("/nowhere"));
        let none = ConfigError::None { tried: default_paths(Some(Path::new("/home/x"))) }.to_string();
        assert!(none.contains("tried /home/x/.config/weft/config.toml, /etc/weft/config.toml\n"), "{none}");
        assert!(none.contains("agents = [\"/run/weft/agent.sock\"]"));
    }
}
