//! One packet a message on a SOCK_SEQPACKET unix socket: version, code, text, and at most one descriptor beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg};

/// Both ends refuse another version: a holder outlives the agent that started it.
pub(super) const VERSION: u8 = 1;
/// Keys in one answer to [`LIST`].
pub(super) const PAGE_KEYS: usize = 256;
/// Longest packet in bytes.
const PACKET_MAX_BYTES: usize = 2 + PAGE_KEYS * (crate::limits::KEY_MAX_BYTES + 1);

// Requests.
/// Text: a key; with the listener's descriptor.
pub(super) const PUT: u8 = 1;
/// Text: a key; answered with a duplicate of its descriptor, or [`ABSENT`].
pub(super) const GET: u8 = 2;
/// Text: a key.
pub(super) const DROP: u8 = 3;
/// Text: a key, or nothing; answered with the keys behind it, a line each.
pub(super) const LIST: u8 = 4;
/// The holder closes everything and ends.
pub(super) const STOP: u8 = 5;

// Answers.
pub(super) const OK: u8 = 64;
pub(super) const ABSENT: u8 = 65;
/// Text: why.
pub(super) const REFUSED: u8 = 66;

#[derive(Debug)]
pub(super) struct Message {
    pub(super) code: u8,
    pub(super) text: String,
    pub(super) fd: Option<OwnedFd>,
}

impl Message {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), fd: None }
    }
}

pub(super) fn send(socket: impl AsFd, code: u8, text: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let head = [VERSION, code];
    let packet = [IoSlice::new(&head), IoSlice::new(text.as_bytes())];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(socket, &packet, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// `None`: the other end closed.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<Message>> {
    let mut packet = vec![0; PACKET_MAX_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fd = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            // Descriptors beyond the first are closed with the iterator.
            fd = fds.into_iter().next();
        }
    }
    if got.bytes == 0 {
        return Ok(None);
    }
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || got.bytes < 2 {
        return Err(bad("a holder packet is cut off"));
    }
    if packet[0] != VERSION {
        return Err(bad(&format!("the other end speaks holder protocol {}, this one speaks {VERSION}", packet[0])));
    }
    packet.truncate(got.bytes);
    let text = String::from_utf8(packet.split_off(2)).map_err(|_| bad("a holder packet is no text"))?;
    Ok(Some(Message { code: packet[1], text, fd }))
}
