//! What went wrong while a request was served: whose side it was on, and whether it may be sent again, as data.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use http::StatusCode;

/// Who has to change something for this to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client.
    Downstream,
    /// The server that was asked.
    Upstream,
    /// We ourselves.
    Internal,
}

/// Whether the same request may be sent again, to this endpoint or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Not a byte of it was taken: always.
    Safe,
    /// It was sent, and nobody knows what became of it: if its method is idempotent (RFC 9110 section 9.2.2).
    IfIdempotent,
    /// Never: an answer has begun, or the fault is not cured by another try.
    Never,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The endpoint did not accept the connection.
    Connect,
    /// The endpoint did not accept the connection in time.
    ConnectTimeout,
    /// Too many requests wait for this endpoint.
    Busy,
    /// The peer closed before it was done.
    Closed,
    /// The peer reset the stream or refused it.
    Reset,
    /// The peer said something that is no HTTP, or two things at once.
    Malformed,
    /// The peer was slower than is waited for.
    Timeout,
    /// The body is larger than is taken.
    TooLarge,
    /// The connection was ended on purpose.
    Ended,
    /// A fault of ours.
    Internal,
}

#[derive(Clone, Debug)]
pub struct Error {
    side: Side,
    retry: Retry,
    fault: Fault,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(side: Side, fault: Fault, retry: Retry) -> Self {
        Self { side, retry, fault, source: None }
    }

    pub fn downstream(fault: Fault) -> Self {
        Self::new(Side::Downstream, fault, Retry::Never)
    }

    pub fn upstream(fault: Fault) -> Self {
        Self::new(Side::Upstream, fault, Retry::Never)
    }

    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    #[must_use]
    pub fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub fn side(&self) -> Side {
        self.side
    }

    pub fn retry(&self) -> Retry {
        self.retry
    }

    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What a client is told when no answer has begun.
    pub fn status(&self) -> StatusCode {
        match (self.side, self.fault) {
            (Side::Downstream, Fault::Timeout) => StatusCode::REQUEST_TIMEOUT,
            (Side::Downstream, Fault::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            (Side::Downstream, _) => StatusCode::BAD_REQUEST,
            (_, Fault::Busy | Fault::Ended) => StatusCode::SERVICE_UNAVAILABLE,
            (Side::Upstream, Fault::Timeout | Fault::ConnectTimeout) => StatusCode::GATEWAY_TIMEOUT,
            (Side::Upstream, _) => StatusCode::BAD_GATEWAY,
            (Side::Internal, _) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Our own error, if one is at the bottom of this: hyper wraps what a body of ours said.
    pub(crate) fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(own) = error.downcast_ref::<Self>() {
                return Some(own.clone());
            }
            next = below(error);
        }
        None
    }

    /// What hyper says of a body or a connection of this side.
    pub(crate) fn of_hyper(side: Side, error: hyper::Error) -> Self {
        if let Some(own) = Self::find(&error) {
            return own;
        }
        let (fault, retry) = classify(&error);
        Self::new(side, fault, retry).because(error)
    }
}

fn classify(error: &hyper::Error) -> (Fault, Retry) {
    if error.is_parse() || error.is_parse_too_large() {
        return (Fault::Malformed, Retry::Never);
    }
    if error.is_timeout() {
        return (Fault::Timeout, Retry::IfIdempotent);
    }
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(frame) = error.downcast_ref::<h2::Error>() {
            return match frame.reason() {
                // RFC 9113 section 8.7: neither was looked at.
                Some(h2::Reason::REFUSED_STREAM) => (Fault::Reset, Retry::Safe),
                Some(h2::Reason::NO_ERROR) if frame.is_go_away() => (Fault::Closed, Retry::IfIdempotent),
                Some(h2::Reason::PROTOCOL_ERROR) => (Fault::Malformed, Retry::Never),
                Some(_) => (Fault::Reset, Retry::IfIdempotent),
                None => (Fault::Closed, Retry::IfIdempotent),
            };
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let malformed = matches!(io.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
            return if malformed { (Fault::Malformed, Retry::Never) } else { (Fault::Closed, Retry::IfIdempotent) };
        }
        next = below(error);
    }
    (Fault::Closed, Retry::IfIdempotent)
}

/// The next error of the chain. `io::Error` leaves out the one that it wraps.
fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.side {
            Side::Downstream => "the client",
            Side::Upstream => "the upstream",
            Side::Internal => "the gateway",
        };
        f.write_str(match self.fault {
            Fault::Connect => return write!(f, "{who} did not accept the connection"),
            Fault::ConnectTimeout => return write!(f, "{who} did not accept the connection in time"),
            Fault::Busy => "too many requests wait for this endpoint",
            Fault::Closed => return write!(f, "{who} closed the connection too early"),
            Fault::Reset => return write!(f, "{who} reset the stream"),
            Fault::Malformed => return write!(f, "{who} sent something that is no valid HTTP message"),
            Fault::Timeout => return write!(f, "{who} was too slow"),
            Fault::TooLarge => return write!(f, "{who} sent a larger body than is taken"),
            Fault::Ended => "the connection was ended on purpose",
            Fault::Internal => return write!(f, "{who} failed"),
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_has_its_statuses() {
        let check = |side, fault, expect: u16| assert_eq!(Error::new(side, fault, Retry::Never).status(), expect, "{side:?} {fault:?}");
        check(Side::Downstream, Fault::Malformed, 400);
        check(Side::Downstream, Fault::Closed, 400);
        check(Side::Downstream, Fault::Timeout, 408);
        check(Side::Downstream, Fault::TooLarge, 413);
        check(Side::Upstream, Fault::Connect, 502);
        check(Side::Upstream, Fault::ConnectTimeout, 504);
        check(Side::Upstream, Fault::Timeout, 504);
        check(Side::Upstream, Fault::Malformed, 502);
        check(Side::Internal, Fault::Busy, 503);
        check(Side::Internal, Fault::Internal, 500);
    }

    #[test]
    fn our_own_error_is_found_below_others() {
        let wrapped = io::Error::other(io::Error::other(Error::downstream(Fault::TooLarge)));
        assert_eq!(Error::find(&wrapped).map(|found| (found.side(), found.fault())), Some((Side::Downstream, Fault::TooLarge)));
        assert!(Error::find(&io::Error::other("else")).is_none());
    }
}
