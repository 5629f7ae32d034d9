//! Logs, metrics and health, the same for every weft program.
//!
//! What is measured is each program's own business: this crate only renders and serves it. It exports no traces and pushes nothing anywhere.

pub mod limits;
mod logs;
mod serve;

pub use logs::{LogError, LogFormat, init_logs};
pub use serve::{Probes, ServeError, Server, render, serve_http};
