//! Where requests of HTTP/1 begin and end on the wire, and what of that hyper repairs without a word.
//!
//! hyper takes `Content-Length` away beside `Transfer-Encoding`, merges repeated lengths, takes a bare line feed for the end of a line and cuts a
//! fragment off the target; the vetting sees the repaired head. RFC 9112 allows each of these repairs, and each has been half of an attack. This
//! reader runs beside hyper over the same bytes and remembers the first flaw with the number of the request that has it.
//!
//! Pure: bytes in, a flaw out. It keeps no bytes and decides nothing else; where it is stricter than hyper a request is refused, and where it lost
//! its place it has found a flaw.

use crate::refusal::Refusal;

/// Enough to tell the two names of interest from all others.
const NAME_BYTES: usize = 18;
/// Digits of a chunk's size: sixteen make 2^64.
const CHUNK_DIGITS: u8 = 15;

/// Follows one direction of a connection: what a client sends.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    /// The byte before was a carriage return.
    cr: bool,
    name: [u8; NAME_BYTES],
    name_len: usize,
    length: Option<u64>,
    encoded: bool,
    /// Heads that have ended.
    heads: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between two requests; empty lines are passed over (RFC 9112 section 2.2).
    Between,
    RequestLine,
    LineStart,
    Name,
    Value,
    Length {
        digits: bool,
    },
    Data(u64),
    ChunkSize {
        size: u64,
        digits: u8,
    },
    ChunkExtension(u64),
    ChunkData(u64),
    ChunkEnd,
    TrailerStart,
    Trailer,
    /// A flaw was found.
    Lost,
}

/// What was found, and in which request, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub(crate) request: u64,
    pub(crate) refusal: Refusal,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Between, cr: false, name: [0; NAME_BYTES], name_len: 0, length: None, encoded: false, heads: 0 }
    }
}

