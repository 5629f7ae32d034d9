//! The canary: one connection out of a workload that only the capture can answer, and one into it that must be refused.
//!
//! Outbound, a process of the agent in the workload's cgroup and namespace dials an address that leads nowhere. Inbound, the agent
//! dials the workload's own address, where it listens itself for that moment: nobody attested the connection, so only a missing or foreign program
//! lets it in. On the host, where what comes in is judged by whose socket it is for, it is a process in the workload's cgroup that listens.
//! Each has a control that differs in one thing, so that a dead namespace is no proof.

use std::{
    io::{self, Read, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::Path,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};
use weft_ebpf_common::{Attestation, CANARY_PORT, CANARY_V4, CANARY_V6};
use weft_kernel::Kernel;

use super::{
    inside::{self, Inside},
    plumbing::Place,
};
use crate::{limits, proxy::answer_of};

/// Argument of the process that listens.
const LISTEN: &str = "listen";

/// What the canary found; an error says why it does not hold.
#[derive(Clone, Debug)]
pub struct Proof {
    /// What leaves the workload is captured, and the capture knows whose it is.
    pub outbound: Result<(), String>,
    /// What nobody attested is refused.
    pub inbound: Result<(), String>,
}

/// Runs both. `from_node`: the inbound probe also comes from the agent's own namespace, which may take half a second where no route leads.
pub fn prove(kernel: &Kernel, place: &Place, from_node: bool) -> Proof {
    let on_host = place.netns.cookie() == kernel.own_netns();
    Proof { outbound: outbound(place), inbound: if on_host { inbound_on_host(kernel, place) } else { inbound(place, from_node) } }
}

impl Proof {
    pub fn holds(&self) -> Result<(), String> {
        self.outbound.clone().map_err(|e| format!("the outbound canary fails: {e}"))?;
        self.inbound.clone().map_err(|e| format!("the inbound canary fails: {e}"))
    }
}

fn outbound(place: &Place) -> Result<(), String> {
    let wanted = answer_of(place.service.0, place.netns.cookie());
    let failed = |e: io::Error| format!("it cannot be sent from cgroup {}: {e}", place.cgroup.display());
    let families = families(&place.addresses);
    let mut inside = Inside::start(place, &families).map_err(failed)?;
    for family in families {
        let answer = inside.line().map_err(failed)?;
        if answer != wanted {
            return Err(format!("over {family} the capture did not answer for this workload, but: {answer}"));
        }
    }
    Ok(())
}

/// The families that the workload has an address of; IPv4 where it has none at all.
fn families(addresses: &[IpAddr]) -> Vec<&'static str> {
    let has = |v4: bool| addresses.iter().any(|ip| ip.is_ipv4() == v4);
    [(has(true) || addresses.is_empty(), "IPv4"), (has(false), "IPv6")].into_iter().filter(|f| f.0).map(|f| f.1).collect()
}

/// The process in the workload's cgroup: prints one line for each of `what`. Ends the process.
pub fn run(netns: &Path, what: &[String]) -> anyhow::Result<()> {
    inside::work(netns, || {
        for what in what {
            match what.as_str() {
                LISTEN => return listen_inside(),
                family => {
                    let to = if family == "IPv4" { IpAddr::from(CANARY_V4) } else { IpAddr::from(CANARY_V6) };
                    println!("{}", ask(SocketAddr::new(to, CANARY_PORT)).unwrap_or_else(|e| e.to_string().replace('\n', " ")));
                }
            }
        }
        io::stdout().flush()
    })
}

/// Until the agent goes: at a loopback address of its own, so that many are proven at once.
fn listen_inside() -> io::Result<()> {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let at = Ipv4Addr::new(127, a, b, c);
    let listener = TcpListener::bind((at, CANARY_PORT)).or_else(|_| TcpListener::bind((at, 0)))?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new()).map(drop)
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

/// Both knocks go from here to one listener of the workload's; the control is the attested one. That what is refused is dropped without a word there, the
/// control shows: it was sent later, and is in.
fn inbound_on_host(kernel: &Kernel, place: &Place) -> Result<(), String> {
    let failed = |e: io::Error| format!("it cannot listen in cgroup {}: {e}", place.cgroup.display());
    let mut inside = Inside::start(place, &[LISTEN]).map_err(failed)?;
    let said = inside.line().map_err(failed)?;
    let at: SocketAddr = said.parse().map_err(|_| failed(io::Error::other(said)))?;
    let socket = || Socket::new(Domain::for_address(at), Type::STREAM, None).map_err(|e| e.to_string());
    let (stray, control) = (socket()?, socket()?);
    stray.set_nonblocking(true).map_err(|e| e.to_string())?;
    let sent = stray.connect(&at.into());
    let attested = Attestation {
        netns: place.netns.cookie(),
        source: place.service.0,
        destination: place.service.0,
        dialled: at.ip().into(),
        dialled_port: at.port(),
        ..Attestation::default()
    };
    kernel.set_delivery(control.as_fd(), &attested).map_err(|e| format!("its control cannot be attested: {e}"))?;
    control.connect_timeout(&at.into(), limits::CANARY_TIMEOUT).map_err(|e| format!("its control, an attested connection, fails: {e}"))?;
    let pause = Timespec { tv_sec: 0, tv_nsec: limits::CANARY_PAUSE.subsec_nanos().into() };
    let told = sent.is_ok() || poll(&mut [PollFd::new(&stray, PollFlags::OUT)], Some(&pause)).map_err(|e| e.to_string())? > 0;
    // What was refused aloud has no peer either.
    if told && stray.peer_addr().is_ok() { Err(format!("a connection that nobody attested came in at {at}")) } else { Ok(()) }
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
