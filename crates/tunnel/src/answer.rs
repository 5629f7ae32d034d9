//! What the listening side says to a header: accepted, when policy and the application have accepted; else why not.

use thiserror::Error;
use weft_types::{Reason, Verdict};

use crate::{
    VERSION,
    limits::{ANSWER_MAX_BYTES, ANSWER_PREFIX_BYTES, ANSWER_TEXT_MAX_BYTES},
};

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Accepted,
    /// `text` is for people, at most [`ANSWER_TEXT_MAX_BYTES`] bytes. After it the connection is closed.
    Refused {
        reason: Reason,
        text: String,
    },
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AnswerError {
    #[error("the answer is of version {0}, this build speaks {VERSION}: upgrade the older node")]
    Version(u8),
    #[error("the answer's status {0} is unknown")]
    Status(u8),
    #[error("the answer's reason {0} is unknown or no refusal: upgrade the older node")]
    Reason(u8),
    #[error("the answer's reserved byte is {0}, not 0")]
    Reserved(u8),
    #[error("the answer claims {0} bytes of text; at most {ANSWER_TEXT_MAX_BYTES} are allowed, and none when accepted")]
    Length(usize),
    #[error("the answer's text is not UTF-8")]
    Text,
}

impl Answer {
    /// A refusal whose text is cut, at a character, to what the format allows.
    pub fn refused(reason: Reason, text: &str) -> Self {
        let mut end = text.len().min(ANSWER_TEXT_MAX_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self::Refused { reason, text: text[..end].to_owned() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let (status, reason, text) = match self {
            Self::Accepted => (ACCEPTED, 0, ""),
            Self::Refused { reason, text } => (REFUSED, reason.code(), text.as_str()),
        };
        debug_assert!(text.len() <= ANSWER_TEXT_MAX_BYTES);
        let mut out = Vec::with_capacity(ANSWER_PREFIX_BYTES + text.len());
        out.extend([VERSION, status, reason, 0]);
        out.extend((text.len() as u16).to_be_bytes());
        out.extend(text.as_bytes());
        out
    }
}

/// Takes an answer as it arrives. One decoder reads one answer; after an error it reads nothing more.
#[derive(Clone, Debug)]
pub struct AnswerDecoder {
    bytes: [u8; ANSWER_MAX_BYTES],
    filled: usize,
    /// The whole length, once the prefix has been read.
    expected: usize,
}

impl Default for AnswerDecoder {
    fn default() -> Self {
        Self { bytes: [0; ANSWER_MAX_BYTES], filled: 0, expected: 0 }
    }
}

impl AnswerDecoder {
    /// Takes from the front of `input`. `None`: all of it was taken and more is needed. What follows the answer is left in `input`.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Answer>, AnswerError> {
        if self.filled < ANSWER_PREFIX_BYTES {
            self.fill(input, ANSWER_PREFIX_BYTES);
            if self.filled > 0 && self.bytes[0] != VERSION {
                return Err(AnswerError::Version(self.bytes[0]));
            }
            if self.filled < ANSWER_PREFIX_BYTES {
                return Ok(None);
            }
            self.expected = ANSWER_PREFIX_BYTES + self.claimed()?;
        }
        self.fill(input, self.expected);
        if self.filled < self.expected { Ok(None) } else { self.read().map(Some) }
    }

    fn fill(&mut self, input: &mut &[u8], to: usize) {
        let n = to.saturating_sub(self.filled).min(input.len());
        self.bytes[self.filled..self.filled + n].copy_from_slice(&input[..n]);
        self.filled += n;
        *input = &input[n..];
    }

    fn claimed(&self) -> Result<usize, AnswerError> {
        let [_, status, reason, reserved, high, low] = *self.bytes.first_chunk().expect("a whole prefix");
        let length = usize::from(u16::from_be_bytes([high, low]));
        let refusal = || Reason::from_code(reason).is_some_and(|r| r.verdict() == Verdict::Deny);
        match status {
            ACCEPTED if reason != 0 => Err(AnswerError::Reason(reason)),
            REFUSED if !refusal() => Err(AnswerError::Reason(reason)),
            ACCEPTED | REFUSED if reserved != 0 => Err(AnswerError::Reserved(reserved)),
            ACCEPTED if length == 0 => Ok(0),
            REFUSED if length <= ANSWER_TEXT_MAX_BYTES => Ok(length),
            ACCEPTED | REFUSED => Err(AnswerError::Length(length)),
            unknown => Err(AnswerError::Status(unknown)),
        }
    }

    fn read(&self) -> Result<Answer, AnswerError> {
        match (self.bytes[1], Reason::from_code(self.bytes[2])) {
            (REFUSED, Some(reason)) => {
                let text = std::str::from_utf8(&self.bytes[ANSWER_PREFIX_BYTES..self.expected]).map_err(|_| AnswerError::Text)?;
                Ok(Answer::Refused { reason, text: text.to_owned() })
            }
            _ => Ok(Answer::Accepted),
        }
    }
}