impl Framing {
    /// Reads what has arrived. After a flaw nothing more is read.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<Flaw> {
        while let [first, rest @ ..] = bytes {
            bytes = match self.state {
                State::Lost => return None,
                State::Data(left) | State::ChunkData(left) => self.skip(left, bytes),
                _ => match self.byte(*first) {
                    Ok(()) => rest,
                    Err(refusal) => {
                        self.state = State::Lost;
                        return Some(Flaw { request: self.heads, refusal });
                    }
                },
            };
        }
        None
    }

    /// A head has begun and not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        matches!(self.state, State::RequestLine | State::LineStart | State::Name | State::Value | State::Length { .. })
    }

    /// Passes over content; returns what follows it.
    fn skip<'a>(&mut self, left: u64, bytes: &'a [u8]) -> &'a [u8] {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - taken as u64;
        self.state = match self.state {
            State::Data(_) if left == 0 => State::Between,
            State::Data(_) => State::Data(left),
            _ if left == 0 => State::ChunkEnd,
            _ => State::ChunkData(left),
        };
        &bytes[taken..]
    }

    fn byte(&mut self, byte: u8) -> Result<(), Refusal> {
        if std::mem::take(&mut self.cr) {
            return if byte == b'\n' { self.line_end() } else { Err(Refusal::LineMalformed) };
        }
        match byte {
            b'\r' => self.cr = true,
            b'\n' => return Err(Refusal::LineMalformed),
            _ => self.state = self.within(byte)?,
        }
        Ok(())
    }

    /// A byte inside of a line.
    fn within(&mut self, byte: u8) -> Result<State, Refusal> {
        Ok(match self.state {
            State::Between => State::RequestLine,
            // hyper would cut the target here; `#` stands nowhere else in a request line.
            State::RequestLine if byte == b'#' => return Err(Refusal::TargetForm),
            State::LineStart | State::TrailerStart if matches!(byte, b' ' | b'\t' | b':') => return Err(Refusal::LineMalformed),
            State::LineStart => {
                self.name_len = 0;
                self.push(byte);
                State::Name
            }
            State::Name if byte == b':' => self.value(),
            State::Name => {
                self.push(byte);
                State::Name
            }
            State::Length { digits } => self.digit(byte, digits)?,
            State::ChunkSize { size, digits } => match (byte, char::from(byte).to_digit(16)) {
                (_, Some(digit)) if digits < CHUNK_DIGITS => State::ChunkSize { size: size << 4 | u64::from(digit), digits: digits + 1 },
                (b';' | b' ' | b'\t', _) if digits > 0 => State::ChunkExtension(size),
                _ => return Err(Refusal::LineMalformed),
            },
            State::ChunkEnd => return Err(Refusal::LineMalformed),
            State::TrailerStart => State::Trailer,
            state => state,
        })
    }

    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.name.get_mut(self.name_len) {
            *slot = byte.to_ascii_lowercase();
            self.name_len += 1;
        }
    }

    fn value(&mut self) -> State {
        match &self.name[..self.name_len] {
            b"content-length" => State::Length { digits: false },
            b"transfer-encoding" => {
                self.encoded = true;
                State::Value
            }
            _ => State::Value,
        }
    }

    /// One decimal number with white space around it; `5 5` is caught by hyper and by the vetting.
    fn digit(&mut self, byte: u8, digits: bool) -> Result<State, Refusal> {
        match byte {
            b' ' | b'\t' => Ok(self.state),
            b'0'..=b'9' => {
                // The first digit of a second header finds the number of the first.
                if !digits && self.length.is_some() {
                    return Err(Refusal::ContentLength);
                }
                let value = self.length.unwrap_or(0).checked_mul(10).and_then(|value| value.checked_add(u64::from(byte - b'0')));
                self.length = Some(value.ok_or(Refusal::ContentLength)?);
                Ok(State::Length { digits: true })
            }
            _ => Err(Refusal::ContentLength),
        }
    }

    fn line_end(&mut self) -> Result<(), Refusal> {
        self.state = match self.state {
            State::Between => State::Between,
            State::RequestLine | State::Value => State::LineStart,
            State::Length { digits: true } => State::LineStart,
            State::Length { digits: false } => return Err(Refusal::ContentLength),
            State::LineStart => self.head_end()?,
            State::ChunkSize { digits: 0, .. } => return Err(Refusal::LineMalformed),
            State::ChunkSize { size: 0, .. } | State::ChunkExtension(0) | State::Trailer => State::TrailerStart,
            State::ChunkSize { size, .. } | State::ChunkExtension(size) => State::ChunkData(size),
            State::ChunkEnd => State::ChunkSize { size: 0, digits: 0 },
            State::TrailerStart => State::Between,
            State::Name | State::Data(_) | State::ChunkData(_) | State::Lost => return Err(Refusal::LineMalformed),
        };
        Ok(())
    }

    fn head_end(&mut self) -> Result<State, Refusal> {
        let next = match (self.length.take(), std::mem::take(&mut self.encoded)) {
            (Some(_), true) => return Err(Refusal::LengthAndEncoding),
            (None, true) => State::ChunkSize { size: 0, digits: 0 },
            (None | Some(0), false) => State::Between,
            (Some(length), false) => State::Data(length),
        };
        self.heads += 1;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However the bytes are cut, the same is found.
    #[track_caller]
    fn check(bytes: &str, heads: u64, expect: Option<(u64, Refusal)>) {
        let expect = expect.map(|(request, refusal)| Flaw { request, refusal });
        for size in [1, 2, 3, 7, bytes.len()] {
            let mut framing = Framing::default();
            let found: Vec<Flaw> = bytes.as_bytes().chunks(size).filter_map(|part| framing.read(part)).collect();
            assert_eq!((framing.heads, found), (heads, expect.into_iter().collect()), "{bytes:?} in parts of {size}");
        }
    }

    #[test]
    fn requests_are_told_apart() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n", 2, None);
        check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1, None);
        check("POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\nGET / \n\r\r\n#GET / HTTP/1.1\r\n\r\n", 2, None);
        check(
            "POST / HTTP/1.1\r\nTRANSFER-encoding: chunked\r\n\r\n5;a=b\r\nab\r\nc\r\nA \r\n0123456789\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            2,
            None,
        );
        check("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2, None);
        check("GET / HTTP/1.1\r\ncontent-length-x: z\r\nx-transfer-encoding: z\r\n\r\n", 1, None);
    }

    #[test]
    fn repairs_are_noticed() {
        let post = |fields: &str, rest: &str| format!("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\n{fields}\r\n\r\n{rest}");
        for (fields, refusal) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked", Refusal::LengthAndEncoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", Refusal::LengthAndEncoding),
            ("Content-Length: 5\r\nContent-Length: 5", Refusal::ContentLength),
            ("Content-Length: 5\r\nContent-Length: 6", Refusal::ContentLength),
            ("Content-Length: 0\r\nContent-Length: 6", Refusal::ContentLength),
            ("Content-Length: +5", Refusal::ContentLength),
            ("Content-Length:", Refusal::ContentLength),
            ("Content-Length: 5,5", Refusal::ContentLength),
            ("Content-Length: 99999999999999999999", Refusal::ContentLength),
            ("X: a\nY: b", Refusal::LineMalformed),
            ("X: a\rY: b", Refusal::LineMalformed),
            ("X: a\r\n folded", Refusal::LineMalformed),
            ("no colon", Refusal::LineMalformed),
            (": empty", Refusal::LineMalformed),
        ] {
            check(&post(fields, ""), 1, Some((1, refusal)));
        }
        check("GET /a#b HTTP/1.1\r\n\r\n", 0, Some((0, Refusal::TargetForm)));
        check("GET / HTTP/1.1\n\n", 0, Some((0, Refusal::LineMalformed)));
        for body in [
            "5\nabcde\r\n",
            "0x5\r\n",
            "g\r\n",
            "\r\n",
            "5\r\nabcdef\r\n",
            "5\r\nabcde0\r\n",
            "5;a\nb\r\n",
            "10000000000000000\r\n",
            " 5\r\n",
            "0\r\nX: 1\n\r\n",
            "0\r\n X: 1\r\n\r\n",
        ] {
            check(&post("Transfer-Encoding: chunked", body), 2, Some((2, Refusal::LineMalformed)));
        }
    }

    /// What hyper makes of the same bytes: the number of requests that it reads, and whether it then gave up.
    fn read_by_hyper(bytes: Vec<u8>) -> (u64, bool) {
        use http_body_util::{BodyExt, Empty};
        use hyper::service::service_fn;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let count = std::sync::atomic::AtomicU64::new(0);
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async {
                let whole = request.into_body().collect().await;
                whole.map(|_| http::Response::new(Empty::<bytes::Bytes>::new()))
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let gave_up = runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
            let mut builder = hyper::server::conn::http1::Builder::new();
            let serving = builder.header_read_timeout(None).half_close(true).serve_connection(hyper_util::rt::TokioIo::new(server), service);
            let mut answers = Vec::new();
            let (served, _) = tokio::join!(serving, client.read_to_end(&mut answers));
            served.is_err()
        });
        (count.into_inner(), gave_up)
    }

    /// Pieces of requests, most of them in order.
    fn requests() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let field = prop_oneof![
            4 => Just("Host: a\r\n"),
            2 => Just("Content-Length: 3\r\n"),
            1 => Just("content-length:3 \r\n"),
            1 => Just("Content-Length: 0\r\n"),
            1 => Just("Content-Length: 30\r\n"),
            1 => Just("Content-Length:\r\n 3\r\n"),
            2 => Just("Transfer-Encoding: chunked\r\n"),
            1 => Just("TRANSFER-ENCODING:\tchunked\r\n"),
            1 => Just("Transfer-Encoding: x\r\n"),
            1 => Just("Transfer-Encoding : chunked\r\n"),
            1 => Just("X: y\n"),
            1 => Just("X: \r\n"),
            1 => Just(" X: y\r\n"),
            1 => Just("Connection: keep-alive\r\n"),
        ];
        let line = prop_oneof![
            6 => Just("POST / HTTP/1.1\r\n"),
            2 => Just("GET / HTTP/1.1\r\n"),
            1 => Just("\r\nGET / HTTP/1.1\r\n"),
            1 => Just("GET / HTTP/1.1\n"),
        ];
        let body = prop_oneof![
            3 => Just(""),
            3 => Just("abc"),
            3 => Just("3\r\nabc\r\n0\r\n\r\n"),
            1 => Just("3;x=y\r\nabc\r\n000\r\nT: u\r\n\r\n"),
            1 => Just("0\r\n\r\n"),
            1 => Just("3\nabc\r\n0\r\n\r\n"),
            1 => Just("3\r\nabc0\r\n\r\n"),
        ];
        let request = (line, prop::collection::vec(field, 0..3), body).prop_map(|(line, fields, body)| format!("{line}{}\r\n{body}", fields.concat()));
        prop::collection::vec(request, 1..4).prop_map(|requests| requests.concat())
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 2048, failure_persistence: None, ..Default::default() })]

        /// Both count alike, or a flaw would be looked for in another request than the one that has it.
        #[test]
        fn hyper_sees_the_same_requests(bytes in requests()) {
            let mut framing = Framing::default();
            let flaw = framing.read(bytes.as_bytes());
            let (seen, gave_up) = read_by_hyper(bytes.clone().into_bytes());
            if let Some(flaw) = flaw {
                proptest::prop_assert_eq!(flaw.request, framing.heads);
            } else {
                proptest::prop_assert!(seen <= framing.heads, "{bytes:?}: hyper saw {seen}, here {}", framing.heads);
            }
            proptest::prop_assert!(gave_up || seen >= framing.heads, "{bytes:?}: hyper saw {seen}, here {}", framing.heads);
        }
    }
}
