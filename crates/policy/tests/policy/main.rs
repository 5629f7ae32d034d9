//! From YAML to verdict and back: compiled, decided, explained, patched.

mod common;
mod compile;
mod cors;
mod decide;
mod expose;
mod patch;
mod portal;
mod request;
