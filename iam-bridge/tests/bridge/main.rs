//! A whole bridge in this process, spoken to over its own wires: no root, no fixed port.

mod bounds;
mod front;
mod nodes;
mod program;
mod provider;
mod snapshots;
mod start;
mod support;
