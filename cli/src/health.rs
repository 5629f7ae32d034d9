//! From what agents and bridge say to what is wrong, in words, the worst first. Pure: no socket, the time is a parameter.

use serde::Serialize;

use crate::view::{BridgeView, NodeView, Stamp, WorkloadView, span};

/// A certificate that ends sooner than this, in seconds, while the bridge is away is worth a word.
const ENDS_SOON_SECONDS: i64 = 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not do what it should now; `weft status` exits 1.
    Problem,
    /// It will, or it costs something.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// Empty: of no one node.
    pub node: String,
    pub text: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StatusView {
    pub problems: Vec<Problem>,
    pub bridge: Option<BridgeView>,
    pub nodes: Vec<NodeView>,
    /// Agents and bridge that did not answer; among the problems too.
    #[serde(skip)]
    unreachable: Vec<String>,
}

impl StatusView {
    /// `unreachable`: agents and bridge that did not answer, each with the reason in words.
    pub fn new(nodes: Vec<NodeView>, bridge: Option<BridgeView>, unreachable: Vec<String>, now: Stamp) -> Self {
        let mut problems: Vec<Problem> =
            unreachable.iter().map(|text| Problem { severity: Severity::Problem, node: String::new(), text: text.clone() }).collect();
        if let Some(bridge) = &bridge {
            of_bridge(bridge, &mut problems);
        }
        for node in &nodes {
            Finder { node: &node.name, now, found: &mut problems }.node(node, bridge.as_ref());
        }
        problems.sort_by(|a, b| (a.severity, &a.node).cmp(&(b.severity, &b.node)));
        Self { problems, bridge, nodes, unreachable }
    }

    pub fn unreachable(&self) -> impl Iterator<Item = &str> {
        self.unreachable.iter().map(String::as_str)
    }

    pub fn healthy(&self) -> bool {
        self.problems.iter().all(|p| p.severity == Severity::Warning)
    }
}

fn of_bridge(bridge: &BridgeView, found: &mut Vec<Problem>) {
    let mut add = |severity, text| found.push(Problem { severity, node: String::new(), text });
    for e in &bridge.catalog_errors {
        add(Severity::Problem, format!("the catalog is broken, revision {} stays in force: {e}", bridge.revision));
    }
    for w in &bridge.catalog_warnings {
        add(Severity::Warning, format!("catalog: {w}"));
    }
}

struct Finder<'a> {
    node: &'a str,
    now: Stamp,
    found: &'a mut Vec<Problem>,
}

impl Finder<'_> {
    fn problem(&mut self, text: String) {
        self.found.push(Problem { severity: Severity::Problem, node: self.node.to_owned(), text });
    }

    fn warning(&mut self, text: String) {
        self.found.push(Problem { severity: Severity::Warning, node: self.node.to_owned(), text });
    }

    fn node(&mut self, node: &NodeView, bridge: Option<&BridgeView>) {
        if let Some(why) = bridge.and_then(|b| b.refused_by.get(&node.name)) {
            self.problem(format!("refused the last snapshot and keeps revision {}: {why}", node.revision));
        }
        if node.agent.is_none() {
            if !node.bridge_connected {
                let seen = node.bridge_last_seen.map_or_else(|| "never seen".to_owned(), |t| format!("last seen {}", t.relative(self.now)));
                self.problem(format!("not connected to the bridge ({seen}); what its kernel enforces cannot be seen from here"));
            }
            return;
        }
        self.revision(node, bridge);
        self.bridge_link(node);
        self.programs(node);
        if node.holder_connected == Some(false) {
            self.problem("the holder process does not answer: an agent restart would reset connections".to_owned());
        }
        for w in &node.workloads {
            self.workload(w);
        }
        for w in &node.host_warnings {
            self.warning(w.clone());
        }
    }

    fn revision(&mut self, node: &NodeView, bridge: Option<&BridgeView>) {
        if node.revision == 0 {
            self.problem("has no snapshot yet: every enrolled workload is denied".to_owned());
        } else if let Some(kernel) = node.kernel_revision.filter(|k| *k != node.revision) {
            self.problem(format!("the agent holds revision {}, but the kernel enforces {kernel}", node.revision));
        }
        if let Some(b) = bridge.filter(|b| b.revision > node.revision && node.revision != 0) {
            self.warning(format!("is at revision {}, the bridge at {}", node.revision, b.revision));
        }
    }

    fn bridge_link(&mut self, node: &NodeView) {
        if node.bridge_connected {
            return;
        }
        let why = if node.bridge_error.is_empty() { String::new() } else { format!(": {}", node.bridge_error) };
        let (rest, ended) = match node.fail_static_until {
            None => ("it holds no certificate to go on with".to_owned(), true),
            Some(t) if t <= self.now => (format!("its certificates ended {}: new remote connections fail", t.relative(self.now)), true),
            Some(t) => {
                let left = t.as_millis().saturating_sub(self.now.as_millis()) / 1000;
                (format!("it works on its last snapshot until {t}, {} more", span(left.unsigned_abs())), left < ENDS_SOON_SECONDS)
            }
        };
        let text = format!("no connection to the bridge{why}; {rest}");
        if ended { self.problem(text) } else { self.warning(text) }
    }

    fn programs(&mut self, node: &NodeView) {
        if node.programs.is_empty() {
            self.problem("no kernel program is loaded: nothing is enforced".to_owned());
        }
        for p in node.programs.iter().filter(|p| !p.attached) {
            let place = if p.attached_to.is_empty() { String::new() } else { format!(" to {}", p.attached_to) };
            self.problem(format!("kernel program {} is not attached{place}", p.name));
        }
    }

    fn workload(&mut self, w: &WorkloadView) {
        let name = match &w.service {
            Some(service) => format!("{service} ({})", w.uid),
            None => w.uid.clone(),
        };
        let why = if w.problem.is_empty() { String::new() } else { format!(": {}", w.problem) };
        match w.class.as_str() {
            "exempt" => {}
            "unidentified" => self.problem(format!("workload {name} is unidentified, so everything it tries is denied{why}")),
            _ if w.enrolled_in_kernel == Some(false) => self.problem(format!("workload {name} is not enrolled in the kernel{why}")),
            _ if !w.problem.is_empty() => self.problem(format!("workload {name}{why}")),
            _ => self.svid(&name, w),
        }
        for (canary, what) in w.proof.iter().flat_map(|p| [(&p.outbound, "what leaves it is captured"), (&p.inbound, "what nobody attested is refused")]) {
            if !canary.holds && w.class != "unidentified" {
                self.problem(format!("workload {name}: it is not proven that {what}: {}", canary.problem));
            }
        }
        if let Some(why) = &w.enforced_why {
            self.warning(format!("workload {name} is enforced at its sockets only: {why}"));
        }
    }

    fn svid(&mut self, name: &str, w: &WorkloadView) {
        match w.svid_not_after {
            None => self.warning(format!("workload {name} has no SVID: it reaches nothing on other nodes")),
            Some(t) if t <= self.now => self.problem(format!("the SVID of {name} ended {}: it reaches nothing on other nodes", t.relative(self.now))),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
