//! One module a command: fetch, decide how it ended, hand the record to `output`.

mod admin;
pub mod can;
pub mod can_open;
mod certs;
mod check;
mod completion;
mod exec;
mod flows;
mod get;
mod lint;
mod run;
mod status;
mod user;
mod version;
mod why;

use anyhow::Result;

use crate::{Context, Outcome, args::Command};

pub async fn run(ctx: &Context, command: Command) -> Result<Outcome> {
    match command {
        Command::Status(args) => status::run(ctx, args).await,
        Command::Get(args) => get::run(ctx, args).await,
        Command::Can(args) => can::run(ctx, args).await,
        Command::Flows(args) => flows::run(ctx, args).await,
        Command::Why(args) => why::run(ctx, args).await,
        Command::Lint(args) => lint::run(ctx, args),
        Command::Certs(args) => certs::run(ctx, args).await,
        Command::Run(args) => run::run(ctx, args).await,
        Command::Exec(args) => exec::run(ctx, args).await,
        Command::Check(args) => check::run(args),
        Command::Version => version::run(ctx).await,
        Command::Token(args) => admin::token(ctx, args).await,
        Command::Nodes(args) => admin::nodes(ctx, args).await,
        Command::User(args) => user::run(ctx, args).await,
        Command::Completion { shell } => completion::run(shell),
    }
}
