//! The way from one payload to the next: which elements stay, which go, which come. It knows elements as bytes, so what it makes is equal to the
//! last byte; what they mean is read again only of those that come.

use std::collections::HashMap;

use crate::{
    DecodeError, Gateway, Snapshot,
    decode::Elements,
    encode::encode_elements,
    limits,
    walk::{Value, Walk},
    wire::field,
};

/// Field numbers of a change (docs/snapshot.md). Steps are carried out in the order that they stand in.
pub(crate) mod change {
    pub(crate) const BASE_DIGEST: u32 = 1;
    pub(crate) const SIGNATURE: u32 = 2;
    pub(crate) const KEEP: u32 = 3;
    pub(crate) const DROP: u32 = 4;
    pub(crate) const PUT: u32 = 5;
}

/// A run of elements of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    step: u32,
    field: u32,
    count: usize,
}

/// Appends the steps that turn `base` into `result`; both are payloads.
pub(crate) fn write_steps(out: &mut Vec<u8>, base: &[u8], result: &[u8]) -> Result<(), DecodeError> {
    let mut places = HashMap::new();
    let mut count = 0;
    for element in raw(base) {
        places.entry(element?.1).or_insert(count);
        count += 1;
    }
    // What stays is in the same order in both, because both are sorted by what their elements say.
    let (mut at, mut kept) = (0, 0);
    for element in raw(result) {
        let element = element?.1;
        match places.get(element).filter(|place| **place >= at) {
            Some(&place) => {
                if place > at {
                    number(out, change::KEEP, std::mem::take(&mut kept));
                    number(out, change::DROP, place - at);
                }
                (at, kept) = (place + 1, kept + 1);
            }
            None => {
                number(out, change::KEEP, std::mem::take(&mut kept));
                bytes(out, change::PUT, element);
            }
        }
    }
    number(out, change::KEEP, kept);
    number(out, change::DROP, count - at);
    Ok(())
}

/// A change that has been carried out on bytes, not yet on what they mean.
pub(crate) struct Patched {
    /// The payload that comes out.
    pub(crate) payload: Vec<u8>,
    put: Vec<u8>,
    runs: Vec<Run>,
}

/// Carries steps out on the payload `base`; other fields of the change are passed over.
pub(crate) fn patch(base: &[u8], steps: &[u8]) -> Result<Patched, DecodeError> {
    let mut patched = Patched { payload: Vec::with_capacity(base.len() + steps.len()), put: Vec::new(), runs: Vec::new() };
    let mut from = raw(base);
    for step in Walk::new(steps) {
        match step.map_err(malformed)? {
            (step @ (change::KEEP | change::DROP), Value::Number(n)) => {
                for _ in 0..n {
                    let (field, element) = from.next().ok_or_else(|| malformed("a change goes beyond the end of its base"))??;
                    if step == change::KEEP {
                        patched.payload.extend_from_slice(element);
                    }
                    patched.run(step, field);
                }
            }
            (change::PUT, Value::Bytes(element)) => {
                let (mut one, field) = (raw(element), None);
                let field = one.next().transpose()?.map_or(field, |(number, _)| Some(number));
                let Some(field) = field.filter(|_| one.next().is_none()) else { return Err(malformed("a change puts something else than one element")) };
                patched.payload.extend_from_slice(element);
                patched.put.extend_from_slice(element);
                patched.run(change::PUT, field);
            }
            (change::BASE_DIGEST | change::SIGNATURE, Value::Bytes(_)) => {}
            _ => return Err(malformed("a change has a step that is not known")),
        }
        if patched.payload.len() > limits::PAYLOAD_MAX_BYTES {
            return Err(DecodeError::TooLarge { size: patched.payload.len(), max: limits::PAYLOAD_MAX_BYTES });
        }
    }
    if from.next().is_some() {
        return Err(malformed("a change ends before its base does"));
    }
    Ok(patched)
}

impl Patched {
    fn run(&mut self, step: u32, field: u32) {
        match self.runs.last_mut() {
            Some(last) if (last.step, last.field) == (step, field) => last.count += 1,
            _ => self.runs.push(Run { step, field, count: 1 }),
        }
    }

