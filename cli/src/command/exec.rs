//! `weft exec`: a program inside a workload that is already there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures::future::join_all;

use crate::{
    Context, Outcome,
    args::ExecArgs,
    cgroup,
    client::Agent,
    enter::{Files, Plan},
    remark,
    suggest::did_you_mean,
    view::WorkloadView,
};

pub(super) async fn run(ctx: &Context, args: ExecArgs) -> Result<Outcome> {
    let workload = find(ctx, &args).await?;
    Ok(Outcome::Become(Box::new(enter(&workload, args.command)?)))
}

/// The first enrolled one that fits, in the order of the configuration.
async fn find(ctx: &Context, args: &ExecArgs) -> Result<WorkloadView> {
    let config = ctx.config()?;
    let answers = join_all(config.agents.iter().map(|socket| async move { Agent::connect(socket).await?.status().await })).await;
    let mut all = Vec::new();
    let mut failed = Vec::new();
    for answer in answers {
        match answer {
            Ok(node) => all.extend(node.workloads),
            Err(e) => failed.push(e.to_string()),
        }
    }
    let node = args.node.as_ref().map(|n| n.as_str());
    let fits = choose(&all, &args.service.to_string(), node, args.uid.as_deref());
    let Some(first) = fits.first() else { bail!(absent(&all, args, &failed)) };
    if fits.len() > 1 {
        let others: Vec<String> = fits.iter().skip(1).map(|w| format!("--node {} --uid {}", w.node, w.uid)).collect();
        remark(&format!("into {} on node {}; also there: {}", first.uid, first.node, others.join(", ")));
    }
    Ok((*first).clone())
}

fn choose<'a>(all: &'a [WorkloadView], service: &str, node: Option<&str>, uid: Option<&str>) -> Vec<&'a WorkloadView> {
    let fits = |w: &&WorkloadView| w.service.as_deref() == Some(service) && node.is_none_or(|n| n == w.node) && uid.is_none_or(|u| u == w.uid);
    let mut found: Vec<_> = all.iter().filter(fits).collect();
    found.sort_by_key(|w| w.enrolled_in_kernel != Some(true));
    found
}

fn absent(all: &[WorkloadView], args: &ExecArgs, failed: &[String]) -> String {
    let name = args.service.to_string();
    let place = args.node.as_ref().map_or(String::new(), |n| format!(" on node {n}"));
    let uid = args.uid.as_ref().map_or(String::new(), |u| format!(" with the uid {u}"));
    let hint = did_you_mean(&name, all.iter().filter_map(|w| w.service.as_deref()).filter(|s| *s != name));
    let more: String = failed.iter().map(|e| format!("\nweft: {e}")).collect();
    format!("no workload of {name}{uid}{place} on the configured agents{hint}; `weft get workloads` lists them{more}")
}

/// Cgroup and network namespace as the agent knows them, because they are what the identity hangs on; the mount namespace and root of
/// the oldest process, so that the program sees the workload's files. An empty workload is entered without one.
pub(super) fn enter(w: &WorkloadView, command: Vec<std::ffi::OsString>) -> Result<Plan> {
    let mount = cgroup::mount_point()?;
    let dir = cgroup::absolute(&mount, Path::new(&w.cgroup));
    let name = || format!("workload {} on node {}", w.uid, w.node);
    let mut plan = Plan::new(command).cgroup(&dir).with_context(name)?;
    let first = first_process(&dir).with_context(|| format!("cannot read cgroup {} of {}", dir.display(), name()))?;
    let netns = match (&first, w.netns.as_str()) {
        (Some((pid, _)), path) if path.is_empty() || !Path::new(path).exists() => PathBuf::from(format!("/proc/{pid}/ns/net")),
        (_, path) => PathBuf::from(path),
    };
    plan = plan.netns(&netns).with_context(name)?;
    if let Some((_, files)) = first {
        plan = plan.files(files);
    }
    Ok(plan.reset_signals()?)
}

/// The oldest process that still runs. A pid may have been given away while we looked, so its cgroup is looked at again behind the open.
fn first_process(dir: &Path) -> Result<Option<(u32, Files)>> {
    for pid in cgroup::processes(dir)? {
        let Ok(files) = Files::of(pid) else { continue };
        if cgroup::processes(dir)?.contains(&pid) {
            return Ok(Some((pid, files)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(node: &str, uid: &str, service: &str, enrolled: bool) -> WorkloadView {
        WorkloadView { node: node.into(), uid: uid.into(), service: Some(service.into()), enrolled_in_kernel: Some(enrolled), ..WorkloadView::default() }
    }

    #[test]
    fn an_enrolled_workload_is_preferred_and_an_unknown_service_is_answered_with_its_neighbour() {
        let all = [workload("a", "o1", "shop/orders", false), workload("b", "o2", "shop/orders", true), workload("a", "s1", "shop/stock", true)];
        let uids = |service, node, uid| choose(&all, service, node, uid).iter().map(|w| w.uid.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(uids("shop/orders", None, None), "o2 o1");
        assert_eq!(uids("shop/orders", Some("a"), None), "o1");
        assert_eq!(uids("shop/orders", None, Some("s1")), "");
        let args = ExecArgs { service: "shop/stok".parse().unwrap(), node: None, uid: None, command: vec!["true".into()] };
        assert_eq!(absent(&all, &args, &[]), "no workload of shop/stok on the configured agents; did you mean shop/stock?; `weft get workloads` lists them");
    }
}
