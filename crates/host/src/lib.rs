//! What a machine must have before anything is started on it, and the Debian packages that bring what it lacks.
//!
//! Checks read and change nothing; what they miss is an [`Unmet`], one line that names it and the way out. Programs end with code 2 on it. Only
//! [`ensure`] changes anything.

mod machine;
mod packages;

pub use machine::{DEMO_DOOR, DEMO_WINDOW, Need, Unmet, cgroup2, is_root, require, space, work_dir, work_space};
pub use packages::{Package, ensure, find_program, missing};
