//! The per-node daemon of weft: it enrols workloads, writes the kernel's tables, carries what leaves the node, and tells what happened.
//!
//! Invariant: nothing here decides. The kernel programs and `weft_policy::Index` do; this crate brings them their facts.

pub mod admin;
pub mod app;
pub mod bridge;
pub mod cli;
pub mod command;
pub mod config;
pub mod files;
pub mod flows;
pub mod gateway;
pub mod holder;
pub mod hosts;
pub mod limits;
pub mod mesh;
pub mod metrics;
pub mod node;
pub mod proxy;
pub mod snapshots;
pub mod warnings;
pub mod workloads;
