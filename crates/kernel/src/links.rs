//! Pinned links: attach where there is none, swap the program in place where there is one, and read back what is really attached.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use crate::{KernelError, netns::Netns, object::Spec, pins::Pins, sys};

/// What a link hangs on, and how the kernel names it.
pub(crate) enum Target<'a> {
    Cgroup {
        path: &'a Path,
        fd: BorrowedFd<'a>,
        id: u64,
    },
    Netns {
        path: &'a Path,
        fd: BorrowedFd<'a>,
        inode: u64,
    },
    Device {
        path: &'a Path,
        index: u32,
    },
    /// The hook that the program was loaded for; such a link's program cannot be swapped.
    Hook,
}

impl<'a> Target<'a> {
    pub(crate) fn of(netns: &'a Netns) -> Self {
        Self::Netns { path: netns.path(), fd: netns.as_fd(), inode: netns.inode() }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Cgroup { path, .. } | Self::Netns { path, .. } | Self::Device { path, .. } => path,
            Self::Hook => Path::new("the kernel's security hooks"),
        }
    }

    fn attach(&self, program: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
        match self {
            Self::Cgroup { fd, .. } | Self::Netns { fd, .. } => sys::link_create(program, *fd, attach_type),
            Self::Device { index, .. } => sys::link_create_on_device(program, *index, attach_type),
            Self::Hook => sys::link_create_here(program, attach_type),
        }
    }

    fn is_of(&self, info: &sys::LinkInfo) -> bool {
        match self {
            Self::Cgroup { id, .. } => info.cgroup_id() == *id,
            Self::Netns { inode, .. } => u64::from(info.netns_inode()) == *inode,
            Self::Device { index, .. } => info.device() == *index,
            Self::Hook => info.prog_id != 0,
        }
    }
}

/// Makes `program` the one behind the pinned link `name`, without a moment in which none is attached.
pub(crate) fn establish(pins: &Pins, name: &str, spec: &Spec, program: BorrowedFd<'_>, target: &Target<'_>) -> Result<(), KernelError> {
    let fail = |operation| {
        let (name, target) = (spec.name.to_owned(), target.path().to_owned());
        move |source| KernelError::Link { name, target, operation, source }
    };
    let path = pins.link(name);
    match existing(&path).map_err(fail("open its pinned link"))? {
        Some(link) if !matches!(target, Target::Hook) && target.is_of(&sys::link_info(link.as_fd()).map_err(fail("inspect its link"))?) => {
            sys::link_update(link.as_fd(), program).map_err(fail("swap it in place"))
        }
        // The pinned link's target has gone (a cgroup made anew, another root), or its program cannot be swapped: the new one is attached before the old file gives way.
        Some(_) => {
            let link = target.attach(program, spec.attach_type).map_err(fail("attach"))?;
            // Without a dot, which a bpf file system refuses in names.
            let aside = format!("{name}_new");
            pins.remove_link(&aside)?;
            let aside = pins.link(&aside);
            sys::pin(link.as_fd(), &aside).map_err(fail("pin its link"))?;
            fs::rename(&aside, &path).map_err(fail("pin its link"))
        }
        None => {
            let link = target.attach(program, spec.attach_type).map_err(fail("attach"))?;
            sys::pin(link.as_fd(), &path).map_err(fail("pin its link"))
        }
    }
}

/// Whether the pinned link `name` hangs on `target` right now.
pub(crate) fn is_attached(pins: &Pins, name: &str, target: &Target<'_>) -> bool {
    matches!(info(pins, name), Some(i) if target.is_of(&i))
}

/// What the kernel says of the pinned link `name`.
pub(crate) fn info(pins: &Pins, name: &str) -> Option<sys::LinkInfo> {
    let link = existing(&pins.link(name)).ok()??;
    sys::link_info(link.as_fd()).ok()
}

fn existing(path: &Path) -> io::Result<Option<OwnedFd>> {
    match sys::open_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
