//! The agent's listeners inside a workload's namespace. Nothing here accepts: the agent does, and the holder keeps a duplicate.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{limits::LISTEN_BACKLOG, netns::Netns};

/// For captured connections: an ephemeral port on every address of the namespace, both families.
pub fn open_capture(netns: &Netns) -> io::Result<TcpListener> {
    netns.run(open)?
}

/// For tunnels from other nodes: `sk_lookup` steers port 15008 here, so the port it binds says nothing.
pub fn open_tunnel(netns: &Netns) -> io::Result<TcpListener> {
    netns.run(open)?
}

fn open() -> io::Result<TcpListener> {
    match bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()) {
        // IPv6 is not compiled in or switched off in this namespace.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()),
        other => other,
    }
}

fn bound(domain: Domain, addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(LISTEN_BACKLOG as i32)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_takes_both_families() {
        let listener = open().unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() && std::net::TcpListener::bind("[::1]:0").is_ok() {
            std::net::TcpStream::connect(("::1", port)).unwrap();
        }
    }
}
