//! `weft user`: people who may sign in with the bridge's own identity provider.

use anyhow::{Result, anyhow};
use serde::Serialize;
use zeroize::Zeroizing;

use super::admin::bridge;
use crate::{
    Context, Outcome,
    args::{UserAddArgs, UserCommand, UserGroupsArgs},
    client::{Bridge, Groups},
    output::{self, Format},
    password, remark,
    view::UserView,
};

/// One user, and the password if it was made now.
#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    user: UserView,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

/// Another password, if it was made now.
#[derive(Serialize)]
struct Changed<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

pub(super) async fn run(ctx: &Context, command: UserCommand) -> Result<Outcome> {
    // Whoever has no bridge need not think of a password first.
    let bridge = bridge(ctx).await?;
    match command {
        UserCommand::Add(args) => add(ctx, &bridge, args).await?,
        UserCommand::Passwd { name, generate } => passwd(ctx, &bridge, &name, generate).await?,
        UserCommand::Groups(args) => groups(ctx, &bridge, args).await?,
        UserCommand::Disable { name } => {
            bridge.set_disabled(&name, true).await?;
            remark(&format!("user {name} is signed out, and cannot sign in"));
        }
        UserCommand::Enable { name } => {
            bridge.set_disabled(&name, false).await?;
            remark(&format!("user {name} can sign in"));
        }
        UserCommand::Rm { name } => {
            bridge.remove_user(&name).await?;
            remark(&format!("user {name} is removed and signed out"));
        }
        UserCommand::List => {
            let users = bridge.list_users().await?;
            ctx.output.show(&users, |style| output::users(style, &users, ctx.now))?;
        }
    }
    Ok(Outcome::Ok)
}

async fn add(ctx: &Context, bridge: &Bridge, args: UserAddArgs) -> Result<()> {
    let given = wanted(&args.name, args.generate)?;
    let (user, password) = bridge.add_user(&args.name, args.groups, given).await?;
    let line = if user.groups.is_empty() { "in no group".to_owned() } else { format!("in {}", user.groups.join(", ")) };
    let said = format!("user {} is added, {line}", user.name);
    show(ctx, &Made { user, password: made(&password) }, made(&password), &said)
}

async fn passwd(ctx: &Context, bridge: &Bridge, name: &str, generate: bool) -> Result<()> {
    let given = wanted(name, generate)?;
    let password = bridge.set_password(name, given).await?;
    let said = format!("user {name} has another password, and is signed out");
    show(ctx, &Changed { name, password: made(&password) }, made(&password), &said)
}

async fn groups(ctx: &Context, bridge: &Bridge, args: UserGroupsArgs) -> Result<()> {
    let UserGroupsArgs { name, groups, add, remove, none } = args;
    let asks = groups.is_empty() && add.is_empty() && remove.is_empty() && !none;
    let user = if asks {
        let all = bridge.list_users().await?;
        let found = all.into_iter().find(|u| u.name.eq_ignore_ascii_case(&name));
        found.ok_or_else(|| anyhow!("there is no user {name}: weft user list shows all"))?
    } else if add.is_empty() && remove.is_empty() {
        bridge.set_groups(&name, Groups::Replace(groups)).await?
    } else {
        bridge.set_groups(&name, Groups::Change { add, remove }).await?
    };
    ctx.output.show(&user, |_| user.groups.iter().map(|g| format!("{g}\n")).collect())?;
    Ok(())
}

/// The password alone on stdout, so that `PASSWORD=$(weft user add NAME --generate)` gets it; the words on stderr.
fn show<T: Serialize>(ctx: &Context, record: &T, password: Option<&str>, said: &str) -> Result<()> {
    ctx.output.show(record, |_| password.map_or(String::new(), |p| format!("{p}\n")))?;
    if ctx.output.format == Format::Table {
        remark(said);
    }
    Ok(())
}

/// `None`: the bridge is to make one.
fn wanted(name: &str, generate: bool) -> Result<Option<Zeroizing<String>>> {
    if generate { Ok(None) } else { Ok(Some(password::read(name)?)) }
}

/// The bridge gives back only what it made.
fn made(password: &Zeroizing<String>) -> Option<&str> {
    (!password.is_empty()).then_some(password.as_str())
}
