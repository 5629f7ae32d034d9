//! Who calls: a gateway, or somebody who is told why they are none.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tonic::Status;
use weft_kernel::cgroup;
use weft_types::{ServiceRef, WorkloadUid, builtin};

use super::door::{NoProcess, Process};
use crate::workloads::{Picture, Seen};

/// The word of the kernel and of this agent; nothing that the caller says plays a part.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    Gateway(Gateway),
    Stranger(Refused),
}

/// An instance of a workload: its cgroup made again would be another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gateway {
    pub(super) workload: WorkloadUid,
    cgroup_id: u64,
}

/// Sentences for people: why, and the way out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum Refused {
    #[error("the process that connected has ended, so nobody can say what it was: connect from the gateway itself")]
    Gone,
    #[error("this kernel does not say which process connected, and that one started after the agent had looked last: connect again")]
    Younger,
    #[error("the cgroup of process {pid} is not known: run the agent where it sees all of /proc and of the cgroup v2 hierarchy")]
    NoCgroup { pid: u32 },
    #[error(
        "process {pid} is in cgroup {cgroup}, which belongs to no workload of this node: only weft/gateway is answered here; name that cgroup for weft/gateway in the workloads file, or start it with `weft run --service weft/gateway`"
    )]
    NoWorkload { pid: u32, cgroup: PathBuf },
    #[error("process {pid} is of workload {workload}, which is {service}: only weft/gateway is answered here; what `weft` asks is answered on agent.sock")]
    OtherService { pid: u32, workload: WorkloadUid, service: ServiceRef },
    #[error("workload {workload} of weft/gateway is not enrolled{}: `weft status` says what is missing; connect again then", because(.problem))]
    NotEnrolled { workload: WorkloadUid, problem: Option<String> },
    #[error("workload {0} of weft/gateway has been withdrawn: connect again when `weft status` shows it enrolled")]
    Withdrawn(WorkloadUid),
}

impl Refused {
    pub(super) fn status(&self) -> Status {
        match self {
            // Nothing speaks against it yet.
            Self::Younger => Status::unavailable(self.to_string()),
            _ => Status::permission_denied(self.to_string()),
        }
    }
}

impl Caller {
    /// Blocks for as long as `/proc` does.
    pub(super) fn recognise(process: Result<Process, NoProcess>, picture: &Picture) -> Self {
        let found = process.map_err(Refused::from).and_then(|process| {
            let cgroup = cgroup::of_pid(process.pid);
            // Only now is it sure that what was read is this process's, and not of one that came after it.
            if !process.lives() {
                return Err(Refused::Gone);
            }
            let cgroup = cgroup.map_err(|_| Refused::NoCgroup { pid: process.pid })?;
            judge(process.pid, &cgroup, picture, |dir| cgroup::id(dir).ok())
        });
        found.map_or_else(Self::Stranger, Self::Gateway)
    }
}

impl Gateway {
    /// Whether it still is what it was when it connected.
    pub(super) fn holds(&self, picture: &Picture) -> Result<(), Refused> {
        let same = |w: &&Seen| w.service == builtin::gateway() && w.enrolled.as_ref().is_some_and(|e| e.cgroup_id == self.cgroup_id);
        picture.by_uid(&self.workload).filter(same).map(drop).ok_or_else(|| Refused::Withdrawn(self.workload.clone()))
    }
}

#[cfg(test)]
impl Gateway {
    pub(super) fn of(workload: &str, cgroup_id: u64) -> Self {
        Self { workload: workload.parse().expect("a uid"), cgroup_id }
    }
}

impl From<NoProcess> for Refused {
    fn from(e: NoProcess) -> Self {
        match e {
            NoProcess::Gone => Self::Gone,
            NoProcess::Younger => Self::Younger,
        }
    }
}

