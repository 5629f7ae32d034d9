//! A socket that is read in large pieces, whatever its reader asks for: rustls asks for 4 KiB at a time, which is one system call
//! for a quarter of a record.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{buffers::Buffer, watched::Watched};

pub(crate) struct ReadAhead {
    socket: Watched,
    held: Option<Held>,
}

struct Held {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl ReadAhead {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket: Watched::new(socket), held: None }
    }

    pub(crate) fn socket(&self) -> &Watched {
        &self.socket
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.held.is_none() {
            let mut buffer = Buffer::take();
            let mut into = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut into))?;
            let end = into.filled().len();
            if end == 0 {
                return Poll::Ready(Ok(()));
            }
            this.held = Some(Held { buffer, start: 0, end });
        }
        if let Some(held) = &mut this.held {
            let n = out.remaining().min(held.end - held.start);
            out.put_slice(&held.buffer[held.start..held.start + n]);
            held.start += n;
            if held.start == held.end {
                this.held = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
