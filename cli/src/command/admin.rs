//! `weft token` and `weft nodes`: what people tell the bridge.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use weft_types::{Label, ServiceRef};

use crate::{
    Context, Outcome,
    args::{NodesCommand, TokenCommand, TokenCreateArgs},
    client::Bridge,
    output, remark,
    view::Stamp,
};

#[derive(Serialize)]
struct TokenView {
    node: String,
    may_run: Vec<String>,
    expires_at: Option<Stamp>,
    /// Absent when it was written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    written_to: Option<PathBuf>,
}

pub(super) async fn token(ctx: &Context, command: TokenCommand) -> Result<Outcome> {
    let TokenCommand::Create(args) = command;
    args.may_run.iter().try_for_each(|pattern| check_pattern(pattern))?;
    let bridge = bridge(ctx).await?;
    let (token, expires_at) = bridge.create_token(&args.node, args.may_run.clone(), args.ttl).await?;
    let mut view = TokenView { node: args.node.to_string(), may_run: args.may_run.clone(), expires_at, token: Some(token), written_to: None };
    if let Some(path) = &args.out {
        write_secret(path, view.token.take().unwrap_or_default().as_bytes())?;
        view.written_to = Some(path.clone());
    }
    ctx.output.show(&view, |_| view.token.clone().unwrap_or_default())?;
    if ctx.output.format != output::Format::Json {
        say(ctx, &args, expires_at);
    }
    Ok(Outcome::Ok)
}

/// On stderr, so that `TOKEN=$(weft token create …)` gets the token alone.
fn say(ctx: &Context, args: &TokenCreateArgs, expires_at: Option<Stamp>) {
    let until = expires_at.map_or(String::new(), |t| format!(", until {t} ({})", t.relative(ctx.now)));
    let place = args.out.as_ref().map_or(String::new(), |p| format!(" (written to {})", p.display()));
    remark(&format!("join token for node {}{place}: it may run {}{until}", args.node, args.may_run.join(", ")));
}

pub(super) async fn nodes(ctx: &Context, command: NodesCommand) -> Result<Outcome> {
    let NodesCommand::Rm { node } = command;
    bridge(ctx).await?.remove_node(&node).await?;
    remark(&format!("node {node} is forgotten: its certificate and tokens are refused from now on"));
    Ok(Outcome::Ok)
}

pub(super) async fn bridge(ctx: &Context) -> Result<Bridge> {
    let socket =
        ctx.config()?.bridge.context("this goes to the bridge, and the configuration names none: set bridge = \"/run/weft/bridge.sock\" or use --bridge")?;
    Ok(Bridge::connect(&socket).await?)
}

/// `namespace/name` or `namespace/*`.
fn check_pattern(pattern: &str) -> Result<()> {
    let fits = match pattern.strip_suffix("/*") {
        Some(namespace) => namespace.parse::<Label>().is_ok(),
        None => pattern.parse::<ServiceRef>().is_ok(),
    };
    ensure!(fits, "--may-run {pattern:?} is neither NAMESPACE/NAME nor NAMESPACE/*");
    Ok(())
}

/// Never readable by others, not even for a moment, and never half written.
fn write_secret(path: &Path, secret: &[u8]) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(secret)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().inspect_err(|_| drop(fs::remove_file(&fresh))).with_context(|| format!("cannot write the token to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn patterns_are_checked_before_the_bridge_is_asked() {
        for good in ["shop/*", "shop/orders"] {
            assert!(check_pattern(good).is_ok(), "{good}");
        }
        for bad in ["*", "shop", "*/orders", "shop/o*", "shop/*/x", ""] {
            assert!(check_pattern(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_file_is_private_even_when_it_replaces_an_open_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "old").unwrap();
        write_secret(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
