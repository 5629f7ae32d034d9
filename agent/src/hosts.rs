//! The hosts file by which workloads find each other: mesh names to virtual IPs. Written in place, so that a bind mount of it follows.

use std::{fmt::Write as _, io, path::Path};

use weft_snapshot::Snapshot;

use crate::files;

/// Before there is a snapshot.
pub const EMPTY: &str = "# Written by weft-agent: there is no snapshot yet.\n127.0.0.1 localhost\n::1 localhost\n";

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

#[cfg(test)]
mod tests {
    use weft_types::Revision;

    use super::*;

    #[test]
    fn services_with_a_virtual_ip_are_listed() {
        let service = |name: &str, vip| weft_snapshot::Service {
            id: weft_types::ServiceId(1),
            name: name.parse().unwrap(),
            kind: weft_snapshot::ServiceKind::Application,
            title: String::new(),
            owner: "team".parse().unwrap(),
            capability: String::new(),
            lifecycle: String::new(),
            identity: "spiffe://corp.example/ns/shop/sa/x".parse().unwrap(),
            vip,
            consumers: Vec::new(),
            ports: Vec::new(),
            externals: Vec::new(),
            declared_at: String::new(),
        };
        let snapshot = Snapshot {
            revision: Revision(3),
            mesh: "corp".into(),
            trust_domain: "corp.example".parse().unwrap(),
            services: vec![service("shop/orders", Some([100, 64, 0, 1].into())), service("shop/cards", None)],
            endpoints: Vec::new(),
            grants: Vec::new(),
            pending: Vec::new(),
            teams: Vec::new(),
            gateway: None,
        };
        let text = render(&snapshot);
        assert!(text.contains("\n100.64.0.1 orders.shop.weft.internal\n") && text.contains("127.0.0.1 localhost"), "{text}");
        assert!(!text.contains("cards"), "{text}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        write(&file, &snapshot).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
