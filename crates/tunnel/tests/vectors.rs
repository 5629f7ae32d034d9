//! Holds the decoders, and the encoders, against the vectors in `docs/tunnel.md`.

use weft_tunnel::{Answer, AnswerDecoder, Event, FrameDecoder, Header, HeaderDecoder, data_header, fin, reset};

struct Vector {
    title: String,
    bytes: Vec<u8>,
    says: String,
}

#[test]
fn the_documented_vectors_hold() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tunnel.md");
    let text = std::fs::read_to_string(path).expect("docs/tunnel.md is part of the repository");
    let vectors = read(&text);
    assert!(vectors.len() >= 20, "only {} vectors found", vectors.len());
    for v in vectors {
        let said = match v.title.split([' ', ':']).next() {
            Some("header") => header(&v.bytes),
            Some("answer") => answer(&v.bytes),
            Some("frames") => frames(&v.bytes),
            other => panic!("vector {:?} starts with {other:?}", v.title),
        };
        assert_eq!(said, v.says, "vector {:?}", v.title);
    }
}

fn read(text: &str) -> Vec<Vector> {
    let block = |block: &str| {
        let block = block.split("```").next().expect("a block");
        let (title, rest) = block.trim().split_once('\n').expect("a title line");
        let (hex, says) = rest.split_once("= ").expect("a line that starts with '= '");
        Vector { title: title.to_owned(), bytes: unhex(hex), says: says.trim().to_owned() }
    };
    text.split("```vector\n").skip(1).map(block).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).expect("a hex digit") as u8).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    digits.chunks(2).map(|d| d[0] << 4 | d[1]).collect()
}

fn header(bytes: &[u8]) -> String {
    let mut rest = bytes;
    match HeaderDecoder::default().decode(&mut rest) {
        Ok(Some(h)) => {
            check_encoding(&h, bytes);
            format!("destination {}, caller {}, flow {}, service port {}{}", h.destination, h.caller, h.flow, h.service_port, left(rest))
        }
        Ok(None) => "more is needed".to_owned(),
        Err(e) => format!("error: {e}"),
    }
}

/// An encoder writes no extensions, so only vectors without them come back byte for byte.
fn check_encoding(h: &Header, bytes: &[u8]) {
    if bytes[6..8] == h.encode()[6..8] {
        assert!(bytes.starts_with(&h.encode()));
    }
}

fn answer(bytes: &[u8]) -> String {
    let mut rest = bytes;
    match AnswerDecoder::default().decode(&mut rest) {
        Ok(Some(a)) => {
            assert!(bytes.starts_with(&a.encode()));
            match a {
                Answer::Accepted => format!("accepted{}", left(rest)),
                Answer::Refused { reason, text } => format!("refused, {reason}, {text:?}{}", left(rest)),
            }
        }
        Ok(None) => "more is needed".to_owned(),
        Err(e) => format!("error: {e}"),
    }
}

fn frames(bytes: &[u8]) -> String {
    let mut decoder = FrameDecoder::default();
    let (mut rest, mut said) = (bytes, Vec::new());
    let mut again = Vec::new();
    loop {
        match decoder.decode(&mut rest) {
            Ok(Some(Event::Data(d))) => {
                again.extend(data_header(d.len()));
                again.extend(d);
                said.push(format!("data {:?}", String::from_utf8_lossy(d)));
            }
            Ok(Some(Event::Fin)) => {
                again.extend(fin());
                said.push("fin".to_owned());
            }
            Ok(Some(Event::Reset(r))) => {
                again.extend(reset(r));
                said.push(format!("reset {r}"));
            }
            Ok(None) => {
                if again != bytes {
                    said.push("more is needed".to_owned());
                }
                return said.join(", ");
            }
            Err(e) => {
                said.push(format!("error: {e}"));
                return said.join(", ");
            }
        }
    }
}

fn left(rest: &[u8]) -> String {
    if rest.is_empty() { String::new() } else { format!(", {} bytes left", rest.len()) }
}
