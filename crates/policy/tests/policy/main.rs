//! From YAML to verdict and back: compiled, decided, explained, patched.

mod common;
mod compile;
mod decide;
mod patch;
