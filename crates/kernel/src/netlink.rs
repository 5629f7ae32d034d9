//! Netlink's framing, the same for every family: messages, and the attributes in them. What is cut off ends a walk.

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;
pub(crate) const REQUEST: u16 = 0x1;
pub(crate) const WANT_ACK: u16 = 0x4;
pub(crate) const DUMP: u16 = 0x300;
const ATTRIBUTE_MASK: u16 = 0x3fff;

/// One request. What is put behind it makes it longer: [`seal`] it then.
pub(crate) fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut m = Vec::with_capacity(HEADER_BYTES + body.len());
    m.extend([0; 4]);
    m.extend(kind.to_ne_bytes());
    m.extend((REQUEST | flags).to_ne_bytes());
    m.extend([1_u32, 0].iter().flat_map(|w| w.to_ne_bytes()));
    m.extend(body);
    seal(m)
}

/// Writes the length into the header.
pub(crate) fn seal(mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

pub(crate) fn put(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend(((4 + value.len()) as u16).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// (type, body) of each message.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = word(bytes, 0)? as usize;
        let kind = half(bytes, 4)?;
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// Whether nothing of what was read is cut off.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    messages(bytes).map(|(_, body)| (HEADER_BYTES + body.len()).next_multiple_of(4)).sum::<usize>() >= bytes.len()
}

/// (type, value) of each attribute.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(half(bytes, 0)?);
        let kind = half(bytes, 2)? & ATTRIBUTE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of that type.
pub(crate) fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The errno of an [`ERROR`]; `None`: it is an acknowledgement.
pub(crate) fn errno(body: &[u8]) -> Option<i32> {
    let code = word(body, 0)? as i32;
    (code != 0).then_some(-code)
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_off_answer_ends_the_walk() {
        let whole = request(20, 0, &[0; 56]);
        assert_eq!(messages(&whole).count(), 1);
        assert_eq!(messages(&whole[..whole.len() - 1]).count(), 0);
        assert!(is_whole(&whole) && is_whole(&[]));
        assert!(!is_whole(&whole[..whole.len() - 1]) && !is_whole(&whole[..3]));
        let mut one = Vec::new();
        put(&mut one, 3, &[1, 2, 3]);
        assert_eq!(attributes(&one).collect::<Vec<_>>(), [(3, &[1_u8, 2, 3][..])]);
        assert_eq!(attributes(&[9, 0, 1, 0, 5]).count(), 0);
    }

    #[test]
    fn attributes_are_found_behind_others_and_a_broken_one_ends_the_search() {
        let mut b = Vec::new();
        put(&mut b, 3, b"eth0\0");
        put(&mut b, 5, &7_u32.to_ne_bytes());
        assert_eq!(attribute(&b, 5).and_then(|v| word(v, 0)), Some(7));
        assert_eq!(attribute(&b, 9), None);
        assert_eq!(attribute(&b[..b.len() - 1], 5), None);
        // A length below its own header must not make the walk stand still.
        assert_eq!(attribute(&[0, 0, 3, 0, 0, 0, 0, 0], 5), None);
    }
}
