//! The hosts file by which workloads find each other: mesh names to virtual IPs. Written in place, so that a bind mount of it follows.

use std::{fmt::Write as _, io, path::Path};

use weft_snapshot::Snapshot;

use crate::files;

pub fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let text = render(snapshot);
    // A reader may see half of a write: what is equal is left alone.
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    files::write_in_place(path, text.as_bytes(), 0o644)
}

fn render(snapshot: &Snapshot) -> String {
    let mut text = format!("# Written by weft-agent from revision {} of mesh {}.\n127.0.0.1 localhost\n::1 localhost\n", snapshot.revision, snapshot.mesh);
    for service in &snapshot.services {
        if let Some(vip) = service.vip {
            let _ = writeln!(text, "{vip} {}", service.name.mesh_host());
        }
    }
    text
}
