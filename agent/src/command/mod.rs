//! The commands beside `run` and `hold`.

mod check;
mod stop;
mod uninstall;

pub use check::{Format, check};
pub use stop::stop;
pub use uninstall::uninstall;
