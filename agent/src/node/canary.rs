//! The canary: one connection out of a workload that only the capture can answer, and one into it that must be refused.
//!
//! Outbound, a process of the agent moves into the workload's cgroup, enters its namespace and dials an address that leads nowhere. Inbound, the agent
//! dials the workload's own address, where it listens itself for that moment: nobody attested the connection, so only a missing or foreign program
//! lets it in. Each has a control that differs in one thing, so that a dead namespace is no proof.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use socket2::{Domain, Socket, Type};
use weft_ebpf_common::{CANARY_PORT, CANARY_V4, CANARY_V6};
use weft_kernel::{cgroup, netns::Netns};

use super::plumbing::Place;
use crate::{limits, proxy::answer_of};

/// What the two processes say to each other.
const READY: &str = "ready\n";
const GO: &str = "go\n";

/// What the canary found; an error says why it does not hold.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What leaves the workload is captured, and the capture knows whose it is.
    pub outbound: Result<(), String>,
    /// What nobody attested is refused.
    pub inbound: Result<(), String>,
}

/// Runs both. `from_node`: the inbound probe also comes from the agent's own namespace, which may take half a second where no route leads.
pub fn prove(place: &Place, from_node: bool) -> Proof {
    Proof { outbound: outbound(place), inbound: inbound(place, from_node) }
}

impl Proof {
    pub fn holds(&self) -> Result<(), String> {
        self.outbound.clone().map_err(|e| format!("the outbound canary fails: {e}"))?;
        self.inbound.clone().map_err(|e| format!("the inbound canary fails: {e}"))
    }
}

fn outbound(place: &Place) -> Result<(), String> {
    let wanted = answer_of(place.service.0, place.netns.cookie());
    let answers = asked_from_inside(place).map_err(|e| format!("it cannot be sent from cgroup {}: {e}", place.cgroup.display()))?;
    let mut tried = 0;
    for line in answers.lines() {
        tried += 1;
        let (family, answer) = line.split_once(' ').unwrap_or(("?", line));
        if answer != wanted {
            return Err(format!("over {family} the capture did not answer for this workload, but: {answer}"));
        }
    }
    if tried == families(&place.addresses).len() { Ok(()) } else { Err("its process ended before it had an answer".to_owned()) }
}

/// The families that the workload has an address of; IPv4 where it has none at all.
fn families(addresses: &[IpAddr]) -> Vec<&'static str> {
    let has = |v4: bool| addresses.iter().any(|ip| ip.is_ipv4() == v4);
    [(has(true) || addresses.is_empty(), "IPv4"), (has(false), "IPv6")].into_iter().filter(|f| f.0).map(|f| f.1).collect()
}

/// What [`dial`] prints, run in the workload's cgroup.
fn asked_from_inside(place: &Place) -> io::Result<String> {
    let netns = format!("/proc/{}/fd/{}", std::process::id(), place.netns.as_fd().as_raw_fd());
    let mut child = Command::new("/proc/self/exe")
        .args(["canary", &netns])
        .args(families(&place.addresses))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = answer_of_child(&mut child, &place.cgroup);
    let _ = child.kill();
    let _ = child.wait();
    answer
}

fn answer_of_child(child: &mut Child, cgroup: &Path) -> io::Result<String> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let mut said = BufReader::new(stdout).take(limits::CANARY_ANSWER_MAX_BYTES);
    let mut ready = String::new();
    said.read_line(&mut ready)?;
    if ready != READY {
        return Err(io::Error::other("its process cannot enter the namespace"));
    }
    let _below = enter(cgroup, child.id())?;
    stdin.write_all(GO.as_bytes())?;
    ended(child)?;
    let mut answers = String::new();
    said.read_to_string(&mut answers)?;
    Ok(answers)
}

