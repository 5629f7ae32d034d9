//! Raw bpf(2), for what aya does not offer: links by path, in-place program swaps, socket storage through a descriptor.
//!
//! The attribute layouts are the kernel's (`include/uapi/linux/bpf.h`), cut after the last field used; the kernel takes the rest as zero.

use std::{
    ffi::CString,
    io, mem,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;

/// `enum bpf_map_type` and `enum bpf_prog_type`, as far as aya does not make them.
pub(crate) const LRU_HASH: u32 = 9;
pub(crate) const CGROUP_SOCK: u32 = 9;

#[repr(C)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

#[repr(C)]
struct ElemAttr {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
struct ObjAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// The head of `struct bpf_link_info`: for a cgroup link the target is the cgroup's id, for a namespace link the inode in its low half.
/// A target that has gone reads as 0.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) prog_id: u32,
    pad: u32,
    target: u64,
    pub(crate) attach_type: u32,
    pad2: u32,
}

impl LinkInfo {
    pub(crate) fn cgroup_id(&self) -> u64 {
        self.target
    }

    /// Index of the device of a link on one.
    pub(crate) fn device(&self) -> u32 {
        self.netns_inode()
    }

    pub(crate) fn netns_inode(&self) -> u32 {
        // `netns_ino` is the first u32 of the union, whatever the byte order.
        let b = self.target.to_ne_bytes();
        u32::from_ne_bytes([b[0], b[1], b[2], b[3]])
    }
}

/// Calls bpf(2). `attr` must be the attribute of `cmd`, and every pointer in it valid for what `cmd` does with it.
unsafe fn bpf<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<RawFd> {
    // SAFETY: `attr` lives through the call and its size is stated; the pointers inside are the caller's promise.
    let ret = unsafe { libc::syscall(libc::SYS_bpf, cmd, ptr::from_mut(attr), mem::size_of::<T>()) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret as RawFd) }
}

fn fd_of(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}

