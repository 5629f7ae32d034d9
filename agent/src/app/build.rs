//! From a configuration to a node. In an order in which nothing is ever open: first what the host must have, then the kernel programs, which
//! refuse, then the last snapshot, then the workloads; the bridge comes later and is not waited for.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::SystemTime,
};

use anyhow::{Context as _, bail};
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::sync::CancellationToken;
use weft_kernel::{
    Kernel, NodeOptions, cgroup,
    host::{self, HostOptions},
};

use super::Node;
use crate::{
    bridge::LinkStatus,
    command::running,
    config::{Config, Denied},
    files::{self, Lock},
    flows::Store,
    holder,
    mesh::Mesh,
    metrics::Metrics,
    node::{self, Applier, Drift, Ender, HostAddresses, Namespaces, NodeHost, NodePlumbing, Revoker, Sources, StaticFile},
    proxy::Proxy,
    snapshots::SnapshotStore,
    warnings::{Topic, Warnings},
    workloads::{Places, View, read_static},
};

pub(super) struct Built {
    pub(super) node: Arc<Node>,
    pub(super) lock: Lock,
    pub(super) workloads_thread: JoinHandle<()>,
}

/// What the host must have for this configuration.
pub fn host_options(config: &Config) -> HostOptions {
    HostOptions {
        cgroup_root: config.cgroup_root.clone(),
        bpffs: config.bpffs.clone(),
        state_dir: Some(config.state_dir.clone()),
        listen: config.metrics.into_iter().collect::<Vec<SocketAddr>>(),
    }
}

/// Where the node's workloads may live.
pub fn places(config: &Config) -> anyhow::Result<Places> {
    let mount = cgroup::mount_point()?;
    let cgroup_root = config.cgroup_root.clone().unwrap_or_else(|| mount.clone());
    let managed = config.managed.iter().map(|m| cgroup_root.join(m)).collect();
    Ok(Places { mount, cgroup_root, managed })
}

/// Looks at everything that can be wrong before anything is changed; returns what is missing but not needed.
pub fn preflight(config: &Config) -> anyhow::Result<(Places, Vec<String>)> {
    // Its port would be found held as well, but that says less. Who may not look is told so by the host's check.
    if let Ok(Some(pid)) = running(config) {
        return Err(another(config, pid.as_raw_nonzero().get()));
    }
    let others = judge(&host_options(config))?;
    let places = places(config)?;
    if let Some(file) = &config.workloads {
        read_static(file, &places)?;
    }
    Ok((places, others))
}

/// What this host lacks but can be done without; an error when it cannot.
pub fn judge(options: &HostOptions) -> anyhow::Result<Vec<String>> {
    let (fatal, others): (Vec<_>, Vec<_>) = host::check(options).into_iter().filter(|f| !f.ok).partition(|f| f.fatal);
    if let [first, rest @ ..] = fatal.as_slice() {
        let more = if rest.is_empty() { String::new() } else { format!("; and {} more: `weft-agent check` lists all", rest.len()) };
        bail!("{}: {} ({}){more}", first.name, first.detail, first.cost);
    }
    Ok(others.iter().map(|f| format!("{}: {} ({})", f.name, f.detail, f.cost)).collect())
}

