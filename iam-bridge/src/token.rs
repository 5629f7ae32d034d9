//! `weft-iam-bridge token create`: asks the running bridge on its admin socket.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use weft_api::{
    bridge::v1::{CreateJoinTokenRequest, admin_client::AdminClient},
    connect_unix,
};
use zeroize::Zeroizing;

use crate::files;

/// What a token is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub node: String,
    pub may_run: Vec<String>,
    /// `None`: the bridge's default.
    pub ttl: Option<Duration>,
}

/// Makes a token; prints it, or writes it into a file that only this user can read.
pub async fn create(socket: &Path, wish: Wish, out: Option<&Path>) -> Result<()> {
    let mut admin = AdminClient::new(connect_unix(socket).await?);
    let ttl_seconds = wish.ttl.map_or(0, |t| t.as_secs());
    let request = CreateJoinTokenRequest { node: wish.node, may_run: wish.may_run, ttl_seconds };
    let made = admin.create_join_token(request).await.map_err(|s| anyhow::anyhow!("{}", s.message())).context("no token is made")?.into_inner();
    let token = Zeroizing::new(made.token);
    match out {
        None => println!("{}", *token),
        Some(path) => files::write_secret(path, format!("{}\n", *token).as_bytes())?,
    }
    Ok(())
}
