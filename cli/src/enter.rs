//! Becoming another program in another place: cgroup, network namespace, mount namespace and root, then exec.
//!
//! Everything is opened while the way is still clear; the steps after that are few and leave nothing half done that matters, because
//! the process ends when one of them fails.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    process::{chroot, fchdir},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug)]
pub struct Plan {
    command: Vec<OsString>,
    cgroup: Option<(PathBuf, File)>,
    netns: Option<(PathBuf, File)>,
    files: Option<Files>,
}

/// The files as one process sees them: its mount namespace, and its root in there, which a chroot or a container's runtime may have
/// moved.
#[derive(Debug)]
pub struct Files {
    namespace: (PathBuf, File),
    root: (PathBuf, File),
}

impl Files {
    pub fn of(pid: u32) -> Result<Self, EnterError> {
        let proc = |entry: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{entry}"));
            open(&path).map(|file| (path, file))
        };
        Ok(Self { namespace: proc("ns/mnt")?, root: proc("root")? })
    }
}

#[derive(Debug, Error)]
pub enum EnterError {
    #[error("cannot open {path}{}", hint(source))]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot move into cgroup {path}{}", hint(source))]
    Cgroup { path: PathBuf, source: io::Error },
    #[error("cannot enter the namespace {path}{}", hint(source))]
    Namespace { path: PathBuf, source: io::Error },
    #[error("cannot make {path} the root{}", hint(source))]
    Root { path: PathBuf, source: io::Error },
    #[error("cannot reset signals")]
    Signal(#[source] io::Error),
    #[error("cannot run {program:?}")]
    Exec { program: OsString, source: io::Error },
}

impl EnterError {
    /// As shells do: 127 not found, 126 not to be run; 2 before that.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec { .. } => 126,
            _ => 2,
        }
    }
}

impl Plan {
    /// `command`: program and arguments, not empty.
    pub fn new(command: Vec<OsString>) -> Self {
        Self { command, cgroup: None, netns: None, files: None }
    }

    /// `dir`: absolute.
    pub fn cgroup(mut self, dir: &Path) -> Result<Self, EnterError> {
        let procs = dir.join("cgroup.procs");
        let file = File::options().write(true).open(&procs).map_err(|source| EnterError::Open { path: procs, source })?;
        self.cgroup = Some((dir.to_owned(), file));
        Ok(self)
    }

    pub fn netns(mut self, path: &Path) -> Result<Self, EnterError> {
        self.netns = Some((path.to_owned(), open(path)?));
        Ok(self)
    }

    pub fn files(mut self, files: Files) -> Self {
        self.files = Some(files);
        self
    }

    /// SIGINT and SIGQUIT may be inherited as ignored (a shell's background job). A handler of ours becomes the default action at exec, which
    /// is the one way to reset them without unsafe code. Needs the runtime, so it comes before [`Plan::go`].
    pub fn reset_signals(self) -> Result<Self, EnterError> {
        for kind in [SignalKind::interrupt(), SignalKind::quit()] {
            drop(signal(kind).map_err(EnterError::Signal)?);
        }
        Ok(self)
    }

    /// Returns only when something failed. Must be the only thread.
    pub fn go(mut self) -> EnterError {
        if let Err(e) = self.enter() {
            return e;
        }
        let program = self.command.remove(0);
        let source = Command::new(&program).args(self.command).exec();
        EnterError::Exec { program, source }
    }

    /// The cgroup first: from then on whatever happens is judged as the workload.
    fn enter(&mut self) -> Result<(), EnterError> {
        if let Some((path, file)) = &mut self.cgroup {
            // 0 is the writer itself, whatever PID namespace it sees.
            file.write_all(b"0").map_err(|source| EnterError::Cgroup { path: path.clone(), source })?;
        }
        let into = |(path, file): &(PathBuf, File), kind| {
            move_into_link_name_space(file.as_fd(), Some(kind)).map_err(|e| EnterError::Namespace { path: path.clone(), source: e.into() })
        };
        if let Some(netns) = &self.netns {
            into(netns, LinkNameSpaceType::Network)?;
        }
        if let Some(Files { namespace, root: (path, root) }) = &self.files {
            let here = std::env::current_dir();
            into(namespace, LinkNameSpaceType::Mount)?;
            // setns puts the process at the root of the namespace, which need not be the root of the process there.
            fchdir(root).and_then(|()| chroot(".")).map_err(|e| EnterError::Root { path: path.clone(), source: e.into() })?;
            // Back to the same place where there is one.
            if let Ok(here) = here {
                let _ = std::env::set_current_dir(here);
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<File, EnterError> {
    File::open(path).map_err(|source| EnterError::Open { path: path.to_owned(), source })
}

fn hint(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::PermissionDenied => " (this needs root: try sudo)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        let exec = |kind: io::ErrorKind| EnterError::Exec { program: "x".into(), source: kind.into() }.exit_code();
        assert_eq!((exec(io::ErrorKind::NotFound), exec(io::ErrorKind::PermissionDenied)), (127, 126));
        let failed = Plan::new(vec!["/nowhere/at-all".into()]).go();
        assert_eq!((failed.exit_code(), failed.to_string()), (127, "cannot run \"/nowhere/at-all\"".to_owned()));
    }

    #[test]
    fn a_missing_namespace_is_named() {
        let e = Plan::new(vec!["true".into()]).netns(Path::new("/run/netns/absent")).unwrap_err();
        assert_eq!((e.exit_code(), e.to_string()), (2, "cannot open /run/netns/absent".to_owned()));
    }
}
