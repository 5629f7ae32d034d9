//! What `weft` prints, for the places where the demo needs to know it.

use std::{net::IpAddr, path::Path, process::Output};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::stage;

pub struct WorkloadState {
    pub service: String,
    pub enrolled: bool,
    pub problem: String,
}

pub fn workloads() -> Result<Vec<WorkloadState>> {
    let output = stage::weft(&["status", "-o", "json"])?.output()?;
    let status: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("`weft status` said {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    let mut found = Vec::new();
    collect(&status, &mut found);
    Ok(found)
}

/// Every object that has a service and an enrolment, wherever it lies.
fn collect(value: &Value, found: &mut Vec<WorkloadState>) {
    match value {
        Value::Object(fields) => {
            if let (Some(Value::String(service)), Some(enrolled)) = (fields.get("service"), fields.get("enrolled_in_kernel")) {
                let problem = fields.get("problem").and_then(Value::as_str).unwrap_or_default().to_owned();
                found.push(WorkloadState { service: service.clone(), enrolled: enrolled.as_bool() == Some(true), problem });
            }
            fields.values().for_each(|v| collect(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
        _ => {}
    }
}

/// Addresses of every endpoint that an agent's snapshot in force names.
pub fn endpoints(agent: &Path) -> Result<Vec<String>> {
    let output = run(&["get", "services", "-o", "json", "--agent", &agent.display().to_string()])?;
    let services: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("`weft get services` said {}", said(&output)))?;
    let mut found = Vec::new();
    strings_of(&services, "endpoints", &mut found);
    // Each reads `ADDRESS, ADDRESS on NODE`.
    Ok(found.iter().flat_map(|e| e.split([' ', ','])).filter(|w| w.parse::<IpAddr>().is_ok()).map(str::to_owned).collect())
}

/// Every text in lists of that name, wherever they lie.
fn strings_of(value: &Value, name: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Array(items) if key == name => found.extend(items.iter().filter_map(Value::as_str).map(str::to_owned)),
                    other => strings_of(other, name, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|v| strings_of(v, name, found)),
        _ => {}
    }
}

/// Runs the CLI to its end.
pub fn run(arguments: &[&str]) -> Result<Output> {
    Ok(stage::weft(arguments)?.output()?)
}

/// All that it printed.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