pub(crate) fn map_create(map_type: u32, key_size: u32, value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    let mut attr = MapCreateAttr { map_type, key_size, value_size, max_entries };
    // SAFETY: no pointer in the attribute; a success is a new descriptor of ours.
    unsafe { bpf(MAP_CREATE, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Loads a program without type information, for what is too small for an object of its own.
pub(crate) fn program_load(prog_type: u32, expected_attach_type: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"GPL";
    let mut attr = ProgLoadAttr {
        prog_type,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"weft_cookie\0\0\0\0\0",
        prog_ifindex: 0,
        expected_attach_type,
    };
    // SAFETY: instructions and licence live through the call; a success is a new descriptor of ours.
    unsafe { bpf(PROG_LOAD, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// # Safety
/// `key` and `value` must have at least the map's key and value size (per-CPU maps: that of all possible CPUs).
pub(crate) unsafe fn lookup(map: BorrowedFd<'_>, key: *const u8, value: *mut u8) -> io::Result<bool> {
    let mut attr = ElemAttr { map_fd: fd_of(map), pad: 0, key: key as u64, value: value as u64, flags: 0 };
    // SAFETY: by the contract.
    found(unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) })
}

/// # Safety
/// `key` and `value` must have at least the map's key and value size.
pub(crate) unsafe fn update(map: BorrowedFd<'_>, key: *const u8, value: *const u8) -> io::Result<()> {
    let mut attr = ElemAttr { map_fd: fd_of(map), pad: 0, key: key as u64, value: value as u64, flags: 0 };
    // SAFETY: by the contract.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// False: there was none.
///
/// # Safety
/// `key` must have at least the map's key size.
pub(crate) unsafe fn delete(map: BorrowedFd<'_>, key: *const u8) -> io::Result<bool> {
    let mut attr = ElemAttr { map_fd: fd_of(map), pad: 0, key: key as u64, value: 0, flags: 0 };
    // SAFETY: by the contract.
    found(unsafe { bpf(MAP_DELETE_ELEM, &mut attr) })
}

/// The key after `key`, or the first for null; false at the end.
///
/// # Safety
/// `next`, and `key` unless null, must have at least the map's key size.
pub(crate) unsafe fn next_key(map: BorrowedFd<'_>, key: *const u8, next: *mut u8) -> io::Result<bool> {
    let mut attr = ElemAttr { map_fd: fd_of(map), pad: 0, key: key as u64, value: next as u64, flags: 0 };
    // SAFETY: by the contract.
    found(unsafe { bpf(MAP_GET_NEXT_KEY, &mut attr) })
}

/// Many entries by one call, from where `from` (null: the start) points to; how many, and whether there are more. `to` is where the next
/// call goes on. Linux 5.6 for hash tables; elsewhere an error, and the caller walks.
///
/// # Safety
/// `keys` and `values` must have room for `count` keys and values of the map, `from` (unless null) and `to` for a key, at least 4 bytes.
pub(crate) unsafe fn lookup_batch(map: BorrowedFd<'_>, from: *const u8, to: *mut u8, keys: *mut u8, values: *mut u8, count: u32) -> io::Result<(u32, bool)> {
    let mut attr =
        BatchAttr { in_batch: from as u64, out_batch: to as u64, keys: keys as u64, values: values as u64, count, map_fd: fd_of(map), elem_flags: 0, flags: 0 };
    // SAFETY: by the contract.
    match found(unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) }) {
        Ok(more) => Ok((attr.count.min(count), more)),
        Err(e) => Err(e),
    }
}

/// Writes many entries by one call; after an error some of them may be written. Linux 5.6 for hash tables; elsewhere an error, and the caller writes
/// one by one.
///
/// # Safety
/// `keys` and `values` must hold `count` keys and values of the map.
pub(crate) unsafe fn update_batch(map: BorrowedFd<'_>, keys: *const u8, values: *const u8, count: u32) -> io::Result<()> {
    let mut attr = BatchAttr { in_batch: 0, out_batch: 0, keys: keys as u64, values: values as u64, count, map_fd: fd_of(map), elem_flags: 0, flags: 0 };
    // SAFETY: by the contract.
    unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: fd_of(object), file_flags: 0 };
    // SAFETY: the path is a C string that lives through the call.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjAttr { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the path is a C string that lives through the call; a success is a new descriptor of ours (the kernel sets close-on-exec).
    unsafe { bpf(OBJ_GET, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info(map)
}

pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info(link)
}

/// The head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ProgramHead {
    kind: u32,
    id: u32,
}

pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    info::<ProgramHead>(program).map(|p| p.id)
}

/// Attaches `program` to a cgroup or namespace; flags 0 is what cgroup links want (they are multi by nature).
pub(crate) fn link_create(program: BorrowedFd<'_>, target: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr { prog_fd: fd_of(program), target_fd: fd_of(target), attach_type, flags: 0 };
    // SAFETY: no pointer in the attribute; a success is a new descriptor of ours.
    unsafe { bpf(LINK_CREATE, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Attaches `program` to a network device, before whatever is attached there (`BPF_F_BEFORE`).
pub(crate) fn link_create_on_device(program: BorrowedFd<'_>, index: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr { prog_fd: fd_of(program), target_fd: index, attach_type, flags: 1 << 3 };
    // SAFETY: no pointer in the attribute; a success is a new descriptor of ours.
    unsafe { bpf(LINK_CREATE, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Attaches `program` to the hook that it was loaded for.
pub(crate) fn link_create_here(program: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr { prog_fd: fd_of(program), target_fd: 0, attach_type, flags: 0 };
    // SAFETY: no pointer in the attribute; a success is a new descriptor of ours.
    unsafe { bpf(LINK_CREATE, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// Swaps the program behind a link in one step: there is no moment without one.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr { link_fd: fd_of(link), new_prog_fd: fd_of(program), flags: 0, old_prog_fd: 0 };
    // SAFETY: no pointer in the attribute.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

pub(crate) const LSM_ID_BPF: u64 = 109;

/// Ids of the security modules in force (`lsm_list_modules`, Linux 6.8).
pub(crate) fn security_modules() -> io::Result<Vec<u64>> {
    const SYS_LSM_LIST_MODULES: libc::c_long = 461;
    let mut ids = [0_u64; 64];
    let mut size = mem::size_of_val(&ids) as u32;
    // SAFETY: the kernel writes at most `size` bytes to `ids`, and the size it needed to `size`.
    let count = unsafe { libc::syscall(SYS_LSM_LIST_MODULES, ids.as_mut_ptr(), &raw mut size, 0) };
    if count < 0 { Err(io::Error::last_os_error()) } else { Ok(ids[..count as usize].to_vec()) }
}

/// Waits until no program that ran before the call still runs (`synchronize_rcu`). Err where the kernel does not offer it.
pub(crate) fn wait_for_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes no pointer.
    let ret = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `CLOCK_MONOTONIC` in nanoseconds, which is what `bpf_ktime_get_ns` reads.
pub(crate) fn monotonic_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64)
}

fn info<T: Default>(object: BorrowedFd<'_>) -> io::Result<T> {
    let mut out = T::default();
    let mut attr = InfoAttr { bpf_fd: fd_of(object), info_len: mem::size_of::<T>() as u32, info: ptr::from_mut(&mut out) as u64 };
    // SAFETY: the kernel writes at most `info_len` bytes into `out`, which consists of integers only.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(out)
}

fn found(result: io::Result<RawFd>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}
