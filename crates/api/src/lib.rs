//! Protocol buffers of every wire of the control plane: what agents and people say to the IAM bridge, and people to an agent.
//!
//! The modules under `generated/` are made by `cargo xtask codegen`. Nothing here knows what a message means: programs turn it into the domain's types.

pub mod limits;
mod secret;
mod unix;

pub use unix::{ConnectError, connect_unix};

pub mod agent {
    //! What people and tools say to the agent of one node.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
    pub mod v1 {
        include!("generated/weft.agent.v1.rs");
    }
}

pub mod bridge {
    //! What agents and people say to the IAM bridge.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
    pub mod v1 {
        include!("generated/weft.bridge.v1.rs");
    }
}

pub mod gateway {
    //! What the gateway says to the agent of its node.
    #[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
    pub mod v1 {
        include!("generated/weft.gateway.v1.rs");
    }
}

/// Version of the wire between agent and bridge. A program refuses a peer that speaks another one, with a message that names both.
pub const PROTOCOL_VERSION: u32 = 1;
