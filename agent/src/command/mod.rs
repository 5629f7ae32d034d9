//! The commands beside `run` and `hold`.

mod check;
mod guard;
mod stop;
mod uninstall;

pub use check::{Format, check};
pub use guard::guard;
pub use stop::{running, stop};
pub use uninstall::uninstall;
