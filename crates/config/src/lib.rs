//! Configuration files, the same for every weft program: TOML of bounded size, unknown fields refused by the program's own struct, and every
//! wrong value named with its file and field. And [`private`] files, which hold what a configuration only names.

mod duration;
mod fields;
pub mod private;
mod sections;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use thiserror::Error;

pub use duration::{ParseDurationError, parse_duration};
pub use fields::Fields;
pub use sections::{Log, Metrics};

/// Bytes of a file. A larger one is refused.
pub const FILE_MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read configuration {file}: is it there, and may this user read it?")]
    Read { file: PathBuf, source: io::Error },
    #[error("configuration {file} is larger than {FILE_MAX_BYTES} bytes")]
    TooLarge { file: PathBuf },
    #[error("configuration {file}: {message}")]
    Syntax { file: PathBuf, message: String },
    #[error("configuration {file}: field {field}: {problem}")]
    Field { file: PathBuf, field: String, problem: String },
}

/// Reads a text file of bounded size.
pub fn read(file: &Path) -> Result<String, ConfigError> {
    let fail = |source| ConfigError::Read { file: file.to_owned(), source };
    if std::fs::metadata(file).map_err(fail)?.len() > FILE_MAX_BYTES {
        return Err(ConfigError::TooLarge { file: file.to_owned() });
    }
    std::fs::read_to_string(file).map_err(fail)
}

/// What was written in `file`, as it was written.
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|e| ConfigError::Syntax { file: file.to_owned(), message: one_line(text, &e) })
}

/// A parser's error as one line that says where.
pub fn one_line(text: &str, e: &toml::de::Error) -> String {
    let message = e.message().replace('\n', " ");
    let Some(span) = e.span() else { return message };
    let before = &text[..text.floor_char_boundary(span.start.min(text.len()))];
    let number = before.matches('\n').count();
    let line: String = text.lines().nth(number).unwrap_or_default().trim().chars().take(80).collect();
    format!("line {} ({line}): {message}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_absent_or_too_large_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        assert!(read(&file).unwrap_err().to_string().starts_with(&format!("cannot read configuration {}", file.display())));
        std::fs::write(&file, vec![b' '; usize::try_from(FILE_MAX_BYTES).unwrap() + 1]).unwrap();
        assert!(matches!(read(&file), Err(ConfigError::TooLarge { .. })));
        std::fs::write(&file, "a = 1").unwrap();
        assert_eq!(read(&file).unwrap(), "a = 1");
    }

    #[test]
    fn a_parser_error_says_the_line_and_quotes_it() {
        let wrong = |text: &str| parse::<Log>(Path::new("/x.toml"), text).unwrap_err().to_string();
        let said = wrong("level = \"info\"\ncolour = 1\n");
        assert!(said.starts_with("configuration /x.toml: line 2 (colour = 1): unknown field `colour`"), "{said}");
        assert!(wrong("level = \"é").contains("line 1"));
    }
}
