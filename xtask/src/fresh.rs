//! `cargo xtask fresh`: what a newcomer meets. A Debian root with a compiler, git and Rust, a clone of HEAD, the two commands of the
//! README.
//!
//! The root lives in a mount namespace of its own and is removed afterwards; only the bare root is kept, as a tarball in the cache.
//! Package sources, resolver and certificates are this machine's; nothing here names a host.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_bind_recursive, mount_change, mount_remount};
use weft_host::Need;

use crate::{debian, process};

/// The two commands of the README.
const README: &[&str] = &["cargo xtask demo --check", "cargo xtask test"];
/// What works without root, kernel toolchain or cluster.
const ORDINARY: &[&str] = &["cargo check --workspace", "cargo test"];

/// Inside the root.
const TOOLCHAIN: &str = "/opt/rust";
const NEWCOMER: &str = "newcomer";

/// A built tree, two target directories and the packages of the kernel's build chain.
const SPACE_MIB: u64 = 16 * 1024;

#[derive(Args, Clone, Debug)]
pub(crate) struct FreshArgs {
    /// How often each command is run there
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Instead of the README's commands, what an ordinary user can do: `cargo check --workspace` and `cargo test`
    #[arg(long)]
    as_user: bool,
    /// Instead of the README's commands, this one
    #[arg(last = true)]
    command: Vec<String>,
}

impl FreshArgs {
    /// Each as its words.
    fn commands(&self) -> Vec<Vec<String>> {
        let words = |line: &&str| line.split(' ').map(str::to_owned).collect();
        match (self.as_user, self.command.is_empty()) {
            (true, true) => ORDINARY.iter().map(words).collect(),
            (false, true) => README.iter().map(words).collect(),
            (_, false) => vec![self.command.clone()],
        }
    }

    /// Home, and in it the clone.
    fn home(&self) -> String {
        if self.as_user { format!("/home/{NEWCOMER}") } else { "/root".to_owned() }
    }

    /// The same again for the half that runs in the other namespace.
    fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--rounds={}", self.rounds)];
        arguments.extend(self.as_user.then(|| "--as-user".to_owned()));
        if !self.command.is_empty() {
            arguments.push("--".to_owned());
            arguments.extend(self.command.iter().cloned());
        }
        arguments
    }
}

pub(crate) fn run(args: &FreshArgs) -> Result<()> {
    weft_host::require(&[Need::Root, Need::Capabilities, Need::Cgroup2])?;
    let cache = debian::cache()?;
    weft_host::space(&cache, SPACE_MIB, "set XDG_CACHE_HOME to a larger file system")?;
    fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    debian::remove_left_over(&cache)?;
    let tarball = debian::bare_root(&cache)?;

    let root = debian::Room(cache.join(format!("fresh-{}", std::process::id())));
    fs::create_dir(&root.0).with_context(|| format!("cannot make {}", root.0.display()))?;
    process::output(Command::new("tar").arg("-xpf").arg(&tarball).arg("-C").arg(&root.0))?;
    furnish(&root.0, args)?;
    // The mounts die with the namespace, and the namespace with its last process.
    let inside = std::env::current_exe().context("cannot find xtask itself")?;
    process::run(
        Command::new("unshare").args(["--mount", "--propagation", "private", "--"]).arg(inside).arg("fresh-inside").arg(&root.0).args(args.to_arguments()),
    )
}

/// The second half, in a mount namespace of its own.
pub(crate) fn inside(root: &Path, args: &FreshArgs) -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("cannot make the mounts private")?;
    // On a mount of its own: `ip -n` and `ip netns exec` change the propagation of "/", which is refused where "/" is no mount point.
    bind(root, root)?;
    for dir in ["proc", "sys", "dev"] {
        bind(&Path::new("/").join(dir), &root.join(dir))?;
    }
    let toolchain = root.join(TOOLCHAIN.trim_start_matches('/'));
    bind(&toolchain_dir()?, &toolchain)?;
    mount_remount(&toolchain, MountFlags::BIND | MountFlags::RDONLY, "").context("cannot make the toolchain read-only")?;

    let mut rows = Vec::new();
    for round in 1..=args.rounds {
        for words in args.commands() {
            let line = words.join(" ");
            println!("\n==> round {round}: {line}");
            let begun = Instant::now();
            process::run(enter(root, args).args(&words))?;
            rows.push((round, line, begun.elapsed()));
        }
    }
    println!(
        "\nIn a clean Debian {}, at {}:\n{}",
        debian::RELEASE,
        process::output(enter(root, args).args(["git", "rev-parse", "--short", "HEAD"]))?.trim(),
        table(&rows)
    );
    Ok(())
}

