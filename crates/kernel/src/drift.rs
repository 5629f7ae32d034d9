//! Whether the kernel still holds what was put there: looked at in one pass for the node and all its workloads, and put back.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use weft_ebpf_common::ResolverKey;
use weft_policy::KernelTables;

use crate::{
    Kernel, KernelError, cgroup,
    links::{self, Target},
    pins::Pins,
};

/// What one pass found. Workloads are held against it by [`Kernel::read_back`].
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Namespaces with a tunnel listener.
    pub(crate) listeners: HashSet<u64>,
    /// What is missing of the node's own programs and tables; empty: nothing.
    pub missing: Vec<String>,
}

/// Which program each pinned link was given last: another one behind it is somebody else's.
#[derive(Default)]
pub(crate) struct Given(Mutex<HashMap<String, u32>>);

impl Given {
    pub(crate) fn note(&self, pins: &Pins, name: &str) {
        if let Some(info) = links::info(pins, name) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), info.prog_id);
        }
    }

    /// Whether the link hangs where it should, with the program that it was given.
    pub(crate) fn holds(&self, pins: &Pins, name: &str, target: &Target<'_>) -> bool {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        links::is_attached(pins, name, target) && links::info(pins, name).map(|i| i.prog_id) == given
    }

    /// Whether the link has another program behind it than it was given; one that was given none is not known to.
    pub(crate) fn was_replaced(&self, pins: &Pins, name: &str) -> bool {
        let given = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        given.is_some() && links::info(pins, name).map(|i| i.prog_id) != given
    }

    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Kernel {
    /// Looks at everything that is the node's and no single workload's. Cheap: some dozen system calls, and one a workload.
    pub fn survey(&self) -> Result<Survey, KernelError> {
        let t = &self.tables;
        if self.is_waiting() {
            // Programs of another version are in force, and theirs is what is read.
            return Ok(Survey { listeners: t.listeners.keys()?.into_iter().collect(), missing: Vec::new() });
        }
        let mut missing: Vec<String> = self
            .node_programs()
            .into_iter()
            .filter(|p| !p.attached)
            .map(|p| format!("program {} is not attached to {}, or was replaced", p.name, p.attached_to))
            .collect();
        let state = t.state()?;
        if state.exempt_cgroup != self.exempt || (state.refuse != 0) != self.options.refuse {
            missing.push("table STATE does not hold what the configuration says".to_owned());
        }
        for dir in &self.options.managed {
            let known = cgroup::id(dir).map_or(Ok(false), |id| t.managed.get(&id).map(|entry| entry.is_some()))?;
            if !known {
                missing.push(format!("managed subtree {} is not in MANAGED", dir.display()));
            }
        }
        for r in &self.options.resolvers {
            if t.resolvers.get(&ResolverKey { addr: r.ip().into(), port: r.port(), pad: 0 })?.is_none() {
                missing.push(format!("resolver {r} is not in RESOLVERS"));
            }
        }
        Ok(Survey { listeners: t.listeners.keys()?.into_iter().collect(), missing })
    }

    /// The generation in force as [`Kernel::dump`] has it, without waiting for whoever changes it: what differs has to be looked at again.
    pub fn glance(&self) -> Result<KernelTables, KernelError> {
        self.tables.dump()
    }
}
