//! What really was on an interface: `tcpdump` beside the mesh, and a small reader of its files.
//!
//! The reader knows Ethernet, IPv4, IPv6 (without extension headers), TCP and UDP. It joins TCP segments by sequence number, so that a marker split over
//! two segments is still found.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{LabError, Place, Proc, eventually, limits};

/// A running `tcpdump`.
#[derive(Debug)]
pub struct Capture {
    process: Proc,
    file: PathBuf,
}

/// One TCP or UDP packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// TCP only.
    pub sequence: u32,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// Source and destination of one direction.
pub type Ends = (SocketAddr, SocketAddr);

/// A finished capture.
#[derive(Clone, Debug)]
pub struct Captured {
    pub file: PathBuf,
    pub packets: Vec<Packet>,
    raw: Vec<u8>,
}

impl Capture {
    /// Starts `tcpdump` in a place and returns when it listens.
    pub fn start(place: &Place, name: &str, interface: &str, filter: &str) -> Result<Self, LabError> {
        let file = place.dir().join(format!("{name}.pcap"));
        let path = file.display().to_string();
        // -B: KiB; whole frames are given a quarter MiB each, and one that finds no room would be missing in the proof.
        // -Z root: the file lies in a directory that tcpdump's own user may not write.
        let mut argv = vec!["tcpdump", "-Z", "root", "-n", "-U", "-s", "0", "--immediate-mode", "-B", "16384", "-i", interface, "-w", &path];
        if !filter.is_empty() {
            argv.push(filter);
        }
        let mut process = place.spawn(&format!("tcpdump-{name}"), &argv)?;
        process.wait_for_log("listening on", limits::START_DEADLINE)?;
        Ok(Self { process, file })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether `marker` is in what was captured so far.
    pub fn contains(&self, marker: &[u8]) -> Result<bool, LabError> {
        Ok(read(&self.file)?.contains(marker))
    }

    /// Waits until a packet is there that `wanted` accepts.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Packet) -> bool) -> Result<Packet, LabError> {
        eventually(limits::START_DEADLINE, what, || {
            let captured = read(&self.file).map_err(|e| e.to_string())?;
            captured.packets.iter().find(|p| wanted(p)).cloned().ok_or_else(|| format!("{} other packets", captured.packets.len()))
        })
    }

    /// Ends `tcpdump` and reads what it wrote.
    pub fn stop(mut self) -> Result<Captured, LabError> {
        self.process.stop();
        read(&self.file)
    }
}

impl Captured {
    /// Whether the bytes are anywhere: in a packet as it was, or in a TCP stream put together.
    pub fn contains(&self, marker: &[u8]) -> bool {
        find(&self.raw, marker) || self.streams().values().any(|s| find(s, marker))
    }

    /// Bytes of each direction of each TCP connection, in order, as far as they were seen without a gap.
    pub fn streams(&self) -> BTreeMap<Ends, Vec<u8>> {
        let mut segments: BTreeMap<Ends, Vec<(u32, &[u8])>> = BTreeMap::new();
        for p in self.packets.iter().filter(|p| p.protocol == 6 && !p.payload.is_empty()) {
            segments.entry((p.source, p.destination)).or_default().push((p.sequence, &p.payload));
        }
        segments.into_iter().map(|(ends, parts)| (ends, join(parts))).collect()
    }
}

/// Reads a capture file, whole packets only: the last one may still be on its way to disk.
pub fn read(file: &Path) -> Result<Captured, LabError> {
    let size = fs::metadata(file).map_err(LabError::io("look at", file))?.len();
    if size > limits::CAPTURE_MAX_BYTES {
        return Err(LabError::Malformed(format!("capture {} has {} MiB; at most {} are read", file.display(), size >> 20, limits::CAPTURE_MAX_BYTES >> 20)));
    }
    let raw = fs::read(file).map_err(LabError::io("read", file))?;
    let packets = parse(&raw).ok_or_else(|| LabError::Malformed(format!("{} is not a little-endian Ethernet capture", file.display())))?;
    Ok(Captured { file: file.to_owned(), packets, raw })
}

fn parse(raw: &[u8]) -> Option<Vec<Packet>> {
    if raw.is_empty() {
        return Some(Vec::new());
    }
    // pcap(5): magic, then the link type in the last word of 24 bytes; 1 is Ethernet.
    if raw.get(..4)? != [0xd4, 0xc3, 0xb2, 0xa1] || le32(raw, 20)? != 1 {
        return None;
    }
    let (mut at, mut packets) = (24, Vec::new());
    while let Some(length) = le32(raw, at + 8) {
        let start = at + 16;
        let Some(frame) = raw.get(start..start + length as usize) else { break };
        packets.extend(packet(frame));
        at = start + length as usize;
    }
    Some(packets)
}

