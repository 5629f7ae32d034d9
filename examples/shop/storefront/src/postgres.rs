//! A query and its rows as text, over PostgreSQL's protocol 3.0 (PostgreSQL manual, "Frontend/Backend Protocol"). No authentication: the server trusts whom the
//! catalog lets through.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

const MESSAGE_MAX_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(75);

/// Opens a connection, asks, closes.
pub fn query(address: &str, user: &str, database: &str, sql: &str) -> io::Result<Vec<Vec<String>>> {
    let target = address.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{address} has no address")))?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let startup = [&196_608_u32.to_be_bytes()[..], format!("user\0{user}\0database\0{database}\0\0").as_bytes()].concat();
    send(&mut stream, None, &startup)?;
    finish(&mut stream)?;
    send(&mut stream, Some(b'Q'), format!("{sql}\0").as_bytes())?;
    let rows = finish(&mut stream)?;
    send(&mut stream, Some(b'X'), &[])?;
    Ok(rows)
}

/// Reads until the server is ready for the next query.
fn finish(stream: &mut TcpStream) -> io::Result<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    loop {
        let (kind, body) = receive(stream)?;
        match kind {
            b'D' => rows.push(row(&body).ok_or_else(|| io::Error::other("malformed row"))?),
            b'Z' => return Ok(rows),
            b'E' => return Err(io::Error::other(String::from_utf8_lossy(&body).replace('\0', " "))),
            b'R' if body != [0; 4] => return Err(io::Error::other("the server wants a password")),
            _ => {}
        }
    }
}

fn row(body: &[u8]) -> Option<Vec<String>> {
    let columns = u16::from_be_bytes(body.get(..2)?.try_into().ok()?);
    let mut at = 2;
    (0..columns)
        .map(|_| {
            let length = i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?);
            at += 4;
            // -1 is NULL.
            let Ok(length) = usize::try_from(length) else { return Some(String::new()) };
            let text = String::from_utf8_lossy(body.get(at..at + length)?).into_owned();
            at += length;
            Some(text)
        })
        .collect()
}

fn send(stream: &mut TcpStream, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?.to_be_bytes();
    stream.write_all(&[kind.as_slice(), &length, body].concat())
}

fn receive(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if !(4..=MESSAGE_MAX_BYTES).contains(&length) {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_with_nulls_and_refused_when_short() {
        let body = [&[0, 2][..], &[0, 0, 0, 3], b"mug", &[255; 4]].concat();
        assert_eq!(row(&body), Some(vec!["mug".to_owned(), String::new()]));
        assert_eq!(row(&body[..8]), None);
    }
}
