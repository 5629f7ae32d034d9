//! What the calling side says first: where the application wanted to go, and who it is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use thiserror::Error;
use weft_types::FlowId;

use crate::{
    VERSION,
    frame::RESET,
    limits::{HEADER_BYTES, HEADER_FIELDS_BYTES, HEADER_MAX_BYTES, HEADER_PREFIX_BYTES},
};

const MAGIC: [u8; 4] = *b"weft";

/// Nothing in here is proof of anything: identity comes from the certificate, the caller's address from the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the application dialled: a virtual IP or an endpoint's own address.
    pub destination: SocketAddr,
    /// The caller's own name of its socket.
    pub caller: SocketAddr,
    pub flow: FlowId,
    /// The service port that the caller's node judged.
    pub service_port: u16,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    #[error("the header starts with {0:02x?} instead of \"weft\": the peer speaks another protocol")]
    Magic([u8; 4]),
    /// It had crossed the FIN that ended the connection before. The tunnel ends with it, and nothing is wrong.
    #[error("RESET stands where a header may come")]
    Reset,
    #[error("the header is of version {0}, this build speaks {VERSION}: upgrade the older node")]
    Version(u8),
    #[error("the header's reserved byte is {0}, not 0")]
    Reserved(u8),
    #[error("the header claims {0} bytes after its prefix; {HEADER_FIELDS_BYTES} to {max} are allowed", max = HEADER_MAX_BYTES - HEADER_PREFIX_BYTES)]
    Length(usize),
    #[error("the header names port 0 as {0}")]
    PortZero(&'static str),
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..4].copy_from_slice(&MAGIC);
        out[4] = VERSION;
        out[6..8].copy_from_slice(&(HEADER_FIELDS_BYTES as u16).to_be_bytes());
        put_address(&mut out[8..26], self.destination);
        put_address(&mut out[26..44], self.caller);
        out[44..52].copy_from_slice(&self.flow.0.to_be_bytes());
        out[52..54].copy_from_slice(&self.service_port.to_be_bytes());
        out
    }

    fn read(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        let header = Self {
            destination: take_address(&bytes[8..26]),
            caller: take_address(&bytes[26..44]),
            flow: FlowId(u64::from_be_bytes(bytes[44..52].try_into().expect("eight bytes"))),
            service_port: u16::from_be_bytes([bytes[52], bytes[53]]),
        };
        match header {
            _ if header.destination.port() == 0 => Err(HeaderError::PortZero("destination")),
            _ if header.service_port == 0 => Err(HeaderError::PortZero("service port")),
            _ => Ok(header),
        }
    }
}

/// Takes a header as it arrives. One decoder reads one header; after an error it reads nothing more.
#[derive(Clone, Debug)]
pub struct HeaderDecoder {
    bytes: [u8; HEADER_BYTES],
    filled: usize,
    /// Bytes of extensions still to be passed over.
    extensions: usize,
}

impl Default for HeaderDecoder {
    fn default() -> Self {
        Self { bytes: [0; HEADER_BYTES], filled: 0, extensions: 0 }
    }
}

impl HeaderDecoder {
    /// Takes from the front of `input`. `None`: all of it was taken and more is needed. What follows the header is left in `input`.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Header>, HeaderError> {
        if self.filled < HEADER_PREFIX_BYTES {
            self.fill(input, HEADER_PREFIX_BYTES);
            // As early as possible, so that a stranger's first byte is enough to refuse it.
            let seen = self.filled.min(MAGIC.len());
            if self.bytes[0] == RESET && seen > 0 {
                return Err(HeaderError::Reset);
            }
            if self.bytes[..seen] != MAGIC[..seen] {
                return Err(HeaderError::Magic([self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]]));
            }
            if self.filled < HEADER_PREFIX_BYTES {
                return Ok(None);
            }
            self.extensions = self.claimed()? - HEADER_FIELDS_BYTES;
        }
        self.fill(input, HEADER_BYTES);
        if self.filled < HEADER_BYTES {
            return Ok(None);
        }
        let passed = self.extensions.min(input.len());
        *input = &input[passed..];
        self.extensions -= passed;
        if self.extensions > 0 { Ok(None) } else { Header::read(&self.bytes).map(Some) }
    }

    /// Whether a first byte has been seen: then the rest has to follow soon.
    pub fn has_begun(&self) -> bool {
        self.filled > 0
    }

    fn fill(&mut self, input: &mut &[u8], to: usize) {
        let n = to.saturating_sub(self.filled).min(input.len());
        self.bytes[self.filled..self.filled + n].copy_from_slice(&input[..n]);
        self.filled += n;
        *input = &input[n..];
    }

    fn claimed(&self) -> Result<usize, HeaderError> {
        let length = usize::from(u16::from_be_bytes([self.bytes[6], self.bytes[7]]));
        match self.bytes {
            [_, _, _, _, version, ..] if version != VERSION => Err(HeaderError::Version(version)),
            [_, _, _, _, _, reserved, ..] if reserved != 0 => Err(HeaderError::Reserved(reserved)),
            _ if !(HEADER_FIELDS_BYTES..=HEADER_MAX_BYTES - HEADER_PREFIX_BYTES).contains(&length) => Err(HeaderError::Length(length)),
            _ => Ok(length),
        }
    }
}

/// Sixteen bytes of address (IPv4 v4-mapped), two of port.
fn put_address(out: &mut [u8], address: SocketAddr) {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    out[..16].copy_from_slice(&ip.octets());
    out[16..].copy_from_slice(&address.port().to_be_bytes());
}

fn take_address(bytes: &[u8]) -> SocketAddr {
    let octets: [u8; 16] = bytes[..16].try_into().expect("sixteen bytes");
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical(), u16::from_be_bytes([bytes[16], bytes[17]]))
}
