//! The agent's end of the holder's socket. Calls are short and block.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    sync::Mutex,
};

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::{
    Key,
    wire::{self, ABSENT, DROP, GET, LIST, Message, OK, PUT, STOP},
};
use crate::limits;

#[derive(Debug)]
pub struct Client {
    socket: Mutex<Socket>,
}

#[derive(Debug, Error)]
pub enum HolderError {
    #[error("the holder does not answer")]
    Io(#[from] io::Error),
    #[error("the holder closed the connection")]
    Closed,
    #[error("the holder refuses: {0}")]
    Refused(String),
}

impl Client {
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Self::over(socket)
    }

    /// Speaks over a socket that is connected already.
    pub(super) fn over(socket: Socket) -> io::Result<Self> {
        socket.set_read_timeout(Some(limits::HOLDER_TIMEOUT))?;
        socket.set_write_timeout(Some(limits::HOLDER_TIMEOUT))?;
        Ok(Self { socket: Mutex::new(socket) })
    }

    /// Leaves a duplicate of a listener with the holder.
    pub fn put(&self, key: Key, listener: BorrowedFd<'_>) -> Result<(), HolderError> {
        self.call(PUT, &key.to_string(), Some(listener)).map(drop)
    }

    pub fn get(&self, key: Key) -> Result<Option<OwnedFd>, HolderError> {
        Ok(self.call(GET, &key.to_string(), None)?.fd)
    }

    /// Lets the holder close its duplicate; false: it had none.
    pub fn drop_key(&self, key: Key) -> Result<bool, HolderError> {
        Ok(self.call(DROP, &key.to_string(), None)?.code == OK)
    }

    /// Every key, in order. What another version of the agent may have left under an unknown one is skipped.
    pub fn list(&self) -> Result<Vec<Key>, HolderError> {
        let mut keys = Vec::new();
        let mut last = String::new();
        loop {
            let page = self.call(LIST, &last, None)?.text;
            let Some(end) = page.lines().last() else { return Ok(keys) };
            keys.extend(page.lines().filter_map(|k| k.parse::<Key>().ok()));
            last = end.to_owned();
        }
    }

    pub fn stop(&self) -> Result<(), HolderError> {
        self.call(STOP, "", None).map(drop)
    }

    fn call(&self, code: u8, text: &str, fd: Option<BorrowedFd<'_>>) -> Result<Message, HolderError> {
        let socket = self.socket.lock().unwrap_or_else(|e| e.into_inner());
        wire::send(&*socket, code, text, fd)?;
        let answer = wire::receive(&*socket)?.ok_or(HolderError::Closed)?;
        match answer.code {
            OK | ABSENT => Ok(answer),
            _ => Err(HolderError::Refused(answer.text)),
        }
    }
}