fn judge(pid: u32, cgroup: &Path, picture: &Picture, id_of: impl Fn(&Path) -> Option<u64>) -> Result<Gateway, Refused> {
    // Cgroups of workloads never lie within each other.
    let here = picture.workloads.iter().find(|w| cgroup.starts_with(&w.cgroup));
    let w = here.ok_or_else(|| Refused::NoWorkload { pid, cgroup: cgroup.to_owned() })?;
    let workload = w.uid.clone();
    if w.service != builtin::gateway() {
        return Err(Refused::OtherService { pid, workload, service: w.service.clone() });
    }
    match &w.enrolled {
        // The directory of that name may be another one by now.
        Some(e) if id_of(&w.cgroup) == Some(e.cgroup_id) => Ok(Gateway { workload, cgroup_id: e.cgroup_id }),
        _ => Err(Refused::NotEnrolled { workload, problem: w.problem.clone() }),
    }
}

fn because(problem: &Option<String>) -> String {
    problem.as_ref().map_or_else(String::new, |p| format!(" ({p})"))
}

#[cfg(test)]
pub(super) mod tests {
    use weft_types::ServiceId;

    use super::*;
    use crate::workloads::{Enrolled, Origin};

    pub(in crate::gateway) fn seen(uid: &str, service: &str, cgroup_id: Option<u64>) -> Seen {
        let enrolled = |cgroup_id| Enrolled { service: ServiceId(7), cgroup_id, netns_cookie: 77, addresses: Vec::new(), read_back: true };
        Seen {
            uid: uid.parse().unwrap(),
            service: service.parse().unwrap(),
            cgroup: Path::new("/cg/weft.slice").join(uid),
            netns: "/n".into(),
            origin: Origin::Static,
            present: true,
            refused: false,
            enrolled: cgroup_id.map(enrolled),
            problem: None,
        }
    }

    fn check(cgroup: &str, picture: &[Seen], id: u64) -> Result<String, String> {
        let found = judge(41, Path::new(cgroup), &Picture::new(picture.to_vec()), |_| Some(id));
        found.map(|g| g.workload.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn only_the_cgroup_of_an_enrolled_gateway_is_one() {
        let picture = [seen("gw", "weft/gateway", Some(5)), seen("orders", "shop/orders", Some(6)), seen("gw-2", "weft/gateway", None)];
        assert_eq!(check("/cg/weft.slice/gw", &picture, 5), Ok("gw".into()));
        assert_eq!(check("/cg/weft.slice/gw/workers/1", &picture, 5), Ok("gw".into()));
        for (cgroup, id, words) in [
            ("/cg/weft.slice/gw", 9, "workload gw of weft/gateway is not enrolled: "),
            ("/cg/weft.slice/gw-2", 5, "workload gw-2 of weft/gateway is not enrolled: "),
            ("/cg/weft.slice/orders", 6, "process 41 is of workload orders, which is shop/orders: only weft/gateway"),
            ("/cg/weft.slice/gwx", 5, "process 41 is in cgroup /cg/weft.slice/gwx, which belongs to no workload"),
            ("/cg/weft.slice", 5, "belongs to no workload"),
            ("/cg/user.slice/root", 5, "belongs to no workload"),
            ("/cg/../x/weft.slice/gw", 5, "belongs to no workload"),
        ] {
            let said = check(cgroup, &picture, id).unwrap_err();
            assert!(said.contains(words), "{cgroup}: {said}");
        }
        let waiting = Seen { problem: Some("no SVID yet".into()), ..seen("gw", "weft/gateway", None) };
        assert!(check("/cg/weft.slice/gw", &[waiting], 5).unwrap_err().contains("is not enrolled (no SVID yet): `weft status`"));
    }

    #[test]
    fn it_is_one_for_as_long_as_that_instance_is_enrolled() {
        let before = [seen("gw", "weft/gateway", Some(5))];
        let gateway = judge(41, Path::new("/cg/weft.slice/gw"), &Picture::new(before.to_vec()), |_| Some(5)).unwrap();
        let holds = |now: Vec<Seen>| gateway.holds(&Picture::new(now)).is_ok();
        assert!(holds(before.to_vec()));
        for now in [vec![], vec![seen("gw", "weft/gateway", None)], vec![seen("gw", "weft/gateway", Some(6))], vec![seen("gw", "shop/orders", Some(5))]] {
            assert!(!holds(now.clone()), "{now:?}");
        }
    }

    #[test]
    fn a_process_outside_every_workload_is_a_stranger() {
        let process = Err(NoProcess::Younger);
        assert!(matches!(Caller::recognise(process, &Picture::default()), Caller::Stranger(Refused::Younger)));
    }
}
