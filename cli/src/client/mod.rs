//! The other ends: agents and the IAM bridge, each on its unix socket. What comes off the wire leaves here as records or domain types.

mod agent;
mod bridge;
mod convert;
mod error;
mod users;

use std::{future::Future, path::Path};

use futures::future::join_all;
use tonic::{Response, Status};

pub use agent::{Agent, FlowFilter, NewWorkload};
pub use bridge::Bridge;
pub use convert::snapshot_of;
pub use error::{ClientError, Program};
pub use users::Groups;

use crate::{config::Config, limits::CALL_TIMEOUT};

/// All configured agents, in the order of the configuration.
pub async fn agents(config: &Config) -> Vec<Result<Agent, ClientError>> {
    join_all(config.agents.iter().map(Agent::connect)).await
}

/// A call with its deadline; `what` is said when it fails.
async fn call<T>(program: Program, socket: &Path, reply: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, ClientError> {
    call_within(CALL_TIMEOUT, program, socket, reply).await
}

async fn call_within<T>(
    limit: std::time::Duration,
    program: Program,
    socket: &Path,
    reply: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(limit, reply).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(ClientError::refused(program, socket, status)),
        Err(_) => Err(ClientError::Silent { program, socket: socket.to_owned(), seconds: limit.as_secs() }),
    }
}
