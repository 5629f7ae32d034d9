//! What must hold for every header, answer and stream of frames, however the bytes are cut, and for bytes that are none of these.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::{collection::vec, prelude::*};
use weft_tunnel::{
    ANSWER_TEXT_MAX_BYTES, Answer, AnswerDecoder, DATA_MAX_BYTES, Event, FrameDecoder, HEADER_BYTES, Header, HeaderDecoder, ResetReason, data_header, fin,
    reset,
};
use weft_types::{FlowId, Reason, Verdict};

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|v| IpAddr::V4(Ipv4Addr::from_bits(v))),
        // A mapped address has one form here, the IPv4 one.
        any::<u128>().prop_map(|v| IpAddr::V6(Ipv6Addr::from_bits(v)).to_canonical()),
    ];
    (ip, 1..=u16::MAX).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn header() -> impl Strategy<Value = Header> {
    (address(), address(), any::<u64>(), 1..=u16::MAX).prop_map(|(destination, caller, flow, service_port)| Header {
        destination,
        caller,
        flow: FlowId(flow),
        service_port,
    })
}

fn answer() -> impl Strategy<Value = Answer> {
    let denying: Vec<Reason> = Reason::ALL.iter().copied().filter(|r| r.verdict() == Verdict::Deny).collect();
    prop_oneof![Just(Answer::Accepted), (proptest::sample::select(denying), ".{0,300}").prop_map(|(reason, text)| Answer::refused(reason, &text))]
}

#[derive(Clone, Debug, PartialEq)]
enum Frame {
    Data(Vec<u8>),
    Fin,
    Reset(ResetReason),
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let data = vec(vec(any::<u8>(), 1..200).prop_map(Frame::Data), 0..8);
    let end = proptest::sample::subsequence(vec![Frame::Fin, Frame::Reset(ResetReason::Revoked)], 0..=2);
    (data, end).prop_map(|(data, end)| data.into_iter().chain(end).collect())
}

fn encode(frames: &[Frame]) -> Vec<u8> {
    let mut out = Vec::new();
    for f in frames {
        match f {
            Frame::Data(d) => {
                out.extend(data_header(d.len()));
                out.extend(d);
            }
            Frame::Fin => out.extend(fin()),
            Frame::Reset(r) => out.extend(reset(*r)),
        }
    }
    out
}

/// Feeds the pieces; the pieces of one frame's data are joined again, so frames are compared as one run of bytes and their ends.
fn decode(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Frame>) {
    let (mut decoder, mut data, mut ends) = (FrameDecoder::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let mut rest = *piece;
        while let Some(event) = decoder.decode(&mut rest).expect("what was encoded decodes") {
            match event {
                Event::Data(d) => {
                    assert!(!d.is_empty());
                    data.extend(d);
                }
                Event::Fin => ends.push(Frame::Fin),
                Event::Reset(r) => ends.push(Frame::Reset(r)),
            }
        }
        assert!(rest.is_empty());
    }
    (data, ends)
}

proptest! {
    #[test]
    fn headers_come_back_at_every_cut(h in header(), extensions in 0_usize..458, follows in vec(any::<u8>(), 0..9)) {
        let mut bytes = h.encode().to_vec();
        bytes[6..8].copy_from_slice(&((46 + extensions) as u16).to_be_bytes());
        bytes.resize(HEADER_BYTES + extensions, 0xee);
        bytes.extend(&follows);
        for cut in 0..=HEADER_BYTES + extensions {
            let (mut first, mut second) = bytes.split_at(cut);
            let mut decoder = HeaderDecoder::default();
            let mut got = decoder.decode(&mut first).unwrap();
            if got.is_none() {
                prop_assert!(first.is_empty());
                got = decoder.decode(&mut second).unwrap();
            }
            prop_assert_eq!(got, Some(h));
            prop_assert_eq!(second, &follows[..]);
        }
    }

    #[test]
    fn answers_come_back_at_every_cut(a in answer(), follows in vec(any::<u8>(), 0..9)) {
        let mut bytes = a.encode();
        let whole = bytes.len();
        bytes.extend(&follows);
        for cut in 0..whole {
            let (mut first, mut second) = bytes.split_at(cut);
            let mut decoder = AnswerDecoder::default();
            prop_assert_eq!(decoder.decode(&mut first), Ok(None));
            prop_assert_eq!(decoder.decode(&mut second), Ok(Some(a.clone())));
            prop_assert_eq!(second, &follows[..]);
        }
    }

    #[test]
    fn a_refusal_is_cut_at_a_character(text in "\\PC{0,400}") {
        let Answer::Refused { text: kept, .. } = Answer::refused(Reason::NoGrant, &text) else { unreachable!() };
        prop_assert!(kept.len() <= ANSWER_TEXT_MAX_BYTES && text.starts_with(&kept) && (kept == text || kept.len() > ANSWER_TEXT_MAX_BYTES - 4));
    }

    #[test]
    fn frames_come_back_at_every_cut(frames in frames()) {
        let bytes = encode(&frames);
        let data: Vec<u8> = frames.iter().flat_map(|f| if let Frame::Data(d) = f { d.clone() } else { Vec::new() }).collect();
        let ends: Vec<Frame> = frames.into_iter().filter(|f| !matches!(f, Frame::Data(_))).collect();
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            prop_assert_eq!(decode(&[first, second]), (data.clone(), ends.clone()));
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(decode(&single), (data, ends));
    }

    #[test]
    fn any_bytes_are_an_event_an_error_or_too_few(bytes in vec(any::<u8>(), 0..400)) {
        let mut rest = &bytes[..];
        let _ = HeaderDecoder::default().decode(&mut rest);
        let mut rest = &bytes[..];
        let _ = AnswerDecoder::default().decode(&mut rest);
        let (mut rest, mut decoder) = (&bytes[..], FrameDecoder::default());
        let mut before = rest.len() + 1;
        while let Ok(Some(event)) = decoder.decode(&mut rest) {
            // Each event takes bytes, or the loop of a caller would not end.
            prop_assert!(rest.len() < before);
            before = rest.len();
            if let Event::Data(d) = event { prop_assert!(d.len() <= DATA_MAX_BYTES); }
        }
    }
}

#[test]
fn the_longest_frame_passes_and_is_finished_only_by_fin() {
    let mut bytes = data_header(DATA_MAX_BYTES).to_vec();
    bytes.resize(4 + DATA_MAX_BYTES, 7);
    bytes.extend(fin());
    bytes.extend(b"weft");
    let (mut decoder, mut rest) = (FrameDecoder::default(), &bytes[..]);
    assert!(matches!(decoder.decode(&mut rest), Ok(Some(Event::Data(d))) if d.len() == DATA_MAX_BYTES));
    assert!(!decoder.is_finished());
    assert_eq!(decoder.decode(&mut rest), Ok(Some(Event::Fin)));
    assert!(decoder.is_finished());
    assert_eq!(rest, b"weft", "what follows FIN is the next header's");
}
