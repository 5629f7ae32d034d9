//! Taking over from an agent of another ABI version. Its programs go on judging by its tables while this agent fills its own; then every link
//! is given this version's program in place. What had no answer in one version has none in the other: there is no moment without a judge.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{MutexGuard, PoisonError},
};

use aya::Ebpf;

use crate::{
    Kernel, KernelError, host, links,
    links::Target,
    netns::Netns,
    object::{self, FAMILIES, GUARDS, LOOKUP, NODE_PROGRAMS, Spec},
    pins::{Pins, cookie_of_link, lookup_link},
    veth::index_of_link,
};

/// The programs of this version, in the kernel but attached to nothing yet.
pub(crate) struct Programs {
    pub(crate) guards: Vec<(Spec, OwnedFd)>,
    pub(crate) node: Vec<(Spec, OwnedFd)>,
    /// Where the kernel has such a hook.
    pub(crate) families: Option<OwnedFd>,
}

impl Programs {
    pub(crate) fn load(object: &mut Ebpf) -> Result<Self, KernelError> {
        let mut all = |specs: &[Spec]| -> Result<Vec<_>, KernelError> { specs.iter().map(|spec| Ok((*spec, owned(object::load(object, spec)?)?))).collect() };
        let (guards, node) = (all(&GUARDS)?, all(&NODE_PROGRAMS)?);
        let families = if host::lsm_asks_programs().is_ok() { object::load(object, &FAMILIES).and_then(owned).ok() } else { None };
        Ok(Self { guards, node, families })
    }
}

/// What waits for [`Kernel::take_over`].
pub(crate) struct Waiting {
    former: Pins,
    programs: Programs,
    lookups: Vec<(Netns, OwnedFd)>,
    /// Host's ends of veths.
    pub(crate) devices: Vec<(u32, PathBuf)>,
}

impl Waiting {
    pub(crate) fn new(former: Pins, programs: Programs) -> Self {
        Self { former, programs, lookups: Vec::new(), devices: Vec::new() }
    }
}

impl Kernel {
    /// Whether programs of another ABI version are in force, until [`Kernel::take_over`].
    pub fn is_waiting(&self) -> bool {
        self.waiting().is_some()
    }

    /// Puts this version's programs in the place of the former ones, once the tables hold what the node needs: a revision and its workloads.
    /// False: there was nobody to take over from. Namespaces that have not been enrolled meanwhile lose their program, as if withdrawn.
    pub fn take_over(&self) -> Result<bool, KernelError> {
        let _changing = self.change();
        let Some(waiting) = self.waiting().take() else { return Ok(false) };
        self.pins.inherit(&waiting.former)?;
        for (index, name) in &waiting.devices {
            self.attach_device(*index, name)?;
        }
        self.attach(&waiting.programs)?;
        for (netns, program) in &waiting.lookups {
            self.attach_lookup(netns, program.as_fd())?;
        }
        self.drop_unknown()?;
        Ok(true)
    }

    pub(crate) fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, or with the rest at [`Kernel::take_over`].
    pub(crate) fn lookup(&self, netns: &Netns, program: BorrowedFd<'_>) -> Result<(), KernelError> {
        match &mut *self.waiting() {
            Some(waiting) => {
                waiting.lookups.retain(|(other, _)| other.cookie() != netns.cookie());
                waiting.lookups.push((netns.clone(), owned(program)?));
                Ok(())
            }
            None => self.attach_lookup(netns, program),
        }
    }

    pub(crate) fn drop_lookup(&self, cookie: u64) -> Result<(), KernelError> {
        if let Some(waiting) = &mut *self.waiting() {
            waiting.lookups.retain(|(netns, _)| netns.cookie() != cookie);
        }
        self.given.forget(&lookup_link(cookie));
        self.pins.remove_link(&lookup_link(cookie))
    }

    fn attach_lookup(&self, netns: &Netns, program: BorrowedFd<'_>) -> Result<(), KernelError> {
        links::establish(&self.pins, &lookup_link(netns.cookie()), &LOOKUP, program, &Target::of(netns))?;
        self.given.note(&self.pins, &lookup_link(netns.cookie()));
        Ok(())
    }

    /// Links that came from the former version and have no place in this one.
    fn drop_unknown(&self) -> Result<(), KernelError> {
        let enrolled = self.tables.netns.keys()?;
        for name in self.pins.links()? {
            let known = match cookie_of_link(&name) {
                Some(cookie) => enrolled.contains(&cookie),
                // Devices are swept by their own table.
                None => {
                    name == FAMILIES.name
                        || index_of_link(&name).is_some()
                        || NODE_PROGRAMS.iter().any(|s| s.name == name)
                        || GUARDS.iter().any(|s| name.rsplit_once('-').is_some_and(|(n, _)| n == s.name))
                }
            };
            if !known {
                self.pins.remove_link(&name)?;
            }
        }
        Ok(())
    }
}

fn owned(program: BorrowedFd<'_>) -> Result<OwnedFd, KernelError> {
    program.try_clone_to_owned().map_err(|e| KernelError::Object { reason: format!("a program's descriptor cannot be duplicated: {e}") })
}