fn table(rows: &[(u32, String, Duration)]) -> String {
    rows.iter()
        .map(|(round, line, time)| format!("  round {round}  {line:<28} {:>4} min {:>2} s", time.as_secs() / 60, time.as_secs() % 60))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What of this machine the root needs to reach the package sources, and the clone.
fn furnish(root: &Path, args: &FreshArgs) -> Result<()> {
    debian::sources(root)?;
    if args.as_user {
        process::output(Command::new("chroot").arg(root).args(["useradd", "--create-home", "--shell", "/bin/sh", NEWCOMER]))?;
    }
    let home = root.join(args.home().trim_start_matches('/'));
    process::output(process::git(["clone", "--quiet", "--no-hardlinks", "."]).arg(home.join("weft")))?;
    // The machine's own settings for the registry, and nothing of its caches.
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    if let Some(settings) = cargo.map(|cargo| cargo.join("config.toml")).filter(|settings| settings.is_file()) {
        fs::create_dir_all(home.join(".cargo")).context("cannot make the place of cargo's settings")?;
        fs::copy(settings, home.join(".cargo/config.toml")).context("cannot copy cargo's settings")?;
    }
    if args.as_user {
        process::output(Command::new("chroot").arg(root).args(["chown", "-R", NEWCOMER, &args.home()]))?;
    }
    fs::create_dir_all(root.join(TOOLCHAIN.trim_start_matches('/'))).context("cannot make the place of the toolchain")
}

fn toolchain_dir() -> Result<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Ok(PathBuf::from(process::output(Command::new(rustc).args(["--print", "sysroot"]))?.trim()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount_bind_recursive(from, to).with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

/// A command in the clone, with an environment that a newcomer could have.
fn enter(root: &Path, args: &FreshArgs) -> Command {
    let mut command = Command::new("chroot");
    command.env_clear();
    for (name, value) in std::env::vars().filter(|(name, _)| is_of_the_machine(name)) {
        command.env(name, value);
    }
    command
        .env("HOME", args.home())
        .env("USER", if args.as_user { NEWCOMER } else { "root" })
        .env("LANG", "C.UTF-8")
        .env("TERM", "dumb")
        .env("PATH", format!("{TOOLCHAIN}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
        .args(args.as_user.then(|| format!("--userspec={NEWCOMER}:{NEWCOMER}")))
        .arg(root)
        .args(["env", "-C", &format!("{}/weft", args.home())]);
    command
}

/// How the network is reached is the machine's business, everything else is the newcomer's.
fn is_of_the_machine(name: &str) -> bool {
    matches!(
        name.to_ascii_lowercase().as_str(),
        "http_proxy" | "https_proxy" | "no_proxy" | "ssl_cert_file" | "ssl_cert_dir" | "curl_ca_bundle" | "node_extra_ca_certs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_half_is_told_the_same() {
        let check = |rounds, as_user, command: &[&str], expect: &[&str]| {
            let args = FreshArgs { rounds, as_user, command: command.iter().map(|word| (*word).to_owned()).collect() };
            assert_eq!(args.to_arguments(), expect);
        };
        check(2, false, &[], &["--rounds=2"]);
        check(1, true, &["cargo", "--version"], &["--rounds=1", "--as-user", "--", "cargo", "--version"]);
    }

    #[test]
    fn the_newcomer_has_no_settings_of_ours() {
        assert!(is_of_the_machine("https_proxy") && is_of_the_machine("SSL_CERT_FILE"));
        assert!(!is_of_the_machine("CARGO_TARGET_DIR") && !is_of_the_machine("RUSTFLAGS"));
    }

    #[test]
    fn times_are_minutes_and_seconds() {
        assert_eq!(table(&[(1, "cargo xtask test".into(), Duration::from_secs(605))]), "  round 1  cargo xtask test               10 min  5 s");
    }
}
