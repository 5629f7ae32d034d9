//! What an envelope protects: every field, against everything but a delay.

mod common;

use common::{full, with_gateway};
use weft_snapshot::{Envelope, GATEWAY_SCHEMA_VERSION, Keyring, OpenError, SCHEMA_VERSION, SigningKey, encode, is_whole};
use weft_types::Revision;

fn signed() -> (Envelope, SigningKey, Keyring) {
    let (key, _) = SigningKey::generate().unwrap();
    let snapshot = full();
    let envelope = key.sign(snapshot.revision, encode(&snapshot));
    let ring = Keyring::new(vec![(key.id().to_owned(), key.public_key())]);
    (envelope, key, ring)
}

#[test]
fn what_was_signed_opens() {
    let (envelope, key, ring) = signed();
    assert_eq!(ring.open(&envelope), Ok(full()));
    assert_eq!((envelope.schema_version, envelope.base_revision, envelope.key_id.as_str()), (SCHEMA_VERSION, Revision(0), key.id()));
    // The key survives its own file form, and its id is that of the public key.
    let (key, pkcs8) = SigningKey::generate().unwrap();
    let again = SigningKey::from_pkcs8(&pkcs8).unwrap();
    assert_eq!((again.id(), again.public_key()), (key.id(), key.public_key()));
    assert_eq!((again.id().len(), again.sign(Revision(7), encode(&full()))), (16, key.sign(Revision(7), encode(&full()))));
    assert!(SigningKey::from_pkcs8(b"nonsense").is_err());
    assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id()));
}

/// Each change alone turns a good envelope into a refused one.
#[test]
fn every_field_is_covered() {
    let (good, key, ring) = signed();
    let other_key = SigningKey::generate().unwrap().0;
    let ring = {
        // The other key is trusted too, so that only the signature can tell the keys apart.
        let mut keys = vec![(other_key.id().to_owned(), other_key.public_key())];
        keys.push((key.id().to_owned(), key.public_key()));
        assert!(ring.open(&good).is_ok());
        Keyring::new(keys)
    };
    let check = |what: &str, change: &dyn Fn(&mut Envelope), expect: &OpenError| {
        assert!(ring.open(&good).is_ok());
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(ring.open(&bad).as_ref(), Err(expect), "{what}");
    };
    let signature = OpenError::Signature(Revision(7));
    check("schema version", &|e| e.schema_version = 2, &OpenError::Schema(2));
    check("revision", &|e| e.revision = Revision(8), &OpenError::Signature(Revision(8)));
    check("base revision", &|e| e.base_revision = Revision(6), &signature);
    check("key id", &|e| e.key_id = other_key.id().to_owned(), &signature);
    check("unknown key", &|e| e.key_id = "ffffffffffffffff".to_owned(), &OpenError::UnknownKey("ffffffffffffffff".to_owned()));
    check("no key", &|e| e.key_id.clear(), &OpenError::UnknownKey(String::new()));
    check("signature of another key", &|e| e.signature = other_key.sign(e.revision, e.payload.clone()).signature, &signature);
    check("no signature", &|e| e.signature.clear(), &signature);
    check("longer signature", &|e| e.signature.push(0), &signature);
    check("shorter payload", &|e| e.payload.truncate(e.payload.len() - 1), &signature);
    check("longer payload", &|e| e.payload.push(0), &signature);
    for bit in 0..good.signature.len() * 8 {
        check("a bit of the signature", &|e| e.signature[bit / 8] ^= 1 << (bit % 8), &signature);
    }
    for byte in 0..good.payload.len() {
        check("a bit of the payload", &|e| e.payload[byte] ^= 1, &signature);
    }
}

#[test]
fn bytes_cannot_move_between_fields() {
    let (good, key, _) = signed();
    // With the last character of the key id moved to the front of the payload, the concatenation is the same but for the lengths.
    let mut moved = good.clone();
    let last = moved.key_id.pop().unwrap();
    moved.payload.insert(0, last as u8);
    let ring = Keyring::new(vec![(moved.key_id.clone(), key.public_key())]);
    assert_eq!(ring.open(&moved), Err(OpenError::Signature(Revision(7))));
}