/// Moves the process into the cgroup, or into one below it where the kernel wants processes in leaves only.
fn enter(dir: &Path, pid: u32) -> io::Result<Option<Below>> {
    match cgroup::move_pid(dir, pid) {
        Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
            let below = Below(dir.join("weft-canary"));
            cgroup::create(&below.0)?;
            cgroup::move_pid(&below.0, pid)?;
            Ok(Some(below))
        }
        other => other.map(|()| None),
    }
}

/// A cgroup for as long as the process is in it.
struct Below(std::path::PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn ended(child: &mut Child) -> io::Result<()> {
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        if began.elapsed() > limits::CANARY_TIMEOUT + limits::CANARY_TIMEOUT {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its process does not end"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The process in the workload's cgroup. It enters the namespace and gives all capabilities up before it is moved there, waits for that, and prints
/// one line a family. Ends the process.
pub fn dial(netns: &Path, families: &[String]) -> anyhow::Result<()> {
    let netns = Netns::open(netns)?;
    netns.run(|| {
        // Nobody comes back from here: without capabilities there is no way into another namespace.
        std::process::exit(match answers(families) {
            Ok(()) => 0,
            Err(_) => 2,
        })
    })?;
    Ok(())
}

fn answers(families: &[String]) -> io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    print!("{READY}");
    io::stdout().flush()?;
    let mut go = String::new();
    io::stdin().read_line(&mut go)?;
    if go != GO {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    for family in families {
        let to = if family == "IPv4" { IpAddr::from(CANARY_V4) } else { IpAddr::from(CANARY_V6) };
        println!("{family} {}", ask(SocketAddr::new(to, CANARY_PORT)).unwrap_or_else(|e| e.to_string().replace('\n', " ")));
    }
    io::stdout().flush()
}

fn ask(to: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&to, limits::CANARY_TIMEOUT)?;
    socket.set_read_timeout(Some(limits::CANARY_TIMEOUT))?;
    let mut answer = String::new();
    Read::by_ref(&mut socket).take(limits::CANARY_ANSWER_MAX_BYTES / 4).read_to_string(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

fn inbound(place: &Place, from_node: bool) -> Result<(), String> {
    let own = |v4: bool| place.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
    let addresses: Vec<IpAddr> = [own(true), own(false)].into_iter().flatten().collect();
    let inside = place.netns.run(|| -> Result<TcpListener, String> {
        let listener = listen().map_err(|e| format!("it cannot listen in the namespace: {e}"))?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        // The control: the same dialler, the same listener, within the namespace.
        knock((Ipv4Addr::LOCALHOST, port).into()).map_err(|e| format!("its control on loopback fails: {e}"))?;
        for ip in &addresses {
            match knock((*ip, port).into()) {
                Ok(()) => return Err(format!("a connection that nobody attested came in at {ip}")),
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) => return Err(format!("a connection that nobody attested was not refused at {ip}, but: {e}")),
            }
        }
        Ok(listener)
    });
    let listener = inside.map_err(|e| format!("the namespace cannot be entered: {e}"))??;
    if from_node {
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        if let Some(ip) = addresses.iter().find(|ip| knock((**ip, port).into()).is_ok()) {
            return Err(format!("a connection that nobody attested came in from the node at {ip}"));
        }
    }
    Ok(())
}

fn knock(to: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&to, limits::CANARY_KNOCK).map(drop)
}

/// On the canary's port, so that its refusals are told from others; on any where a workload has taken that one.
fn listen() -> io::Result<TcpListener> {
    let open = |domain, any: IpAddr, port| -> io::Result<TcpListener> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SocketAddr::new(any, port).into())?;
        socket.listen(8)?;
        Ok(socket.into())
    };
    let any = |port| open(Domain::IPV6, Ipv6Addr::UNSPECIFIED.into(), port).or_else(|_| open(Domain::IPV4, Ipv4Addr::UNSPECIFIED.into(), port));
    any(CANARY_PORT).or_else(|_| any(0))
}
