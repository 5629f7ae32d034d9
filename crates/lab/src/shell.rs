//! Running the system's own helpers (`ip`, `mount`, `nsenter`) and saying exactly which one failed.

use std::process::Command;

use crate::LabError;

/// Runs `argv` to its end and gives its standard output.
pub fn sh<S: AsRef<str>>(argv: &[S]) -> Result<String, LabError> {
    let argv: Vec<&str> = argv.iter().map(AsRef::as_ref).collect();
    let shown = argv.join(" ");
    let output = Command::new(argv[0])
        .args(&argv[1..])
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| LabError::Precondition(format!("cannot run `{}`: {e}; is the package that has it installed?", argv[0])))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Command { command: shown, status: output.status, stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// `ip` with a line of arguments, split at blanks.
pub(crate) fn ip(line: &str) -> Result<String, LabError> {
    let argv: Vec<&str> = std::iter::once("ip").chain(line.split_whitespace()).collect();
    sh(&argv)
}