fn packet(frame: &[u8]) -> Option<Packet> {
    let ip = frame.get(14..)?;
    let (protocol, source, destination, body): (u8, IpAddr, IpAddr, &[u8]) = match be16(frame, 12)? {
        0x0800 => {
            let (header, total) = (usize::from(ip.first()? & 15) * 4, usize::from(be16(ip, 2)?));
            let (source, destination) = (<[u8; 4]>::try_from(ip.get(12..16)?).ok()?, <[u8; 4]>::try_from(ip.get(16..20)?).ok()?);
            (*ip.get(9)?, Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into(), ip.get(header..total)?)
        }
        0x86dd => {
            let length = usize::from(be16(ip, 4)?);
            let (source, destination) = (<[u8; 16]>::try_from(ip.get(8..24)?).ok()?, <[u8; 16]>::try_from(ip.get(24..40)?).ok()?);
            (*ip.get(6)?, Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into(), ip.get(40..40 + length)?)
        }
        _ => return None,
    };
    let (sequence, flags, payload) = match protocol {
        6 => (u32::from_be_bytes(body.get(4..8)?.try_into().ok()?), *body.get(13)?, body.get(usize::from(body.get(12)? >> 4) * 4..)?),
        17 => (0, 0, body.get(8..)?),
        _ => return None,
    };
    let (from, to) = (SocketAddr::new(source, be16(body, 0)?), SocketAddr::new(destination, be16(body, 2)?));
    Some(Packet { protocol, source: from, destination: to, sequence, flags, payload: payload.to_vec() })
}

fn join(mut parts: Vec<(u32, &[u8])>) -> Vec<u8> {
    // Offsets from the first segment seen, so that wrapping sequence numbers sort.
    let Some(first) = parts.first().map(|p| p.0) else { return Vec::new() };
    parts.sort_by_key(|(sequence, _)| sequence.wrapping_sub(first).cast_signed());
    let (mut next, mut out) = (parts[0].0, Vec::new());
    for (sequence, bytes) in parts {
        let behind = next.wrapping_sub(sequence).cast_signed();
        match usize::try_from(behind) {
            Ok(seen) if seen < bytes.len() => {
                out.extend_from_slice(&bytes[seen..]);
                next = sequence.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            }
            // Sent before.
            Ok(_) => {}
            Err(_) => break,
        }
    }
    out
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty() && haystack.windows(needle.len()).any(|w| w == needle)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut f = vec![0; 12];
        f.extend([8, 0, 0x45, 0]);
        f.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
        f.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 80]);
        f.extend(sequence.to_be_bytes());
        f.extend([0, 0, 0, 0, 0x50, 0x18, 0, 0, 0, 0, 0, 0]);
        f.extend(payload);
        f
    }

    fn capture(frames: &[Vec<u8>]) -> Captured {
        let mut raw = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        for f in frames {
            raw.extend([0; 8]);
            raw.extend(u32::try_from(f.len()).unwrap().to_le_bytes());
            raw.extend(u32::try_from(f.len()).unwrap().to_le_bytes());
            raw.extend(f);
        }
        Captured { file: PathBuf::new(), packets: parse(&raw).unwrap(), raw }
    }

    #[test]
    fn finds_a_marker_split_over_segments_out_of_order_and_sent_twice() {
        let first = u32::MAX - 2;
        let c = capture(&[frame(first, b"GET /ma"), frame(first.wrapping_add(7), b"rk"), frame(first.wrapping_add(9), b"er x"), frame(first, b"GET /ma")]);
        assert!(c.contains(b"/marker x"));
        assert!(!c.contains(b"/marker y"));
        let late = capture(&[frame(4, b"rk"), frame(2, b"ma"), frame(6, b"er")]);
        assert!(late.contains(b"marker"));
    }

    #[test]
    fn a_gap_ends_the_stream() {
        assert!(!capture(&[frame(2, b"ma"), frame(9, b"rker")]).contains(b"marker"));
    }

    #[test]
    fn reads_ends_and_ports() {
        let c = capture(&[frame(1, b"x")]);
        assert_eq!((c.packets[0].source.to_string(), c.packets[0].destination.to_string()), ("10.0.0.1:12345".to_owned(), "10.0.0.2:80".to_owned()));
    }
}
