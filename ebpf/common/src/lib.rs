//! The kernel ABI of weft: what the kernel programs and the agent both read and write.
//!
//! Everything here is `repr(C)` with sized integers and explicit padding; a layout is asserted when this crate is compiled, on both
//! sides. It holds no kernel helper call and no user-space type, so its functions run under `cargo test` on the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod addr;
pub mod datagram;
pub mod judge;
pub mod limits;
pub mod packet;

pub use abi::*;
pub use addr::Addr;
