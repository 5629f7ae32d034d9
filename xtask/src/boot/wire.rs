//! What passed the guest's network card, as qemu wrote it: markers, and packets of workloads.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

const MARKER: u16 = 7999;
const MARK: &str = "weft-boot ";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Mark(String),
    Packet { protocol: u8, port: u16 },
}

/// In the order of the wire; only IPv4, TCP and UDP, and only what the guest sent.
pub(crate) fn read(file: &Path) -> Result<Vec<Seen>> {
    decode(&fs::read(file).with_context(|| format!("cannot read {}", file.display()))?)
}

fn decode(capture: &[u8]) -> Result<Vec<Seen>> {
    if capture.get(..4) != Some(&0xa1b2_c3d4_u32.to_le_bytes()) {
        bail!("the capture is not one of qemu's");
    }
    let (mut rest, mut seen) = (&capture[24..], Vec::new());
    while let Some(header) = rest.get(..16) {
        let length = u32::from_le_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let Some(frame) = rest.get(16..16 + length) else { bail!("the capture ends in the middle of a packet") };
        seen.extend(packet(frame));
        rest = &rest[16 + length..];
    }
    Ok(seen)
}

fn packet(frame: &[u8]) -> Option<Seen> {
    if frame.get(12..14)? != [8, 0] {
        return None;
    }
    let ip = &frame[14..];
    let (protocol, transport) = (*ip.get(9)?, ip.get(usize::from(ip[0] & 15) * 4..)?);
    // The other end of the wire is qemu.
    if ip.get(12..16)? == [10, 0, 2, 2] || !matches!(protocol, 6 | 17) {
        return None;
    }
    let port = u16::from_be_bytes([*transport.get(2)?, *transport.get(3)?]);
    if port == MARKER {
        let length = usize::from(u16::from_be_bytes([*transport.get(4)?, *transport.get(5)?]));
        let text = String::from_utf8_lossy(transport.get(8..length)?).into_owned();
        return text.strip_prefix(MARK).map(|word| Seen::Mark(word.to_owned()));
    }
    Some(Seen::Packet { protocol, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [0xa1b2_c3d4_u32.to_le_bytes().to_vec(), vec![0; 20]].concat();
        for frame in frames {
            let length = (frame.len() as u32).to_le_bytes();
            bytes.extend([vec![0; 8], length.to_vec(), length.to_vec(), frame.clone()].concat());
        }
        bytes
    }

    fn frame(source: [u8; 4], protocol: u8, port: u16, data: &[u8]) -> Vec<u8> {
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        ip.extend([source, [10, 0, 2, 2]].concat());
        ip.extend([vec![0, 1], port.to_be_bytes().to_vec(), (8 + data.len() as u16).to_be_bytes().to_vec(), vec![0, 0], data.to_vec()].concat());
        [vec![0; 12], vec![8, 0], ip].concat()
    }

    #[test]
    fn what_the_guest_sent_is_seen_in_its_order() {
        let guest = [10, 0, 2, 15];
        let seen = decode(&captured(&[
            frame(guest, 6, 7001, b"syn"),
            frame([10, 0, 2, 2], 6, 40000, b"answer"),
            frame(guest, 17, 7999, b"weft-boot tried"),
            vec![0xff; 42],
            frame([10, 0, 3, 2], 17, 7002, b"weft"),
        ]));
        let packet = |protocol, port| Seen::Packet { protocol, port };
        assert_eq!(seen.unwrap(), [packet(6, 7001), Seen::Mark("tried".into()), packet(17, 7002)]);
        assert!(decode(b"no capture").is_err());
    }
}
