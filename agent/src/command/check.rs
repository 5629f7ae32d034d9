//! `weft-agent check`: what the host lacks and what that costs. Changes nothing.

use std::process::ExitCode;

use serde_json::json;
use weft_kernel::host::{self, Finding, HostOptions};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
}

/// 0: the agent can run. 1: it cannot.
pub fn check(options: &HostOptions, format: Format) -> ExitCode {
    let findings = host::check(options);
    match format {
        Format::Table => print!("{}", table(&findings)),
        Format::Json => println!("{}", json(&findings)),
    }
    if findings.iter().any(|f| !f.ok && f.fatal) { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.name.len()).max().unwrap_or(0);
    let line = |f: &Finding| {
        let mark = match (f.ok, f.fatal) {
            (true, _) => "ok     ",
            (false, true) => "MISSING",
            (false, false) => "warning",
        };
        let cost = if f.ok { String::new() } else { format!("\n{:10}{:width$}  without it {}", "", "", f.cost) };
        format!("{mark}   {:width$}  {}{cost}\n", f.name, f.detail)
    };
    findings.iter().map(line).collect()
}

fn json(findings: &[Finding]) -> serde_json::Value {
    findings.iter().map(|f| json!({ "name": f.name, "ok": f.ok, "fatal": f.fatal, "detail": f.detail, "cost": if f.ok { "" } else { f.cost } })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_what_it_costs() {
        let finding = |ok, fatal| Finding { ok, name: "cgroup v2", detail: "none is mounted".into(), cost: "nothing can be enforced", fatal };
        assert!(table(&[finding(false, true)]).contains("MISSING") && table(&[finding(false, true)]).contains("nothing can be enforced"));
        assert!(!table(&[finding(true, true)]).contains("nothing can be enforced"));
        assert_eq!(json(&[finding(false, false)])[0]["cost"], "nothing can be enforced");
    }
}
