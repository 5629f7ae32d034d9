//! The only door to the kernel: programs, tables, namespaces, cgroups.
//!
//! It loads and pins the kernel programs, enrols workloads, puts revisions in force and reads back what really is. It decides nothing:
//! verdicts are the programs' (`ebpf/`), the tables come from `weft-policy`. All methods of [`Kernel`] block, most of them briefly;
//! [`Kernel::open`], [`Kernel::gate`] and [`Kernel::apply`] for up to some hundred milliseconds.

mod adopt;
mod apply;
mod attest;
pub mod cgroup;
mod cookie;
mod diag;
mod diagnostics;
mod drift;
mod error;
mod flows;
mod generation;
pub mod host;
mod inspect;
mod kernel;
mod known;
pub mod limits;
mod links;
pub mod listeners;
mod listening;
mod namespace;
mod netlink;
pub mod netns;
mod object;
pub mod peer;
mod percpu;
mod pins;
mod rtnl;
mod sockets;
mod sys;
mod table;
mod takeover;
mod uninstall;
mod veth;
mod workloads;

pub use attest::segments;
pub use diagnostics::Diagnostics;
pub use drift::Survey;
pub use error::KernelError;
pub use flows::FlowRing;
pub use inspect::Pinned;
pub use kernel::{Kernel, NodeOptions, ProgramInfo};
pub use sockets::{Ended, LiveSocket, can_end_sockets, tells_cgroups};
pub use uninstall::uninstall;
pub use weft_ebpf_common::{Attestation, FlowEvent, State};
pub use workloads::{Enrolment, Listeners};
