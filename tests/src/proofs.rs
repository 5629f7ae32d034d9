//! What `weft status --prove` says.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Mesh;

/// By uid: outbound, inbound.
pub type Proofs = BTreeMap<String, (Value, Value)>;

impl Mesh {
    /// What `weft status --prove -o json` says of each workload of the first node: (outbound, inbound), and its exit code.
    pub fn prove(&self) -> Result<(Proofs, i32)> {
        let agent = &self.agents[0];
        let (weft, socket) = (weft_lab::bin("weft")?.display().to_string(), agent.socket().display().to_string());
        let out = agent.place().output(&[weft.as_str(), "--agent", &socket, "status", "--prove", "-o", "json"], Duration::from_secs(60))?;
        let said: Value = serde_json::from_slice(&out.stdout).with_context(|| String::from_utf8_lossy(&out.stderr).into_owned())?;
        let workloads = said["nodes"][0]["workloads"].as_array().context("workloads")?;
        let proofs = workloads.iter().filter(|w| w["class"] != "exempt");
        let proofs = proofs.map(|w| (w["uid"].as_str().unwrap_or_default().to_owned(), (w["proof"]["outbound"].clone(), w["proof"]["inbound"].clone())));
        Ok((proofs.collect(), out.status.code().unwrap_or(-1)))
    }
}

pub fn holds(canary: &Value) -> bool {
    canary["holds"] == true
}
