//! Turns a wrong value into an error that names file and field.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use crate::ConfigError;

#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    pub file: &'a Path,
}

impl Fields<'_> {
    pub fn wrong(&self, field: &str, problem: String) -> ConfigError {
        ConfigError::Field { file: self.file.to_owned(), field: field.to_owned(), problem }
    }

    /// `wanted`: what the value should have been, with an example.
    pub fn parse<T>(&self, field: &str, value: &str, wanted: &str) -> Result<T, ConfigError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        value.parse().map_err(|e| self.wrong(field, format!("{value:?} is not {wanted} ({e})")))
    }

    pub fn absolute(&self, field: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if path.is_absolute() && plain && path.parent().is_some() {
            return Ok(path);
        }
        Err(self.wrong(field, format!("{} must be an absolute path without '..'", path.display())))
    }

    /// A path below `root`, which is a field too.
    pub fn relative(&self, field: &str, path: &Path, root: &str) -> Result<(), ConfigError> {
        if path.components().next().is_some() && path.components().all(|c| matches!(c, Component::Normal(_))) {
            return Ok(());
        }
        Err(self.wrong(field, format!("{:?} must be a path below {root}, without a leading '/' and without '..'", path.display().to_string())))
    }

    /// A path that a unix socket's name fits behind: the kernel's bound for the whole is 108 bytes.
    pub fn socket(&self, field: &str, path: PathBuf, most_bytes: usize) -> Result<PathBuf, ConfigError> {
        let path = self.absolute(field, path)?;
        if path.as_os_str().len() > most_bytes {
            return Err(self.wrong(field, format!("{} is longer than {most_bytes} bytes, too long for a socket", path.display())));
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Fields<'static> {
        Fields { file: Path::new("/x.toml") }
    }

    #[test]
    fn a_wrong_value_is_named_with_file_field_and_what_was_wanted() {
        let said = at().parse::<u16>("port", "many", "a port").unwrap_err().to_string();
        assert_eq!(said, "configuration /x.toml: field port: \"many\" is not a port (invalid digit found in string)");
        assert_eq!(at().parse::<u16>("port", "7", "a port").unwrap(), 7);
    }

    #[test]
    fn paths_are_plain() {
        for (path, fits) in [("/a/b", true), ("a", false), ("/", false), ("/a/../b", false)] {
            assert_eq!(at().absolute("p", path.into()).is_ok(), fits, "{path}");
        }
        for (path, fits) in [("a/b", true), ("", false), ("/a", false), ("../a", false)] {
            assert_eq!(at().relative("p", Path::new(path), "root").is_ok(), fits, "{path}");
        }
        assert!(at().socket("p", "/12345".into(), 6).is_ok() && at().socket("p", "/123456".into(), 6).is_err());
    }
}
