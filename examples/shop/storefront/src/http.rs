//! As much of HTTP/1.1 as a shop window needs: one request a connection, bodies with a length. Not for the open internet.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    time::Duration,
};

const HEAD_MAX_BYTES: u64 = 16 * 1024;
const BODY_MAX_BYTES: u64 = 1 << 20;
/// Long enough to sit out the restart of anything on the way.
const PATIENCE: Duration = Duration::from_secs(75);

/// First line, what the gateway says of who asks, and the body.
pub struct Message {
    pub start: String,
    /// `Weft-Assertion`: who has signed in. Only the gateway can have put it there, and only who the catalog names reaches this program.
    pub assertion: Option<String>,
    pub body: Vec<u8>,
}

/// Reads a request or a response.
pub fn read(stream: &TcpStream) -> io::Result<Message> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut head = (&mut reader).take(HEAD_MAX_BYTES);
    let start = line(&mut head)?;
    let (mut length, mut assertion) = (None, None);
    loop {
        let header = line(&mut head)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().map_err(|_| malformed("content-length"))?);
        }
        if name.eq_ignore_ascii_case("weft-assertion") {
            assertion = Some(value.trim().to_owned());
        }
    }
    let mut body = Vec::new();
    // Without a length a request has no body, and a response goes on to the end.
    let request = !start.starts_with("HTTP/");
    reader.take(length.unwrap_or(if request { 0 } else { BODY_MAX_BYTES }).min(BODY_MAX_BYTES)).read_to_end(&mut body)?;
    Ok(Message { start, assertion, body })
}

pub fn respond(mut stream: &TcpStream, status: &str, content_type: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

/// One request to `HOST:PORT`; status and body.
pub fn request(address: &str, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
    let mut addresses = address.to_socket_addrs()?;
    let target = addresses.next().ok_or_else(|| malformed("address"))?;
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let answer = read(&stream)?;
    let status = answer.start.split_whitespace().nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| malformed("status line"))?;
    Ok((status, answer.body))
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed {what}"))
}