#[test]
fn a_true_signature_is_not_enough() {
    let (_, key, ring) = signed();
    let payload = encode(&full());
    assert_eq!(ring.open(&key.sign(Revision(8), payload.clone())), Err(OpenError::Revision { envelope: Revision(8), payload: Revision(7) }));
    assert!(matches!(ring.open(&key.sign(Revision(7), b"nonsense".to_vec())), Err(OpenError::Decode(_))));
    assert_eq!(Keyring::default().open(&key.sign(Revision(7), payload)), Err(OpenError::UnknownKey(key.id().to_owned())));
}

/// Who reads version 1 must be able to read all that is called so; what a payload holds says what it is called.
#[test]
fn the_schema_is_that_of_the_content() {
    let (_, key, ring) = signed();
    let exposed = with_gateway();
    let envelope = key.sign(exposed.revision, encode(&exposed));
    assert_eq!(envelope.schema_version, GATEWAY_SCHEMA_VERSION);
    assert_eq!(ring.open(&envelope).as_ref(), Ok(&exposed));
    let plain = exposed.without_gateway();
    let envelope = key.sign(plain.revision, encode(&plain));
    assert_eq!(envelope.schema_version, SCHEMA_VERSION);
    assert_eq!(ring.open(&envelope), Ok(plain));
    assert!([1, 3].into_iter().all(is_whole) && ![0, 2, 4, 5].into_iter().any(is_whole));
}

/// The vector of docs/snapshot.md, whose signature another implementation (OpenSSL) made from the documented bytes.
#[test]
fn the_documented_vector_holds() {
    let pkcs8 = [hex("302e020100300506032b657004220420"), (0..32).collect()].concat();
    let key = SigningKey::from_pkcs8(&pkcs8).unwrap();
    assert_eq!(key.public_key().to_vec(), hex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"));
    assert_eq!(key.id(), "56475aa75463474c");
    let envelope = key.sign(Revision(1), hex("08011a0161"));
    let signature = "efd8b915a4b7ac1655bd085c1b87c2f3e49d6adffa230e751cc9fab7904ef1019873bc6ab237146b9a109573979042a96c16dce2bb4ae012d4038008345c5e06";
    assert_eq!(envelope.signature, hex(signature));
    let opened = Keyring::new(vec![(key.id().to_owned(), key.public_key())]).open(&envelope).unwrap();
    assert_eq!((opened.revision, opened.trust_domain.as_str()), (Revision(1), "a"));
    let page = include_str!("../../../docs/snapshot.md");
    assert!(page.contains(signature) && page.contains("08011a0161"));
    let payload = "08011a0161223808011204776566741a076761746577617920013204776566744a1d7370696666653a2f2f612f6e732f776566742f73612f676174657761794a0b080112016218bb0350bb03";
    let signature = "b184a3552afa8e4fa4ff49b9b01678c8306c0a18adfef5dd75463c7c8f1c8f338515f4cac7f50770acc22ef68ee36f8f1f4e36fd469ce37f972e2b8cc2d42f0d";
    let envelope = key.sign(Revision(1), hex(payload));
    assert_eq!((envelope.schema_version, &envelope.signature), (3, &hex(signature)));
    let opened = Keyring::new(vec![(key.id().to_owned(), key.public_key())]).open(&envelope).unwrap();
    assert_eq!(encode(&opened), hex(payload));
    assert_eq!(opened.gateway.map(|g| (g.base_domain.to_string(), g.public_port)), Some(("b".to_owned(), 443)));
    let unfolded: String = page.split_whitespace().collect();
    assert!(unfolded.contains(payload) && unfolded.contains(signature));
}

fn hex(s: &str) -> Vec<u8> {
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
}
