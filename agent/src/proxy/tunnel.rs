//! One TLS connection that speaks `weft/1`: headers, answers and what is left over between them. The frames are `relay`'s.

use std::{
    future::poll_fn,
    io,
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll},
};

use futures::FutureExt as _;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, ReadBuf},
    time::Instant,
};
use tokio_rustls::TlsStream;
use weft_identity::{PeerError, peer_id};
use weft_tunnel::{Answer, AnswerDecoder, AnswerError, Header, HeaderDecoder, HeaderError, ResetReason};
use weft_types::SpiffeId;

use super::{buffers::Buffer, limits::TUNNEL_AGE_MAX, read_ahead::ReadAhead, watched::Watched};

pub(crate) type Stream = TlsStream<ReadAhead>;

pub(crate) struct Tunnel {
    pub(crate) stream: Box<Stream>,
    /// What arrived behind the last header, answer or FIN.
    pub(crate) unread: Vec<u8>,
    since: Instant,
}

#[derive(Debug, Error)]
pub(crate) enum TunnelError {
    #[error("the tunnel broke: {0}")]
    Io(#[from] io::Error),
    #[error("the tunnel ended")]
    Ended,
    #[error("nothing came within {0} s")]
    Late(u64),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl Tunnel {
    pub(crate) fn new(stream: impl Into<Stream>) -> Self {
        Self { stream: Box::new(stream.into()), unread: Vec::new(), since: Instant::now() }
    }

    pub(crate) async fn send_header(&mut self, header: &Header) -> Result<(), TunnelError> {
        Ok(self.send(&header.encode()).await?)
    }

    pub(crate) async fn send_answer(&mut self, answer: &Answer) -> Result<(), TunnelError> {
        Ok(self.send(&answer.encode()).await?)
    }

    pub(crate) async fn send_reset(&mut self, reason: ResetReason) -> Result<(), TunnelError> {
        Ok(self.send(&weft_tunnel::reset(reason)).await?)
    }

    pub(crate) async fn answer(&mut self) -> Result<Answer, TunnelError> {
        let mut decoder = AnswerDecoder::default();
        loop {
            let mut input = &self.unread[..];
            let found = decoder.decode(&mut input)?;
            self.unread = input.to_vec();
            if let Some(answer) = found {
                return Ok(answer);
            }
            self.fill().await?;
        }
    }

    /// Takes what is there of a header; reads more only when nothing is. `None`: more is needed.
    pub(crate) async fn some_of_header(&mut self, decoder: &mut HeaderDecoder) -> Result<Option<Header>, TunnelError> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        let mut input = &self.unread[..];
        let found = decoder.decode(&mut input)?;
        self.unread = input.to_vec();
        Ok(found)
    }

    /// Whether an idle tunnel is still of use. A peer has nothing to say on it, so anything that arrives, an end above all, says no.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.unread.is_empty() && read(&mut self.stream).now_or_never().is_none()
    }

    /// Whether it may carry another connection after a clean end.
    pub(crate) fn may_go_on(&self) -> bool {
        self.since.elapsed() < TUNNEL_AGE_MAX
    }

    pub(crate) fn speaks_weft(&self) -> bool {
        self.stream.get_ref().1.alpn_protocol() == Some(weft_tunnel::ALPN)
    }

    pub(crate) fn peer(&self) -> Result<SpiffeId, PeerError> {
        peer_id(self.stream.get_ref().1.peer_certificates().unwrap_or_default())
    }

    /// The other side's address and this side's, IPv4 as such.
    pub(crate) fn addresses(&self) -> io::Result<(IpAddr, IpAddr)> {
        let socket = self.socket().socket();
        Ok((socket.peer_addr()?.ip().to_canonical(), socket.local_addr()?.ip().to_canonical()))
    }

    /// The key exchange group that the handshake agreed on, as IANA names it.
    pub(crate) fn key_exchange(&self) -> Option<String> {
        self.stream.get_ref().1.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()))
    }

    pub(crate) fn socket(&self) -> &Watched {
        self.stream.get_ref().0.socket()
    }

    /// Waits until the other side has ended it; what still comes is nobody's.
    pub(crate) async fn ended(&mut self) {
        while read(&mut self.stream).await.is_ok_and(|(_, n)| n > 0) {}
    }

    async fn fill(&mut self) -> Result<(), TunnelError> {
        match read(&mut self.stream).await? {
            (_, 0) => Err(TunnelError::Ended),
            (buffer, n) => {
                self.unread.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

/// Reads as much as has arrived, into a buffer that exists only once there is something to read. 0 bytes: the end.
pub(crate) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<(Buffer, usize)> {
    poll_fn(|cx| poll_read(from, cx, 0, true)).await
}

/// One read, with room left before the bytes.
pub(crate) async fn read_behind<R: AsyncRead + Unpin>(from: &mut R, room: usize) -> io::Result<(Buffer, usize)> {
    poll_fn(|cx| poll_read(from, cx, room, false)).await
}

/// A TLS stream gives one record at a time: with `greedy`, those that are there are joined, so that they are passed on in one write.
/// An end or a failure behind the first bytes shows again at the next read.
fn poll_read<R: AsyncRead + Unpin>(from: &mut R, cx: &mut Context<'_>, room: usize, greedy: bool) -> Poll<io::Result<(Buffer, usize)>> {
    let mut buffer = Buffer::take();
    let mut into = ReadBuf::new(&mut buffer[room..]);
    loop {
        let before = into.filled().len();
        let polled = Pin::new(&mut *from).poll_read(cx, &mut into);
        let n = into.filled().len();
        match polled {
            Poll::Ready(Ok(())) if greedy && n > before && into.remaining() > 0 => {}
            Poll::Pending if n == 0 => return Poll::Pending,
            Poll::Ready(Err(e)) if n == 0 => return Poll::Ready(Err(e)),
            _ => return Poll::Ready(Ok((buffer, n))),
        }
    }
}
