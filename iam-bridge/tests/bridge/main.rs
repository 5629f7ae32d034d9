//! A whole bridge in this process, spoken to over its own wires: no root, no fixed port.

mod nodes;
mod snapshots;
mod start;
mod support;