pub(super) async fn build(config: Config) -> anyhow::Result<Built> {
    let (places, missing) = preflight(&config)?;
    let lock = claim(&config)?;
    let (warnings, metrics, flows) = (Arc::new(Warnings::default()), Arc::new(Metrics::default()), Arc::new(Store::default()));
    warnings.set(Topic::Host, missing);
    let mesh = Arc::new(Mesh::open(&config.state_dir)?);
    let kernel = Arc::new(open_kernel(&config, &places).await?);
    let holder = {
        let (config, warnings) = (config.clone(), warnings.clone());
        Arc::new(tokio::task::spawn_blocking(move || holder::Link::open(config, &warnings)).await?)
    };
    let namespaces = Arc::new(Namespaces::default());
    let host = NodeHost { kernel: kernel.clone(), mesh: mesh.clone(), namespaces: namespaces.clone(), flows: flows.clone(), metrics: metrics.clone() };
    let proxy = Proxy::new(Arc::new(host));
    let ender = Arc::new(Ender {
        kernel: kernel.clone(),
        mesh: mesh.clone(),
        namespaces: namespaces.clone(),
        flows: flows.clone(),
        metrics: metrics.clone(),
        warnings: warnings.clone(),
        resolvers: config.resolvers.clone(),
    });
    let drift = Arc::new(Drift::new(kernel.clone(), metrics.clone(), warnings.clone()));
    let revoker = Revoker::start(ender.clone()).context("cannot start the thread that ends connections")?;
    let applier = Arc::new(Applier {
        kernel: kernel.clone(),
        mesh: mesh.clone(),
        proxy: proxy.clone(),
        revoker: revoker.clone(),
        store: SnapshotStore::new(&config.state_dir),
        hosts_file: config.run_dir.join("hosts"),
        warnings: warnings.clone(),
        metrics: metrics.clone(),
        applying: Mutex::new(()),
    });
    restore(&applier, &config).await?;
    let live_file = config.state_dir.join("workloads.json");
    let static_file = StaticFile::new(config.workloads.clone());
    let plumbing = NodePlumbing {
        kernel: kernel.clone(),
        proxy: proxy.clone(),
        mesh: mesh.clone(),
        holder: holder.clone(),
        namespaces: namespaces.clone(),
        warnings: warnings.clone(),
        ender,
        drift: drift.clone(),
        revoker,
        runtime: Handle::current(),
        live_file: live_file.clone(),
        static_file: static_file.clone(),
        last: 0,
        doors: Default::default(),
        host: host_addresses(&config),
    };
    let sources = Sources { places: places.clone(), static_file, live_file, warnings: warnings.clone() };
    let (ready, done) = oneshot::channel();
    let (workloads, picture, workloads_thread) = node::start(plumbing, sources, ready).context("cannot start the thread of the workloads")?;
    done.await.context("the thread of the workloads ended at its start")?;
    take_over(&kernel).await?;
    let node = Arc::new(Node {
        config,
        places,
        kernel,
        mesh,
        holder,
        proxy,
        applier,
        workloads,
        view: View::new(picture),
        namespaces,
        drift,
        flows,
        link: Arc::new(LinkStatus::default()),
        metrics,
        warnings,
        started_at: SystemTime::now(),
        shutdown: CancellationToken::new(),
    });
    Ok(Built { node, lock, workloads_thread })
}

fn host_addresses(config: &Config) -> HostAddresses {
    match &config.bridge {
        _ if !config.host_addresses.is_empty() => HostAddresses::Given(config.host_addresses.clone()),
        Some(bridge) => HostAddresses::Towards(bridge.address.clone()),
        None => HostAddresses::All,
    }
}

/// Makes the directories, and this process the one agent of the node.
fn claim(config: &Config) -> anyhow::Result<Lock> {
    let make = |dir: &PathBuf, mode| files::make_dir(dir, mode).with_context(|| format!("cannot make directory {}", dir.display()));
    make(&config.state_dir, 0o700)?;
    make(&config.run_dir, 0o755)?;
    let file = config.lock_file();
    match Lock::take(&file).with_context(|| format!("cannot use {}", file.display()))? {
        Some(lock) => Ok(lock),
        None => Err(another(config, running(config)?.map_or(0, |pid| pid.as_raw_nonzero().get()))),
    }
}

fn another(config: &Config, pid: i32) -> anyhow::Error {
    anyhow::anyhow!("another agent runs with run_dir {} (process {pid}): stop it first, or give this one a run_dir of its own", config.run_dir.display())
}

/// How the programs are to be attached for this configuration.
pub fn kernel_options(config: &Config, places: &Places) -> NodeOptions {
    NodeOptions {
        cgroup_root: places.cgroup_root.clone(),
        managed: places.managed.clone(),
        bpffs: config.bpffs.clone(),
        refuse: config.denied == Denied::Econnrefused,
        resolvers: config.resolvers.clone(),
    }
}

async fn open_kernel(config: &Config, places: &Places) -> anyhow::Result<Kernel> {
    let options = kernel_options(config, places);
    Ok(tokio::task::spawn_blocking(move || Kernel::open(&options)).await??)
}

/// Until here programs of another version, if there were any, went on judging by their own tables.
async fn take_over(kernel: &Arc<Kernel>) -> anyhow::Result<()> {
    let kernel = kernel.clone();
    if tokio::task::spawn_blocking(move || kernel.take_over()).await?? {
        tracing::info!("took over from an agent of another ABI version");
    }
    Ok(())
}

/// Without a snapshot the hosts file is there all the same, so that it can be bind-mounted.
async fn restore(applier: &Arc<Applier>, config: &Config) -> anyhow::Result<()> {
    let applier = applier.clone();
    let restored = tokio::task::spawn_blocking(move || applier.restore()).await?;
    let hosts = config.run_dir.join("hosts");
    if !restored && !hosts.exists() {
        files::write_in_place(&hosts, crate::hosts::EMPTY.as_bytes(), 0o644).with_context(|| format!("cannot write {}", hosts.display()))?;
    }
    Ok(())
}
