//! Options of the sockets on both ends, and the two ways to end one.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::{Domain, SockRef, TcpKeepalive};
use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream},
};

use super::{
    host::{Host, LocalWorkload},
    limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, MIRRORED_INTERVAL_MAX, MIRRORED_PROBES},
};

/// No waiting for more bytes; a peer that has vanished is noticed; and urgent data stays where it is in the stream, since it would be lost elsewhere.
pub(crate) fn tune(socket: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)?;
    SockRef::from(socket).set_out_of_band_inline(true)?;
    socket.set_nodelay(true)
}

/// Asks the other end of a silent connection every `period` whether it is alive.
pub(crate) fn ask_every(socket: &TcpStream, period: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(period).with_interval(period.min(MIRRORED_INTERVAL_MAX)).with_retries(MIRRORED_PROBES);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Ends a connection by RST, as a peer that is gone would.
pub(crate) fn reset(socket: TcpStream) {
    reset_on_close(&socket);
}

/// Whoever closes it last ends it by RST.
pub(crate) fn reset_on_close(socket: &TcpStream) {
    // Should the option fail, the peer gets a FIN: it still ends.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Waits until the other end has reset the connection; never returns otherwise.
pub(crate) async fn gone(socket: &TcpStream) {
    if socket.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Connects from inside the workload's namespace; `prepare` sees the socket before that.
pub(crate) async fn connect(
    host: &Arc<dyn Host>,
    workload: &LocalWorkload,
    to: SocketAddr,
    within: Duration,
    prepare: impl FnOnce(&socket2::Socket) -> io::Result<()>,
) -> io::Result<TcpStream> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = host.socket(workload, domain)?;
    prepare(&socket)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(to);
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", within.as_secs()));
    let stream = tokio::time::timeout(within, connecting).await.map_err(late)??;
    tune(&stream)?;
    Ok(stream)
}
