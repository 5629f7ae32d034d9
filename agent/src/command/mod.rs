//! The commands beside `run` and `hold`.

mod check;
mod guard;
mod handover;
mod stop;
mod uninstall;

pub use check::{Format, check};
pub use guard::guard;
pub use handover::{handover, leave, start_successor};
pub use stop::{running, stop};
pub use uninstall::uninstall;
