//! What a provider that nobody here wrote has to offer to be driven: a process that comes and goes, people whose groups change, and its own pages.

use std::{
    future::Future,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    process::{Child, Command},
    sync::Mutex,
};
use weft_gateway::sso::ProviderConfig;

use crate::{browser::Web, world::PATIENCE};

pub(crate) const PASSWORD: &str = "a long password of the test";

/// What was done at a page of the provider's own, and where that leads.
pub(crate) struct Done {
    pub(crate) typed_password: bool,
    pub(crate) next: String,
}

pub(crate) trait Foreign: Sized + Send + Sync {
    /// With `alice` (`ops`, `sales`) and `bob` (`support`), and clients `weft` and `wiki`. `back_channel`: where logout tokens for `weft` go.
    fn install(dir: &Path, back_channel: &str) -> impl Future<Output = Result<Self>> + Send;
    fn issuer(&self) -> String;
    fn client(&self, id: &str) -> ProviderConfig;
    fn start(&self) -> impl Future<Output = Result<()>> + Send;
    fn stop(&self) -> impl Future<Output = Result<()>> + Send;
    fn set_groups(&self, user: &str, groups: &[&str]) -> impl Future<Output = Result<()>> + Send;
    /// `user` sits before a page of the provider that leads nowhere by itself, and does what a person would.
    fn at_page(&self, web: &mut Web, user: &str, url: &str, html: &str) -> impl Future<Output = Result<Done>> + Send;
}

/// Free at this moment, and the provider's from now on, so that it can come back there.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A process of the provider's; it ends with this value.
#[derive(Default)]
pub(crate) struct Process(Mutex<Option<Child>>);

impl Process {
    pub(crate) async fn start(&self, program: &Path, args: &[String], envs: &[(&str, String)], dir: &Path, port: u16) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log"))?;
        let mut command = Command::new(program);
        command.args(args).envs(envs.iter().map(|(name, value)| (name, value))).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{} cannot be started: `cargo xtask test gateway` installs it", program.display()))?;
        let begun = tokio::time::Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}: {}", program.display(), tail(dir));
            }
            if begun.elapsed() > PATIENCE {
                bail!("{} does not listen on port {port}: {}", program.display(), tail(dir));
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        *self.0.lock().await = Some(child);
        Ok(())
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        if let Some(mut child) = self.0.lock().await.take() {
            child.kill().await?;
        }
        Ok(())
    }
}

fn tail(dir: &Path) -> String {
    let log = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Where `cargo xtask test` puts the packages of npm.
pub(crate) fn node_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node")
}
