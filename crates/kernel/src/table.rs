//! A pinned kernel table with typed keys and values. The kernel serialises every operation, so a shared reference is enough.

use std::{
    io,
    marker::PhantomData,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    ptr,
};

use weft_ebpf_common::{
    Addr, Attestation, Destination, DestinationKey, Device, External, ExternalKey, Grant, GrantKey, Listen, ListenKey, LocalAddr, LocalBackends, Netns, Port,
    PortKey, ResolverKey, SocketOwner, State, TupleKey, Workload,
};

use crate::{KernelError, pins::Pins, sys};

/// Entries read by one call, and words that a place in a table takes.
const BATCH_ENTRIES: usize = 4096;
const PLACE_WORDS: usize = 16;

/// Plain old data: integers only, no padding, any bytes make a value.
///
/// # Safety
/// The type must be just that. For the ABI's types `weft-ebpf-common` asserts size and explicit padding when it is compiled.
pub(crate) unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: `repr(C)` with sized integers and explicit padding, sizes asserted in the ABI crate, or an integer itself.
        unsafe impl Plain for $t {}
    )* };
}

plain!(
    u32,
    u64,
    Addr,
    Attestation,
    Destination,
    DestinationKey,
    Device,
    External,
    ExternalKey,
    Grant,
    GrantKey,
    Listen,
    ListenKey,
    LocalAddr,
    LocalBackends,
    LpmKey,
    Netns,
    Port,
    PortKey,
    ResolverKey,
    SocketOwner,
    State,
    TupleKey,
    Workload,
);

/// Key of the prefix tree: how many bits count, then the bits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LpmKey {
    pub(crate) bits: u32,
    pub(crate) data: ExternalKey,
}

const _: () = assert!(size_of::<LpmKey>() == 24);

pub(crate) struct Table<K, V> {
    name: &'static str,
    fd: OwnedFd,
    max: u32,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// Opens the pinned table and compares its shape with what this build expects.
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self, KernelError> {
        let path = pins.map(name);
        let fd = sys::open_pin(&path).map_err(KernelError::table(name, "open"))?;
        let info = sys::map_info(fd.as_fd()).map_err(KernelError::table(name, "inspect"))?;
        let (key, value) = (size_of::<K>() as u32, size_of::<V>() as u32);
        if (info.key_size, info.value_size) != (key, value) {
            let found = format!("{} byte keys, {} byte values", info.key_size, info.value_size);
            return Err(KernelError::TableShape { table: name, path, found, expected: format!("{key} and {value}") });
        }
        Ok(Self { name, fd, max: info.max_entries, types: PhantomData })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Most entries that the table takes.
    pub(crate) fn max(&self) -> u32 {
        self.max
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, KernelError> {
        self.lookup(key).map_err(KernelError::table(self.name, "read"))
    }

    /// As `get`, with the bare error.
    pub(crate) fn lookup(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: sizes were compared when the table was opened; on success the kernel has written the whole value.
        unsafe { Ok(sys::lookup(self.fd(), ptr::from_ref(key).cast(), value.as_mut_ptr().cast())?.then(|| value.assume_init())) }
    }

    pub(crate) fn put(&self, key: &K, value: &V) -> Result<(), KernelError> {
        self.update(key, value).map_err(KernelError::table(self.name, "write"))
    }

    /// Writes all, by few system calls where the kernel offers that for this kind of table.
    pub(crate) fn put_all(&self, entries: &[(K, V)]) -> Result<(), KernelError> {
        for some in entries.chunks(BATCH_ENTRIES) {
            let (keys, values): (Vec<K>, Vec<V>) = some.iter().copied().unzip();
            // SAFETY: both vectors have as many places, of the sizes that were compared when the table was opened.
            let written = unsafe { sys::update_batch(self.fd(), keys.as_ptr().cast(), values.as_ptr().cast(), some.len() as u32) };
            if written.is_err() {
                // Whatever is wrong, the single write says it; what is written already is written again.
                some.iter().try_for_each(|(key, value)| self.put(key, value))?;
            }
        }
        Ok(())
    }

    /// As `put`, with the bare error.
    pub(crate) fn update(&self, key: &K, value: &V) -> io::Result<()> {
        // SAFETY: sizes were compared when the table was opened.
        unsafe { sys::update(self.fd(), ptr::from_ref(key).cast(), ptr::from_ref(value).cast()) }
    }

    /// Whether there was one.
    pub(crate) fn remove(&self, key: &K) -> Result<bool, KernelError> {
        // SAFETY: the key's size was compared when the table was opened.
        unsafe { sys::delete(self.fd(), ptr::from_ref(key).cast()) }.map_err(KernelError::table(self.name, "delete from"))
    }

    /// Every key. Where the kernel side changes the table meanwhile, an entry may be missed or named twice, but the walk always ends.
    pub(crate) fn keys(&self) -> Result<Vec<K>, KernelError> {
        let mut keys = Vec::new();
        let mut at: Option<K> = None;
        while keys.len() < self.max as usize {
            let mut next = MaybeUninit::<K>::uninit();
            let from = at.as_ref().map_or(ptr::null(), |k| ptr::from_ref(k).cast());
            // SAFETY: the key's size was compared when the table was opened; on success the kernel has written the whole key.
            let key = unsafe {
                if !sys::next_key(self.fd(), from, next.as_mut_ptr().cast()).map_err(KernelError::table(self.name, "walk"))? {
                    break;
                }
                next.assume_init()
            };
            keys.push(key);
            at = Some(key);
        }
        Ok(keys)
    }

    /// As [`Self::keys`], with their values.
    pub(crate) fn entries(&self) -> Result<Vec<(K, V)>, KernelError> {
        if let Ok(entries) = self.batches() {
            return Ok(entries);
        }
        let mut entries = Vec::new();
        for key in self.keys()? {
            if let Some(value) = self.get(&key)? {
                entries.push((key, value));
            }
        }
        Ok(entries)
    }

    /// All entries, by few system calls where the kernel offers that for this kind of table.
    fn batches(&self) -> io::Result<Vec<(K, V)>> {
        let size = (self.max as usize).min(BATCH_ENTRIES);
        let mut keys = vec![MaybeUninit::<K>::uninit(); size];
        let mut values = vec![MaybeUninit::<V>::uninit(); size];
        // Room for a place in any kind of table: a bucket's number, or a key.
        let mut places = [[0_u64; PLACE_WORDS]; 2];
        const { assert!(size_of::<K>() <= PLACE_WORDS * size_of::<u64>()) };
        let mut entries = Vec::new();
        let mut first = true;
        loop {
            let [from, to] = &mut places;
            let from_ptr = if first { ptr::null() } else { from.as_ptr().cast() };
            // SAFETY: both vectors have `size` places of the sizes that were compared when the table was opened, and a place fits a key.
            let (count, more) =
                unsafe { sys::lookup_batch(self.fd(), from_ptr, to.as_mut_ptr().cast(), keys.as_mut_ptr().cast(), values.as_mut_ptr().cast(), size as u32)? };
            for (key, value) in keys.iter().zip(&values).take(count as usize) {
                // SAFETY: the kernel has written the first `count` of each.
                entries.push(unsafe { (key.assume_init(), value.assume_init()) });
            }
            if !more || entries.len() > 2 * self.max as usize {
                return Ok(entries);
            }
            places.swap(0, 1);
            first = false;
        }
    }
}
