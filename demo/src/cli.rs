//! What `weft` prints, for the places where the demo needs to know it.

use std::process::Output;

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

/// Runs the CLI to its end.
pub fn run(arguments: &[&str]) -> Result<Output> {
    Ok(stage::weft(arguments)?.output()?)
}

/// All that it printed.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
