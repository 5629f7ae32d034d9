//! The name in the gateway's assertion, to greet somebody by. A program that decides by it checks the signature (docs/gateway.md); this one decides nothing.

/// The `user` of a JWT's payload, letters, digits and a few signs only.
pub fn user(jwt: &str) -> Option<String> {
    let payload = decode(jwt.split('.').nth(1)?)?;
    let text = String::from_utf8(payload).ok()?;
    let (_, rest) = text.split_once("\"user\":\"")?;
    let (name, _) = rest.split_once('"')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_owned())
}

/// base64url without padding (RFC 4648 section 5).
fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let (mut bits, mut held, mut out) = (0u32, 0u32, Vec::new());
    for byte in text.bytes() {
        bits = (bits << 6) | u32::from(value(byte)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_and_nothing_else_is_one() {
        // {"iss":"x","user":"alice","groups":[]}
        assert_eq!(user("e30.eyJpc3MiOiJ4IiwidXNlciI6ImFsaWNlIiwiZ3JvdXBzIjpbXX0.sig").as_deref(), Some("alice"));
        // {"user":"<script>"}
        for bad in ["e30.eyJ1c2VyIjoiPHNjcmlwdD4ifQ.sig", "e30.e30.sig", "x", "", "a.*.b"] {
            assert_eq!(user(bad), None, "{bad}");
        }
    }
}
