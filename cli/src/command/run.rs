//! `weft run`: a program that is enrolled before its first instruction.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use crate::{
    Context, Outcome,
    args::RunArgs,
    cgroup,
    client::{Agent, NewWorkload},
    enter::Plan,
    limits::ENROL_POLL,
    remark,
    view::WorkloadView,
};

pub(super) async fn run(ctx: &Context, args: RunArgs) -> Result<Outcome> {
    let agent = one_agent(ctx).await?;
    // What can fail without the agent fails before it.
    let mut plan = Plan::new(args.command.clone());
    if let Some(netns) = &args.netns {
        plan = plan.netns(netns)?;
    }
    let mount = cgroup::mount_point()?;
    let own = std::process::id();
    let fresh = format!("{}-{}-{own}", args.service.namespace, args.service.name);
    let node = agent.status().await?;
    let dir = cgroup::place(&mount, &node.cgroup_root, &node.managed, args.cgroup.as_deref(), &fresh)?;
    // The agent opens it while we live; after exec it is still this process.
    let netns = args.netns.clone().unwrap_or_else(|| PathBuf::from(format!("/proc/{own}/ns/net")));
    let new = NewWorkload { uid: args.uid.clone(), service: args.service.clone(), cgroup: cgroup::relative(&mount, &dir), netns };
    let made = !dir.exists();
    let enrolled = match enrol(&agent, &new, args.wait).await {
        Ok(workload) => workload,
        Err(e) => {
            if made {
                let _ = fs::remove_dir(&dir);
            }
            return Err(e);
        }
    };
    let started = match args.rm {
        true => supervise(&agent, &args, &enrolled).await,
        false => plan.cgroup(&dir).and_then(Plan::reset_signals).map(|p| Outcome::Become(Box::new(p))).map_err(Into::into),
    };
    if started.is_err() || args.rm {
        withdraw(&agent, &enrolled.uid, &dir, made).await;
    }
    started
}

/// A workload lives on one node, so there is one agent to ask.
async fn one_agent(ctx: &Context) -> Result<Agent> {
    match &ctx.config()?.agents[..] {
        [] => bail!("this needs the agent of this node, and the configuration names none: use --agent SOCKET"),
        [socket] => Ok(Agent::connect(socket).await?),
        many => {
            let names: Vec<String> = many.iter().map(|s| s.display().to_string()).collect();
            bail!("the configuration names {} agents: say with --agent which node this runs on ({})", many.len(), names.join(", "))
        }
    }
}

/// Adds the workload and waits until the agent has read it back from the kernel.
async fn enrol(agent: &Agent, new: &NewWorkload, wait: Duration) -> Result<WorkloadView> {
    let deadline = Instant::now() + wait;
    let mut workload = agent.add_workload(new).await?;
    loop {
        if workload.class == "enrolled" && workload.enrolled_in_kernel == Some(true) {
            return Ok(workload);
        }
        if Instant::now() >= deadline {
            let why = if workload.problem.is_empty() { String::new() } else { format!(": {}", workload.problem) };
            let _ = agent.remove_workload(&workload.uid).await;
            bail!("{} is not enrolled within {} s{why}; nothing was started", new.service, wait.as_secs());
        }
        sleep(ENROL_POLL).await;
        let found = agent.workloads("").await?.into_iter().find(|w| w.uid == workload.uid);
        workload = found.with_context(|| format!("the agent has dropped workload {} before it was enrolled", workload.uid))?;
    }
}

/// `--rm`: a child of ours enters the workload and becomes the program; we stay outside and wait.
async fn supervise(agent: &Agent, args: &RunArgs, workload: &WorkloadView) -> Result<Outcome> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut line: Vec<OsString> = vec!["--agent".into(), agent.socket.clone().into(), "exec".into(), args.service.to_string().into()];
    line.extend(["--uid".into(), workload.uid.clone().into(), "--".into()]);
    line.extend(args.command.iter().cloned());
    // Before the child: a signal in between must not end us without it.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // The terminal sends this one to the child too; it decides.
    let _interrupt = signal(SignalKind::interrupt())?;
    let mut child = Command::new(own).args(line).stdin(Stdio::inherit()).spawn().context("cannot start the program")?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let status = loop {
        let pass_on = |s| pid.map(|pid| kill_process(pid, s));
        tokio::select! {
            status = child.wait() => break status.context("cannot wait for the program")?,
            _ = terminate.recv() => drop(pass_on(Signal::TERM)),
            _ = hangup.recv() => drop(pass_on(Signal::HUP)),
        }
    };
    let by_signal = || std::os::unix::process::ExitStatusExt::signal(&status).map_or(2, |s| 128 + s);
    Ok(Outcome::Code(u8::try_from(status.code().unwrap_or_else(by_signal)).unwrap_or(2)))
}

/// What cannot be taken back is said, not hidden: the program's own exit code stands.
async fn withdraw(agent: &Agent, uid: &str, dir: &Path, made: bool) {
    if let Err(e) = agent.remove_workload(uid).await {
        remark(&format!("workload {uid} is still enrolled: {e}"));
    }
    if made
        && let Err(e) = fs::remove_dir(dir)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        remark(&format!("cgroup {} stays (processes in it are denied from now on): {e}", dir.display()));
    }
}
