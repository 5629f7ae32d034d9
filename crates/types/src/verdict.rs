//! Verdicts, their reasons, and the path a connection took. The numbers are the kernel ABI's (`weft-kernel` asserts that they agree).

use std::fmt;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Verdict {
    Allow = 1,
    Deny = 2,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $word:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant = $code),* }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            pub fn code(self) -> u8 {
                self as u8
            }

            pub fn from_code(code: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|r| r.code() == code)
            }

            /// The word that programs read; part of the public interface.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// One sentence for people, without a full stop.
            pub fn explain(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

coded! {
    /// Why a verdict is what it is. Codes below 10 allow; codes from 40 are given by a proxy after the kernel's allow.
    Reason {
        Grant = 1, "grant", "a declared dependency, with the provider's consent, allows it";
        Local = 2, "local", "it stays within one namespace of one identity";
        Resolver = 3, "resolver", "the configuration names this resolver";
        Public = 4, "public", "it came from outside to a port that is open to everybody";
        NoGrant = 10, "no-grant", "no declared dependency covers this source, destination and port";
        UnknownDestination = 11, "unknown-destination", "the address belongs to no service and no declared interface";
        UnknownPort = 12, "unknown-port", "the destination declares no such port";
        NeedsL7 = 13, "needs-l7", "the dependency speaks of HTTP, which this version cannot judge";
        Unidentified = 14, "unidentified", "the workload has no identity yet";
        MixedIdentity = 15, "mixed-identity", "socket, task and namespace speak of different identities";
        Protocol = 16, "protocol", "enrolled workloads get no such protocol";
        TunnelPort = 17, "tunnel-port", "no workload may dial the tunnel's port";
        NoCapture = 18, "no-capture", "the agent has no listener in this namespace yet";
        NoSnapshot = 19, "no-snapshot", "the node has no snapshot yet";
        Unattested = 20, "unattested", "nobody attested the connection: it went around the mesh";
        Internal = 21, "internal", "the kernel refused a helper that the verdict depends on";
        Pending = 22, "pending", "the dependency is declared, but the provider has not consented";
        Translated = 23, "translated", "something in the workload's namespace (nftables, iptables) sends the packet elsewhere than the verdict was for";
        OtherNode = 24, "other-node", "it is granted, but datagrams go between workloads of one node only, each in a namespace of its own behind a veth";
        Spoofed = 30, "spoofed", "the packet does not come from an address of the workload";
        Bypass = 31, "bypass", "it is granted, but the packet went around the way that grants lead";
        NoEndpoint = 40, "no-endpoint", "no endpoint of the destination is known";
        UpstreamConnect = 41, "upstream-connect", "the connection to the endpoint failed";
        PeerIdentity = 42, "peer-identity", "the peer presented another identity than the expected one";
        PeerRefused = 43, "peer-refused", "the destination's agent refused the connection";
        UnknownPeer = 44, "unknown-peer", "the peer's identity belongs to no service";
        BadHeader = 45, "bad-header", "the peer's tunnel header is malformed";
        WrongDestination = 46, "wrong-destination", "the tunnel asked for a destination that this workload is not";
        Budget = 47, "budget", "the workload has as many connections as its share of the agent's descriptors allows";
    }
}

coded! {
    /// The way a connection took.
    Path {
        Captured = 1, "captured", "through the agent's listener in the caller's namespace";
        SameNode = 2, "same-node", "straight to the endpoint on this node";
        Interface = 3, "interface", "straight to a declared interface";
        Local = 4, "local", "within the namespace";
        Delivered = 5, "delivered", "from the tunnel to the application";
        Resolver = 6, "resolver", "to a resolver";
        Public = 7, "public", "from outside straight to the application";
    }
}

impl Reason {
    pub fn verdict(self) -> Verdict {
        if self.code() < 10 { Verdict::Allow } else { Verdict::Deny }
    }
}