    /// What [`crate::decode()`] says of the new payload, without reading again what stays. `base` is what the former payload means.
    pub(crate) fn read(&self, base: &Snapshot) -> Result<Snapshot, DecodeError> {
        let mut put = Elements::read(&self.put)?;
        let there = |r: &&Run| r.step != change::DROP;
        let in_order = self.runs.iter().filter(there).is_sorted_by_key(|r| r.field);
        let single = |number| self.runs.iter().filter(there).filter(|r| r.field == number).map(|r| r.count).sum::<usize>() <= 1;
        if encode_elements(&put) != self.put || !in_order || ![field::REVISION, field::MESH, field::TRUST_DOMAIN, field::GATEWAY].into_iter().all(single) {
            return Err(DecodeError::NotCanonical);
        }
        let kept = |number| self.runs.contains(&Run { step: change::KEEP, field: number, count: 1 });
        let settings = |g: &Gateway| Gateway { routes: vec![], providers: vec![], bookmarks: vec![], ..g.clone() };
        let former = base.gateway.as_ref();
        let all = Elements {
            revision: if kept(field::REVISION) { base.revision.0 } else { put.revision },
            mesh: if kept(field::MESH) { base.mesh.clone() } else { std::mem::take(&mut put.mesh) },
            trust_domain: if kept(field::TRUST_DOMAIN) { Some(base.trust_domain.clone()) } else { put.trust_domain.take() },
            services: self.list(field::SERVICES, &base.services, put.services),
            endpoints: self.list(field::ENDPOINTS, &base.endpoints, put.endpoints),
            grants: self.list(field::GRANTS, &base.grants, put.grants),
            pending: self.list(field::PENDING, &base.pending, put.pending),
            teams: self.list(field::TEAMS, &base.teams, put.teams),
            gateway: if kept(field::GATEWAY) { former.map(settings) } else { put.gateway.take() },
            routes: self.list(field::ROUTES, former.map_or(&[][..], |g| &g.routes), put.routes),
            providers: self.list(field::PROVIDERS, former.map_or(&[][..], |g| &g.providers), put.providers),
            bookmarks: self.list(field::BOOKMARKS, former.map_or(&[][..], |g| &g.bookmarks), put.bookmarks),
        };
        all.bounded()?;
        let snapshot = all.into_snapshot()?;
        if snapshot.is_sorted() { Ok(snapshot) } else { Err(DecodeError::NotCanonical) }
    }

    fn list<T: Clone>(&self, field: u32, base: &[T], put: Vec<T>) -> Vec<T> {
        let (mut all, mut at, mut put) = (Vec::with_capacity(base.len() + put.len()), 0, put.into_iter());
        for run in self.runs.iter().filter(|r| r.field == field) {
            match run.step {
                change::KEEP => all.extend_from_slice(base.get(at..at + run.count).unwrap_or_default()),
                change::PUT => all.extend(put.by_ref().take(run.count)),
                _ => {}
            }
            at += if run.step == change::PUT { 0 } else { run.count };
        }
        all
    }
}

/// The outermost fields of a payload: number, and all of their bytes.
fn raw(payload: &[u8]) -> impl Iterator<Item = Result<(u32, &[u8]), DecodeError>> {
    let mut walk = Walk::new(payload);
    std::iter::from_fn(move || {
        let from = payload.len() - walk.left();
        let item = walk.next()?;
        Some(item.map(|(number, _)| (number, &payload[from..payload.len() - walk.left()])).map_err(malformed))
    })
}

fn number(out: &mut Vec<u8>, field: u32, n: usize) {
    if n > 0 {
        varint(out, u64::from(field) << 3);
        varint(out, n as u64);
    }
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn malformed(why: &str) -> DecodeError {
    DecodeError::Malformed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{decode, encode};

    fn base(services: u32) -> Snapshot {
        let team = |i: u32| crate::Team { name: format!("t{i}").parse().unwrap(), lead: String::new(), contact: String::new(), groups: vec![] };
        Snapshot {
            revision: weft_types::Revision(1),
            mesh: "corp".into(),
            trust_domain: "a".parse().unwrap(),
            services: vec![],
            endpoints: vec![],
            grants: vec![],
            pending: vec![],
            teams: (10..10 + services).map(team).collect(),
            gateway: None,
        }
    }

    proptest! {
        /// Whatever a signed change says: an error, or a snapshot that its payload says too.
        #[test]
        fn what_steps_make_is_what_their_payload_says(steps in prop::collection::vec((3_u32..6, 0_usize..4, 0_u32..20), 0..12), junk in prop::collection::vec(any::<u8>(), 0..8)) {
            let (old, mut bytes_of) = (base(6), Vec::new());
            for (step, count, team) in steps {
                match step {
                    change::PUT => bytes(&mut bytes_of, step, &[&[0x42, 5, 0x0a, 3, b't'][..], format!("{}", team + 10).as_bytes()].concat()),
                    _ => number(&mut bytes_of, step, count),
                }
            }
            bytes_of.extend(junk);
            let payload = encode(&old);
            if let Ok(patched) = patch(&payload, &bytes_of) {
                prop_assert_eq!(patched.read(&old).ok(), decode(&patched.payload).ok());
            }
        }
    }
}
