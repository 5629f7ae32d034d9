//! `cargo xtask bench`: release builds of what is measured, then `weft-bench`, which compares and judges nothing.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use weft_host::{Need, Package};

use crate::{host, process};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// No mesh, same node, two nodes
    Paths,
    /// The gateway, nginx and HAProxy
    Gateway,
}

const PEERS: &[Package] = &[
    Package { name: "nginx-light", probe: "/usr/sbin/nginx" },
    Package { name: "haproxy", probe: "haproxy" },
    Package { name: "nghttp2-client", probe: "h2load" },
    Package { name: "openssl", probe: "openssl" },
    Package { name: "python3", probe: "python3" },
];

pub(crate) fn run(what: What, args: &[String]) -> Result<()> {
    weft_host::require(&[Need::Root, Need::Capabilities, Need::Cgroup2])?;
    host::space()?;
    let mut programs = vec!["weft-agent", "weft-iam-bridge", "weft-cli", "weft-bench"];
    let command = match what {
        What::Paths => "run",
        What::Gateway => {
            weft_host::ensure(PEERS)?;
            programs.push("weft-gateway");
            "gateway"
        }
    };
    let packages = programs.into_iter().flat_map(|name| ["-p", name]);
    process::run(process::cargo(["build", "--locked", "--release"]).args(packages))?;
    process::run(Command::new(process::target_dir().join("release/weft-bench")).arg(command).args(args).current_dir(process::root()))
}
