//! The workloads of this node: where they come from, how they are enrolled, what others may know of them.

mod manager;
#[cfg(test)]
mod manager_tests;
mod spec;
mod view;

pub use manager::{AddError, AddReply, Instance, Manager, Plumbing};
pub use spec::{FieldError, HOST_NETNS, Origin, Places, Spec, SpecError, load_live, read_static, save_live};
pub use view::{Enrolled, Picture, Seen, View};
