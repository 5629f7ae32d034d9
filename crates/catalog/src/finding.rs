//! What is wrong with a catalog, where, and the way out.

use std::{fmt, sync::Arc};

/// A place in a file. Shown as `file:line`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Relative to the catalog's directory.
    pub file: Arc<str>,
    /// From 1; 0: the whole file.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// Characters that the place covers, at least 1 and never beyond its line.
    pub length: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Of the catalog as a whole when absent.
    pub at: Option<Position>,
    /// Lower-case, names the object.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
    /// The line of `at`, as written.
    pub snippet: Option<String>,
}

impl Finding {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// As rustc shows it: message, place, line with the part underlined, help.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.message)?;
        let mut gutter = 1;
        if let Some(at) = &self.at {
            gutter = at.line.max(1).ilog10() as usize + 1;
            match at.line {
                0 => write!(f, "\n{:gutter$}--> {}", "", at.file)?,
                line => write!(f, "\n{:gutter$}--> {}:{line}:{}", "", at.file, at.column)?,
            }
            if let Some(text) = &self.snippet {
                let before: String = text.chars().take(at.column.saturating_sub(1) as usize).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n{:gutter$} |\n{} | {text}\n{:gutter$} | {before}{}", "", at.line, "", "^".repeat(at.length.max(1) as usize))?;
            }
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$} = help: {help}", "")?;
        }
        Ok(())
    }
}
