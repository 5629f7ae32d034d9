//! The proxy over loopback: two nodes in one process, seen from the applications at both ends, the flow records and the counts.

mod carrying;
mod lifecycle;
mod pooling;
mod refusing;
mod world;

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use self::world::{DEADLINE, World};

async fn say(socket: &mut TcpStream, words: &str) {
    socket.write_all(words.as_bytes()).await.unwrap();
}

async fn hear(socket: &mut TcpStream, words: &str) {
    let mut heard = vec![0; words.len()];
    timeout(DEADLINE, socket.read_exact(&mut heard)).await.expect("nothing was heard").unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), words);
}

async fn hear_end(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("no end came").unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// A reset, and no FIN: whoever reads it must not take it for the end of what was sent.
async fn hear_reset(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(DEADLINE, socket.read_to_end(&mut rest)).await.expect("no reset came");
    assert_eq!(end.map_err(|e| e.kind()), Err(io::ErrorKind::ConnectionReset));
}

/// Dials, and is reset before a byte has come.
async fn dial_in_vain(w: &World) {
    match w.try_dial().await {
        Ok(mut client) => hear_reset(&mut client).await,
        Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset),
    }
}

/// Ends as a killed program with unread data would.
fn abort(socket: TcpStream) {
    super::sockets::reset(socket);
}
