//! What a laboratory needs of its machine, looked at before anything is changed.

use std::path::Path;

use weft_host::{Need, Package, Unmet};

use crate::LabError;

/// The programs that a laboratory starts.
pub const PACKAGES: &[Package] = &[
    Package { name: "iproute2", probe: "ip" },
    Package { name: "util-linux", probe: "nsenter" },
    Package { name: "util-linux", probe: "unshare" },
    Package { name: "mount", probe: "mount" },
    Package { name: "tcpdump", probe: "tcpdump" },
    Package { name: "bash", probe: "bash" },
];

/// Everything.
pub(crate) fn check(work_parent: &Path) -> Result<(), LabError> {
    machine(work_parent)?;
    match weft_host::missing(PACKAGES).as_slice() {
        [] => Ok(()),
        missing => Err(LabError::Precondition(format!("{0} not installed: apt-get install {0}", missing.join(" ")))),
    }
}

/// What no package can bring.
pub fn machine(work_parent: &Path) -> Result<(), Unmet> {
    weft_host::require(&[Need::Root, Need::Capabilities, Need::Cgroup2])?;
    let shown = work_parent.display();
    if work_parent.to_str().is_none_or(|p| !p.starts_with('/') || p.contains(['\'', '\n', ' '])) {
        return Err(Unmet(format!("work directory {shown} must be an absolute path without blanks or quotes")));
    }
    // Sockets lie up to 60 characters below it, and a socket's path ends at 107.
    if work_parent.as_os_str().len() > 40 {
        return Err(Unmet(format!("work directory {shown} is too long a path for unix sockets; set WEFT_WORK_DIR to a shorter one")));
    }
    if !work_parent.is_dir() {
        return Err(Unmet(format!("work directory {shown} does not exist")));
    }
    weft_host::work_space(work_parent)
}
