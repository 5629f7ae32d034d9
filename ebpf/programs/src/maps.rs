//! Every table of the kernel side. Keys, values and bounds are `weft-ebpf-common`'s.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type, bpf_sock},
    btf_maps::SkStorage,
    helpers::generated::bpf_sk_storage_get,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf, SockHash, lpm_trie::Key},
};
use weft_ebpf_common::{abi::*, addr::Addr, judge::Tables, limits};

#[map]
pub static STATE: Array<State> = Array::pinned(1, 0);
#[map]
pub static WORKLOADS: HashMap<u64, Workload> = HashMap::pinned(limits::WORKLOADS_MAX, 0);
#[map]
pub static MANAGED: HashMap<u64, u32> = HashMap::pinned(limits::MANAGED_MAX, 0);
#[map]
pub static NETNS: HashMap<u64, Netns> = HashMap::pinned(limits::WORKLOADS_MAX, 0);
#[map]
pub static DESTINATIONS: HashMap<DestinationKey, Destination> = HashMap::pinned(limits::DESTINATIONS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static EXTERNALS: LpmTrie<ExternalKey, External> = LpmTrie::pinned(limits::EXTERNALS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static PORTS: HashMap<PortKey, Port> = HashMap::pinned(limits::PORTS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static GRANTS: HashMap<GrantKey, Grant> = HashMap::pinned(limits::GRANTS_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static LOCAL: HashMap<u32, LocalBackends> = HashMap::pinned(limits::LOCAL_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static LOCAL_ADDRS: HashMap<Addr, LocalAddr> = HashMap::pinned(limits::WORKLOADS_MAX * 4, BPF_F_NO_PREALLOC);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::pinned(limits::DEVICES_MAX, BPF_F_NO_PREALLOC);
/// Preallocated: an allocation that fails under memory pressure would refuse connections.
#[map]
pub static ATTESTATIONS: HashMap<TupleKey, Attestation> = HashMap::pinned(limits::ATTESTATIONS_MAX, 0);
/// Who listens in shared namespaces.
#[map]
pub static LISTENING: HashMap<ListenKey, Listen> = HashMap::pinned(limits::LISTENING_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static RESOLVERS: HashMap<ResolverKey, u32> = HashMap::pinned(limits::RESOLVERS_MAX, 0);
#[map]
pub static FLOWS: RingBuf = RingBuf::pinned(limits::FLOW_RING_BYTES, 0);
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS_LEN, 0);
/// Tunnel listeners by namespace cookie.
#[map]
pub static LISTENERS: SockHash<u64> = SockHash::pinned(limits::WORKLOADS_MAX, 0);
/// What is known of the socket's connection.
#[btf_map]
pub static SOCKS: SkStorage<Attestation> = SkStorage::new();
/// Who made the socket.
#[btf_map]
pub static OWNERS: SkStorage<SocketOwner> = SkStorage::new();
/// Cookie of the socket's namespace, which it never leaves: for hooks that cannot ask. An accepted socket has its listener's.
#[btf_map]
pub static HOMES: InheritedStorage<u64> = InheritedStorage::new();

/// As [`SkStorage`], and `accept()` copies the value.
#[repr(C)]
pub struct InheritedStorage<T> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: placeholders that the loader replaces; nothing reads them.
unsafe impl<T> Sync for InheritedStorage<T> {}

impl<T> InheritedStorage<T> {
    const fn new() -> Self {
        Self { r#type: ptr::null(), key: ptr::null(), value: ptr::null(), max_entries: ptr::null(), map_flags: ptr::null() }
    }
}

const COUNTERS_LEN: u32 = weft_ebpf_common::abi::COUNTERS;

/// The calling program's view of one generation.
pub struct Slot(pub u32);

impl Tables for Slot {
    #[inline(always)]
    fn destination(&self, addr: &Addr) -> Option<Destination> {
        let key = DestinationKey { slot: self.0, addr: *addr };
        // SAFETY: the value is copied at once; entries are small and replaced whole.
        unsafe { DESTINATIONS.get(&key) }.copied()
    }

    #[inline(always)]
    fn external(&self, addr: &Addr) -> Option<External> {
        EXTERNALS.get(&Key::new(160, ExternalKey { slot_be: self.0.to_be(), addr: *addr })).copied()
    }

    #[inline(always)]
    fn port(&self, service: u32, kind: u32, port: u16, proto: u8) -> Option<Port> {
        let key = PortKey { slot: self.0, service, kind, port, proto, pad: 0 };
        // SAFETY: as above.
        unsafe { PORTS.get(&key) }.copied()
    }

    #[inline(always)]
    fn grant(&self, source: u32, destination: u32, port: u16, proto: u8) -> Option<Grant> {
        let key = GrantKey { slot: self.0, source, destination, port, proto, pad: 0 };
        // SAFETY: as above.
        unsafe { GRANTS.get(&key) }.copied()
    }
}

/// The record on `sk`, created zeroed when `create`. `sk` is a context's socket pointer; null is refused by the helper's caller.
#[inline(always)]
pub fn record<'a>(sk: *mut bpf_sock, create: bool) -> Option<&'a mut Attestation> {
    storage(ptr::addr_of!(SOCKS).cast(), sk, create)
}

#[inline(always)]
pub fn owner<'a>(sk: *mut bpf_sock, create: bool) -> Option<&'a mut SocketOwner> {
    storage(ptr::addr_of!(OWNERS).cast(), sk, create)
}

#[inline(always)]
pub fn home<'a>(sk: *mut bpf_sock, create: bool) -> Option<&'a mut u64> {
    storage(ptr::addr_of!(HOMES).cast(), sk, create)
}

#[inline(always)]
fn storage<'a, T>(map: *const core::ffi::c_void, sk: *mut bpf_sock, create: bool) -> Option<&'a mut T> {
    if sk.is_null() {
        return None;
    }
    // SAFETY: `map` is a socket storage map whose value is T, `sk` a socket of the context; the verifier checks both, and storage lives
    // as long as the socket, which outlives the program's run.
    unsafe {
        let p = bpf_sk_storage_get(map.cast_mut(), sk.cast(), ptr::null_mut(), u64::from(create)).cast::<T>();
        p.as_mut()
    }
}
