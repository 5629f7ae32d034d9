//! What goes over the wire between two nodes, looked at with tcpdump and openssl, which know nothing of the mesh.

use std::time::Duration;

use anyhow::{Context as _, Result};
use weft_lab::{Capture, Inventory, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, Server, probe};

const PORT: u16 = 8080;
const TUNNEL: u16 = 15008;
/// `key_share` of a ServerHello that chose X25519MLKEM768 (codepoint 0x11ec), as extension bytes: type, length, group.
const HYBRID_GROUP: [u8; 2] = [0x11, 0xec];

#[test]
fn between_nodes_there_is_tls_with_workload_identities_and_nothing_else() -> Result<()> {
    let mesh = Mesh::start("wire", &MeshOptions::default())?;
    let (before, _held) = (mesh.lab.before().clone(), mesh.lab.hold()?);
    let (client, far) = (mesh.pod("client"), mesh.pod("far"));
    let server = Server::start(far.place(), "far", PORT)?;
    let capture = Capture::start(mesh.lab.wire(), "wire", "wire", "")?;

    // The granted connection arrives, with the true caller's address at the server and the dialled address at the client.
    let vip = mesh.vip("shop/far")?.to_string();
    let seen = probe(client.place(), "tcp", &vip, 80, "marker-inside")?;
    assert!(seen.ok, "{seen:?}\n{}", mesh.logs());
    assert_eq!(seen.data, format!("far ::ffff:{} marker-inside", client.v4()));
    assert_eq!((seen.peer, seen.own), (vip, client.v4().to_string()));
    // An endpoint's own IPv6 address is judged and carried alike.
    let seen = probe(client.place(), "tcp", &far.v6().to_string(), PORT, "marker-inside")?;
    assert!(seen.ok, "{seen:?}\n{}", mesh.logs());

    // Control: the same search finds the marker when nobody is enrolled.
    let (a, b) = (mesh.outsider(0, "plain-client")?, mesh.outsider(1, "plain-server")?);
    let _plain = Server::start(b.place(), "plain", PORT)?;
    let control = probe(a.place(), "tcp", &b.v4().to_string(), PORT, "marker-outside")?;
    assert!(control.ok, "{control:?}");

    capture.wait_for("the control's marker", |p| contains(&p.payload, b"marker-outside"))?;
    let captured = capture.stop()?;
    assert!(captured.contains(b"marker-outside"));
    assert!(!captured.contains(b"marker-inside"), "plaintext on the wire: {}", captured.file.display());

    let from_far: Vec<u8> = captured
        .streams()
        .into_iter()
        .filter(|((source, _), _)| source.ip() == std::net::IpAddr::from(far.v4()) && source.port() == TUNNEL)
        .flat_map(|(_, bytes)| bytes)
        .collect();
    assert_eq!(from_far.first(), Some(&0x16), "the tunnel's answer starts with no TLS handshake record");
    let chosen = key_share_group(&from_far).context("no key_share in the ServerHello")?;
    assert_eq!(chosen, HYBRID_GROUP, "the negotiated group is not X25519MLKEM768");

    // The peer's certificate, as a stranger's TLS client gets it.
    let shown = certificate(&mesh, &format!("{}:{TUNNEL}", far.v4()), "far.shop.weft.internal")?;
    assert!(shown.contains("URI:spiffe://corp.example/ns/shop/sa/far"), "{shown}");
    assert!(server.got("marker-inside"));

    drop((server, _plain));
    drop(mesh);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

#[test]
fn plaintext_that_goes_around_the_mesh_is_refused_on_every_port() -> Result<()> {
    let mesh = Mesh::start("around", &MeshOptions::default())?;
    let far = mesh.pod("far");
    let server = Server::start(far.place(), "far", PORT)?;
    let outsiders = [mesh.outsider(0, "other-node")?, mesh.outsider(1, "same-node")?];
    let open = mesh.outsider(1, "open")?;
    let _open = Server::start(open.place(), "open", PORT)?;
    for outsider in &outsiders {
        for (address, name) in [(far.v4().to_string(), "v4"), (far.v6().to_string(), "v6")] {
            for port in [PORT, 9, 40_000] {
                let denied = probe(outsider.place(), "tcp", &address, port, "around")?;
                assert_eq!((denied.ok, denied.errno), (false, 111), "{name} port {port}: {denied:?}");
            }
        }
        let control = probe(outsider.place(), "tcp", &open.v4().to_string(), PORT, "around")?;
        assert!(control.ok, "{control:?}");
    }
    assert!(!server.got("around"));
    // The refusal is on record.
    eventually(Duration::from_secs(5), "a flow record of the refusal", || -> Result<()> {
        let flows = mesh.flows(1)?;
        flows.iter().find(|f| f.reason == "unattested" && f.verdict == "deny").map(drop).context("none")
    })?;
    Ok(())
}

#[test]
fn no_workload_dials_the_tunnel_port_and_no_node_is_taken_for_a_workload() -> Result<()> {
    let mesh = Mesh::start("port", &MeshOptions::default())?;
    let (client, far) = (mesh.pod("client"), mesh.pod("far"));
    let _server = Server::start(far.place(), "far", PORT)?;
    for address in [far.v4().to_string(), far.v6().to_string(), format!("::ffff:{}", far.v4())] {
        let denied = probe(client.place(), "tcp", &address, TUNNEL, "x")?;
        assert_eq!((denied.ok, denied.errno), (false, 1), "{address}: {denied:?}");
        let control = probe(client.place(), "tcp", &address, PORT, "x")?;
        assert!(control.ok, "{address}: {control:?}\n{}", mesh.logs());
    }
    // Two agents on one kernel share no table.
    let (a, b) = (mesh.pinned(0)?.ids()?, mesh.pinned(1)?.ids()?);
    for (table, id) in &a {
        assert_ne!(Some(id), b.get(table), "{table} is shared");
    }
    // No handshake leaves a record behind.
    eventually(SETTLE, "no attestation left", || match (mesh.pinned(0)?.attestations()?, mesh.pinned(1)?.attestations()?) {
        (0, 0) => Ok(()),
        left => Err(anyhow::anyhow!("{left:?} left")),
    })?;
    Ok(())
}

fn certificate(mesh: &Mesh, address: &str, name: &str) -> Result<String> {
    let script =
        format!("openssl s_client -connect {address} -servername {name} -alpn weft/1 -tls1_3 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName");
    Ok(mesh.nodes[1].place().check(&["sh", "-c", &script], Duration::from_secs(15))?)
}

/// Group of the `key_share` extension (type 51) in a ServerHello: type, length, group.
fn key_share_group(stream: &[u8]) -> Option<[u8; 2]> {
    // Record header 5, handshake header 4, version 2, random 32, session id, suite 2, compression 1, extensions length 2.
    let session = usize::from(*stream.get(43)?);
    let mut at = 44 + session + 2 + 1 + 2;
    loop {
        let header = stream.get(at..at + 4)?;
        let (kind, length) = (u16::from_be_bytes([header[0], header[1]]), usize::from(u16::from_be_bytes([header[2], header[3]])));
        if kind == 51 {
            return stream.get(at + 4..at + 6)?.try_into().ok();
        }
        at += 4 + length;
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}
