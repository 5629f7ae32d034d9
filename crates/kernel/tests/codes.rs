//! The words of `weft-types` and the numbers of the kernel ABI agree: each side owns its own list.

use weft_ebpf_common as abi;
use weft_types::{Path, Protocol, Reason, Verdict};

#[test]
fn reasons_and_paths_have_the_kernels_numbers() {
    let reasons = [
        (Reason::Grant, abi::REASON_GRANT),
        (Reason::Local, abi::REASON_LOCAL),
        (Reason::Resolver, abi::REASON_RESOLVER),
        (Reason::Public, abi::REASON_PUBLIC),
        (Reason::NoGrant, abi::REASON_NO_GRANT),
        (Reason::UnknownDestination, abi::REASON_UNKNOWN_DESTINATION),
        (Reason::UnknownPort, abi::REASON_UNKNOWN_PORT),
        (Reason::NeedsL7, abi::REASON_NEEDS_L7),
        (Reason::Unidentified, abi::REASON_UNIDENTIFIED),
        (Reason::MixedIdentity, abi::REASON_MIXED_IDENTITY),
        (Reason::Protocol, abi::REASON_PROTOCOL),
        (Reason::TunnelPort, abi::REASON_TUNNEL_PORT),
        (Reason::NoCapture, abi::REASON_NO_CAPTURE),
        (Reason::NoSnapshot, abi::REASON_NO_SNAPSHOT),
        (Reason::Unattested, abi::REASON_UNATTESTED),
        (Reason::Internal, abi::REASON_INTERNAL),
        (Reason::Translated, abi::REASON_TRANSLATED),
        (Reason::OtherNode, abi::REASON_OTHER_NODE),
        (Reason::Spoofed, abi::REASON_SPOOFED),
        (Reason::Bypass, abi::REASON_BYPASS),
    ];
    for (word, code) in reasons {
        assert_eq!(word.code(), code, "{word}");
        assert_eq!(word.verdict() == Verdict::Allow, code < abi::REASON_NO_GRANT, "{word}");
    }
    let paths = [
        (Path::Captured, abi::PATH_CAPTURED),
        (Path::SameNode, abi::PATH_SAME_NODE),
        (Path::Interface, abi::PATH_INTERFACE),
        (Path::Local, abi::PATH_LOCAL),
        (Path::Delivered, abi::PATH_DELIVERED),
        (Path::Resolver, abi::PATH_RESOLVER),
        (Path::Public, abi::PATH_PUBLIC),
    ];
    assert_eq!(paths.len(), Path::ALL.len());
    for (word, code) in paths {
        assert_eq!(u32::from(word.code()), code, "{word}");
    }
    assert_eq!((Protocol::Tcp.number(), Protocol::Udp.number()), (abi::PROTO_TCP, abi::PROTO_UDP));
    assert_eq!((Verdict::Allow as u8, Verdict::Deny as u8), (abi::VERDICT_ALLOW, abi::VERDICT_DENY));
}
