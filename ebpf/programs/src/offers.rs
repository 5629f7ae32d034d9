//! What the running kernel offers of that which has a substitute. The loader probes and writes these constants before a program exists, so
//! the verifier never looks at the way that is not taken.

/// `bpf_get_netns_cookie` in `sock_ops` (absent from 5.10). Substitute: [`crate::maps::HOMES`].
#[unsafe(no_mangle)]
static COOKIE_IN_SOCK_OPS: u32 = 1;

/// `bpf_set_retval` at `connect` (5.18 and newer). Without it a denied `connect()` fails with EPERM, whatever the configuration says.
#[unsafe(no_mangle)]
static SET_RETVAL: u32 = 1;

#[inline(always)]
pub fn cookie_in_sock_ops() -> bool {
    // SAFETY: a constant of the object, see above.
    unsafe { core::ptr::read_volatile(&raw const COOKIE_IN_SOCK_OPS) != 0 }
}

#[inline(always)]
pub fn set_retval() -> bool {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const SET_RETVAL) != 0 }
}
