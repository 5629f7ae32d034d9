//! `weft completion`: scripts for shells.

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::{Shell as Script, generate};

use crate::{
    Outcome,
    args::{Args, Shell},
    output,
};

pub(super) fn run(shell: Shell) -> Result<Outcome> {
    output::print(&script(shell))?;
    Ok(Outcome::Ok)
}

fn script(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => Script::Bash,
        Shell::Zsh => Script::Zsh,
        Shell::Fish => Script::Fish,
    };
    let mut text = Vec::new();
    generate(shell, &mut Args::command(), "weft", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell);
            assert!(["status", "flows", "completion"].iter().all(|c| text.contains(c)), "{shell:?}");
        }
    }
}
