//! Nodes, workloads and certificates.

use super::{Grid, Style, Tone, dash, or_dash};
use crate::view::{CanaryView, CertView, NodeView, Stamp, WorkloadView};

pub fn nodes(style: Style, nodes: &[NodeView], now: Stamp) -> String {
    let mut grid = Grid::new(style, &["NODE", "AGENT", "REVISION", "IN KERNEL", "BRIDGE", "FAIL-STATIC UNTIL", "WORKLOADS", "PROGRAMS", "MAY RUN"]);
    for n in nodes {
        let agent = match &n.agent {
            Some(_) => (Tone::Plain, n.version.clone()),
            None => (Tone::Faint, "bridge only".to_owned()),
        };
        let kernel = match n.kernel_revision {
            Some(k) if k == n.revision => (Tone::Good, k.to_string()),
            Some(k) => (Tone::Bad, k.to_string()),
            None => (Tone::Faint, "-".to_owned()),
        };
        let attached = n.programs.iter().filter(|p| p.attached).count();
        let programs = match (&n.agent, n.programs.len()) {
            (None, _) => (Tone::Faint, "-".to_owned()),
            (_, 0) => (Tone::Bad, "none".to_owned()),
            (_, all) => (if attached == all { Tone::Good } else { Tone::Bad }, format!("{attached}/{all}")),
        };
        grid.row([
            (Tone::Strong, n.name.clone()),
            agent,
            (Tone::Plain, revision(n.revision)),
            kernel,
            if n.bridge_connected { (Tone::Good, "connected".to_owned()) } else { (Tone::Bad, "gone".to_owned()) },
            until(n.fail_static_until, now),
            (Tone::Plain, n.workloads.len().to_string()),
            programs,
            (Tone::Plain, dash(&n.may_run.join(", ")).to_owned()),
        ]);
    }
    grid.finish("no nodes")
}

pub fn workloads(style: Style, workloads: &[WorkloadView], now: Stamp) -> String {
    let mut grid = Grid::new(style, &["NODE", "WORKLOAD", "SERVICE", "CLASS", "MODE", "ENROLLED", "ENFORCED", "ADDRESSES", "OPEN TO ALL", "SVID UNTIL"]);
    for w in workloads {
        let class = match w.class.as_str() {
            "enrolled" => Tone::Good,
            "unidentified" => Tone::Bad,
            _ => Tone::Faint,
        };
        let enrolled = match (w.class.as_str(), w.enrolled_in_kernel) {
            (_, None) => (Tone::Faint, "not asked"),
            ("exempt", _) => (Tone::Faint, "-"),
            (_, Some(true)) => (Tone::Good, "in kernel"),
            (_, Some(false)) => (Tone::Bad, "no"),
        };
        grid.row([
            (Tone::Plain, w.node.clone()),
            (Tone::Plain, w.uid.clone()),
            (Tone::Strong, or_dash(w.service.as_deref()).to_owned()),
            (class, dash(&w.class).to_owned()),
            (Tone::Plain, dash(&w.mode).to_owned()),
            (enrolled.0, enrolled.1.to_owned()),
            (if w.enforced_why.is_some() { Tone::Bad } else { Tone::Plain }, or_dash(w.enforced.as_deref()).to_owned()),
            (Tone::Plain, dash(&w.addresses.join(", ")).to_owned()),
            (Tone::Plain, dash(&w.public_ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")).to_owned()),
            until(w.svid_not_after, now),
        ]);
    }
    grid.finish("no workloads")
}

/// What the canaries found, for the workloads that they were asked of.
pub fn proofs(style: Style, workloads: &[WorkloadView]) -> String {
    let mut grid = Grid::new(style, &["NODE", "WORKLOAD", "SERVICE", "OUT IS CAPTURED", "IN IS REFUSED", "WHY NOT"]);
    let word = |c: &CanaryView| if c.holds { (Tone::Good, "holds".to_owned()) } else { (Tone::Bad, "fails".to_owned()) };
    for (w, proof) in workloads.iter().filter_map(|w| Some((w, w.proof.as_ref()?))) {
        let mut why: Vec<&str> = [&proof.outbound, &proof.inbound].into_iter().map(|c| c.problem.as_str()).filter(|p| !p.is_empty()).collect();
        why.dedup();
        grid.row([
            (Tone::Plain, w.node.clone()),
            (Tone::Plain, w.uid.clone()),
            (Tone::Strong, or_dash(w.service.as_deref()).to_owned()),
            word(&proof.outbound),
            word(&proof.inbound),
            (Tone::Plain, dash(&why.join("; ")).to_owned()),
        ]);
    }
    grid.finish("no workloads")
}

pub fn certs(style: Style, certs: &[CertView], now: Stamp) -> String {
    let mut grid = Grid::new(style, &["NODE", "IDENTITY", "SERIAL", "NOT BEFORE", "NOT AFTER", "RENEWED"]);
    for c in certs {
        let since = c.not_before.map_or_else(|| "-".to_owned(), |t| t.to_string());
        let renewed = c.renew_at.map_or_else(|| "-".to_owned(), |t| t.relative(now));
        grid.row([
            (Tone::Plain, c.node.clone()),
            (Tone::Strong, c.spiffe_id.clone()),
            (Tone::Plain, c.serial.clone()),
            (Tone::Plain, since),
            until(c.not_after, now),
            (Tone::Plain, renewed),
        ]);
    }
    grid.finish("no certificates")
}

fn revision(n: u64) -> String {
    if n == 0 { "none".to_owned() } else { n.to_string() }
}

fn until(at: Option<Stamp>, now: Stamp) -> (Tone, String) {
    match at {
        None => (Tone::Faint, "-".to_owned()),
        Some(t) => (if t < now { Tone::Bad } else { Tone::Plain }, format!("{t} ({})", t.relative(now))),
    }
}
