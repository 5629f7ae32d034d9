//! The whole picture of one node, read back from where it is true.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tonic::Status;
use tracing::debug;
use weft_api::agent::v1 as wire;
use weft_kernel::{KernelError, cgroup};

use super::{AgentService, convert};
use crate::{limits, mesh::Chain, workloads::Picture};

impl AgentService {
    pub(super) async fn whole_status(&self) -> Result<wire::StatusResponse, Status> {
        let node = self.0.clone();
        let kernel = tokio::task::spawn_blocking(move || (node.kernel.state(), node.kernel.programs(), node.kernel.counters()));
        let (state, programs, counters) = kernel.await.map_err(|e| Status::internal(e.to_string()))?;
        let (node, link) = (&self.0, self.0.link.now());
        let mut warnings = node.warnings.list();
        warnings.extend(state.as_ref().err().map(|e: &KernelError| format!("the kernel cannot be read back: {}", Chain(e))));
        Ok(wire::StatusResponse {
            node: node.config.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: node.mesh.membership().map(|m| m.trust_domain().to_string()).unwrap_or_default(),
            revision: node.mesh.revision().0,
            kernel_revision: state.map_or(0, |s| s.revision()),
            bridge_connected: link.connected,
            bridge_error: link.error,
            bridge_last_seen: link.last_seen,
            fail_static_until: self.fail_static_until(),
            workloads: self.all_workloads().await?,
            programs: programs.into_iter().map(convert::program).collect(),
            counters: counters.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
            host_warnings: warnings,
            started_at: convert::unix(node.started_at),
            holder_connected: node.holder.is_connected(),
            managed: node.places.managed.iter().map(|m| m.display().to_string()).collect(),
            cgroup_root: node.places.cgroup_root.display().to_string(),
        })
    }

    /// The agent itself, what it was told of, and what lives in a managed subtree without anybody having told.
    pub(super) async fn all_workloads(&self) -> Result<Vec<wire::Workload>, Status> {
        self.0.workloads.read_back().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let picture = self.0.view.now();
        let known = picture.workloads.iter().map(|seen| convert::workload(seen, &self.0.mesh, &self.0.kernel));
        let all: Vec<wire::Workload> = std::iter::once(own()).chain(known).collect();
        let managed = self.0.places.managed.clone();
        let strays = tokio::task::spawn_blocking(move || strays(&managed, &picture)).await.map_err(|e| Status::internal(e.to_string()))?;
        Ok(all.into_iter().chain(strays).collect())
    }

    /// The earliest end of an SVID that a workload here lives by; of the node's own certificate where there is none.
    fn fail_static_until(&self) -> i64 {
        let mesh = &self.0.mesh;
        let picture = self.0.view.now();
        let ends = picture.workloads.iter().filter(|w| w.enrolled.is_some()).filter_map(|w| mesh.svid(&w.service)).map(|i| convert::unix(i.svid.not_after));
        ends.min().or_else(|| mesh.node().map(|n| convert::unix(n.svid.not_after))).unwrap_or(0)
    }
}

fn own() -> wire::Workload {
    let cgroup = cgroup::of_pid(std::process::id()).unwrap_or_default();
    wire::Workload {
        uid: "weft-agent".to_owned(),
        class: "exempt".to_owned(),
        cgroup_id: cgroup::id(&cgroup).unwrap_or(0),
        cgroup: cgroup.display().to_string(),
        ..wire::Workload::default()
    }
}

/// Cgroups with processes in a managed subtree that belong to no enrolled workload: denied, and shown so that nobody wonders why.
fn strays(managed: &[PathBuf], picture: &Picture) -> Vec<wire::Workload> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = managed.to_vec();
    while let Some(dir) = open.pop() {
        if found.len() >= limits::STRAYS_MAX || picture.workloads.iter().any(|w| w.cgroup == dir) {
            continue;
        }
        match populated(&dir) {
            Ok(true) => found.push(stray(&dir)),
            Ok(false) => {}
            // It went while we looked.
            Err(error) => {
                debug!(cgroup = %dir.display(), %error, "cannot look into a cgroup");
                continue;
            }
        }
        let children = fs::read_dir(&dir).into_iter().flatten().flatten();
        open.extend(children.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    found.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    found
}

fn populated(dir: &Path) -> io::Result<bool> {
    Ok(!fs::read_to_string(dir.join("cgroup.procs"))?.is_empty())
}

fn stray(dir: &Path) -> wire::Workload {
    wire::Workload {
        uid: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        class: "unidentified".to_owned(),
        mode: "enforce".to_owned(),
        cgroup: dir.display().to_string(),
        cgroup_id: cgroup::id(dir).unwrap_or(0),
        problem: "it has processes and no identity: add it to the workloads file, or start it with `weft run`".to_owned(),
        ..wire::Workload::default()
    }
}
