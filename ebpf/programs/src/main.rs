//! The kernel programs of weft. Entry points are shells: read the context, call a plain function, write the verdict.
//!
//! Deliberately absent: any test-only code, and any decision from an address or a value that a workload can set.
#![no_std]
#![no_main]

mod arrival;
mod connect;
mod ctx;
mod datagram;
mod dial;
mod emit;
mod families;
mod guard;
mod ingress;
mod listen;
mod maps;
mod names;
mod offers;
mod public;
mod shared;
mod socket;
mod tcp;
mod udp;
mod veth;
mod who;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier refuses a program in which this could be reached.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
