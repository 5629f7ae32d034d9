//! Each direction after an accepted answer: DATA frames, then FIN; or RESET at any time.

use std::fmt;

use thiserror::Error;

use crate::limits::{DATA_MAX_BYTES, FRAME_HEADER_BYTES};

const DATA: u8 = 1;
const FIN: u8 = 2;
pub(crate) const RESET: u8 = 3;

/// Why a side ends a connection at once. The application at the other end gets a TCP RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResetReason {
    /// The application reset or vanished.
    Aborted = 1,
    /// The grant that allowed it went away.
    Revoked = 2,
    /// The workload or its agent is going away.
    Shutdown = 3,
    /// The peer broke this protocol.
    Protocol = 4,
}

/// What a decoder found. `Data` borrows from the input: a frame is passed on as it arrives, in as many pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Data(&'a [u8]),
    Fin,
    Reset(ResetReason),
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    #[error("a DATA frame claims {0} bytes; 1 to {DATA_MAX_BYTES} are allowed")]
    DataLength(usize),
    #[error("a {kind} frame claims {length} bytes instead of {expected}")]
    ControlLength { kind: &'static str, length: usize, expected: usize },
    #[error("reset reason {0} is unknown")]
    ResetReason(u8),
    #[error("a frame follows FIN that is no RESET")]
    AfterFin,
    #[error("a frame follows RESET")]
    AfterReset,
}

/// The first bytes of a DATA frame of `length` bytes, 1 to [`DATA_MAX_BYTES`]: the caller has it stand before the data in one buffer.
pub fn data_header(length: usize) -> [u8; FRAME_HEADER_BYTES] {
    debug_assert!((1..=DATA_MAX_BYTES).contains(&length));
    head(DATA, length)
}

pub fn fin() -> [u8; FRAME_HEADER_BYTES] {
    head(FIN, 0)
}

pub fn reset(reason: ResetReason) -> [u8; FRAME_HEADER_BYTES + 1] {
    let [a, b, c, d] = head(RESET, 1);
    [a, b, c, d, reason as u8]
}

/// Takes one direction's frames as they arrive, from answer to FIN. The next connection gets a new decoder.
#[derive(Clone, Debug, Default)]
pub struct FrameDecoder {
    head: [u8; FRAME_HEADER_BYTES],
    filled: usize,
    /// Bytes of the current frame's payload still to come.
    left: usize,
    end: Ended,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ended {
    #[default]
    No,
    Fin,
    Reset,
}

impl FrameDecoder {
    /// Takes from the front of `input`. `None`: all of it was taken and more is needed. After an error it reads nothing sensible.
    pub fn decode<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, FrameError> {
        if self.left == 0 {
            let n = (FRAME_HEADER_BYTES - self.filled).min(input.len());
            self.head[self.filled..self.filled + n].copy_from_slice(&input[..n]);
            self.filled += n;
            *input = &input[n..];
            if self.filled < FRAME_HEADER_BYTES {
                return Ok(None);
            }
            self.left = self.claimed()?;
            if self.left == 0 {
                self.filled = 0;
                self.end = Ended::Fin;
                return Ok(Some(Event::Fin));
            }
        }
        if input.is_empty() {
            return Ok(None);
        }
        self.payload(input).map(Some)
    }

    /// Whether the direction has ended, so that what follows belongs to the next connection.
    pub fn is_finished(&self) -> bool {
        self.end == Ended::Fin && self.filled == 0
    }

    fn payload<'a>(&mut self, input: &mut &'a [u8]) -> Result<Event<'a>, FrameError> {
        let (taken, rest) = input.split_at(self.left.min(input.len()));
        *input = rest;
        self.left -= taken.len();
        if self.left == 0 {
            self.filled = 0;
        }
        if self.head[0] == DATA {
            return Ok(Event::Data(taken));
        }
        self.end = Ended::Reset;
        ResetReason::from_code(taken[0]).map(Event::Reset).ok_or(FrameError::ResetReason(taken[0]))
    }

    /// The bounded length of the frame whose head is complete; 0 only for FIN.
    fn claimed(&self) -> Result<usize, FrameError> {
        let [kind, a, b, c] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        match (kind, self.end) {
            (DATA..=RESET, Ended::Reset) => Err(FrameError::AfterReset),
            (DATA | FIN, Ended::Fin) => Err(FrameError::AfterFin),
            (DATA, _) if (1..=DATA_MAX_BYTES).contains(&length) => Ok(length),
            (DATA, _) => Err(FrameError::DataLength(length)),
            (FIN, _) if length == 0 => Ok(0),
            (FIN, _) => Err(FrameError::ControlLength { kind: "FIN", length, expected: 0 }),
            (RESET, _) if length == 1 => Ok(1),
            (RESET, _) => Err(FrameError::ControlLength { kind: "RESET", length, expected: 1 }),
            (unknown, _) => Err(FrameError::Kind(unknown)),
        }
    }
}

impl ResetReason {
    pub const ALL: &[Self] = &[Self::Aborted, Self::Revoked, Self::Shutdown, Self::Protocol];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| *r as u8 == code)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::Protocol => "protocol",
        }
    }
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

fn head(kind: u8, length: usize) -> [u8; FRAME_HEADER_BYTES] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    [kind, a, b, c]
}
