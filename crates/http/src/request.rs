//! A request that was let in, as it is handed from the server to whoever answers it or passes it on.

use crate::{body::Body, upgrade::Upgrade, vet::Vetted};

#[derive(Debug)]
pub struct Request {
    pub head: Vetted,
    pub body: Body,
    /// The client's connection, for when it becomes a WebSocket.
    pub upgrade: Option<Upgrade>,
}
