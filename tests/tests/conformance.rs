//! Sockets behave as without the mesh: the same cases over three paths, and every difference on `docs/conformance-sockets.md`.

use anyhow::{Context as _, Result};
use weft_tests::conformance::{Difference, Family, Paths, Way, between, documented, unexplained};

/// Every family.
const FAMILIES: &[Family] = &[Family::V4, Family::V6, Family::Mapped];
const V4: &[Family] = &[Family::V4];

const ENDS: &[(&str, &[Family])] = &[
    ("names", FAMILIES),
    ("half-close by client", FAMILIES),
    ("half-close by server", V4),
    ("close by server", FAMILIES),
    ("reset by server", FAMILIES),
    ("reset by client", V4),
    ("close with unread data", V4),
    ("data, then reset", V4),
    ("reset after half-close", V4),
    ("reset by server after half-close", V4),
    ("reset while the reader stalls", V4),
    ("nothing said", V4),
    ("the client's process is killed", V4),
];

const STARTS: &[(&str, &[Family])] = &[
    ("server speaks first", V4),
    ("client speaks before accept", V4),
    ("refused", FAMILIES),
    ("backlog full", V4),
    ("non-blocking connect", FAMILIES),
    ("non-blocking connect, refused", V4),
    ("bound to a port", FAMILIES),
    ("bound to an address", FAMILIES),
    ("bound to a foreign address", V4),
    ("bound to a device", &[Family::V4, Family::V6]),
    ("listener opened again", V4),
    ("fast open", &[Family::V4, Family::V6]),
    ("multipath", &[Family::V4, Family::V6]),
    ("connected again", V4),
];

const CARRIES: &[(&str, &[Family])] = &[
    ("small writes", V4),
    ("both ways at once", FAMILIES),
    ("a reader that stalls", V4),
    ("urgent data", V4),
    ("urgent data, inline", V4),
    ("receive timeout", V4),
    ("send timeout", V4),
    ("sendfile and splice", V4),
    ("peek and wait for all", V4),
    ("idle with keepalive", V4),
];

#[test]
fn connections_end_as_without_the_mesh() -> Result<()> {
    compare("ends", ENDS)
}

#[test]
fn connections_begin_as_without_the_mesh() -> Result<()> {
    compare("starts", STARTS)
}

#[test]
fn connections_carry_as_without_the_mesh() -> Result<()> {
    compare("carries", CARRIES)
}

fn compare(tag: &str, cases: &[(&str, &[Family])]) -> Result<()> {
    let paths = Paths::new(tag)?;
    let (mut seen, mut ran): (Vec<Difference>, Vec<String>) = Default::default();
    let only = std::env::var("WEFT_CASE").ok();
    for (case, families) in cases.iter().filter(|c| only.as_deref().is_none_or(|only| c.0 == only)) {
        for family in *families {
            let name = if *family == Family::V4 { (*case).to_owned() } else { format!("{case}, {family}") };
            let plain = paths.run(case, Way::NoMesh, *family)?;
            println!("{name}, {}: {plain:?}", Way::NoMesh);
            for way in Way::MESHED {
                let facts = paths.run(case, way, *family).with_context(|| paths.mesh.logs())?;
                println!("{name}, {way}: {facts:?}");
                seen.extend(between(&name, way, &plain, &facts));
            }
            ran.push(name);
        }
    }
    let unexplained = unexplained(&seen, &documented()?, &ran);
    assert!(unexplained.is_empty(), "{}\n{}", unexplained.join("\n"), paths.mesh.logs());
    Ok(())
}
