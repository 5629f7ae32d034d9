//! The kernel holds exactly what policy says, one revision at a time, and follows the catalog without a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Result, bail};
use weft_lab::eventually;
use weft_policy::{Destination, Index, Query, tables};
use weft_tests::{Mesh, MeshOptions, SETTLE, SHOP, Server, probe};
use weft_types::{Protocol, Verdict};

const PORT: u16 = 8080;

#[test]
fn kernel_tables_equal_policy_over_all_pairs() -> Result<()> {
    let mesh = Mesh::start("pairs", &MeshOptions::default())?;
    for node in 0..2 {
        let snapshot = Arc::new(mesh.snapshot(node)?);
        let kernel = mesh.pinned(node)?.dump()?;
        let mut wanted = tables(&snapshot);
        wanted.grants.sort_unstable();
        let mut held = kernel.grants.clone();
        held.sort_unstable();
        assert_eq!(held, wanted.grants, "grants of node {node}");

        let index = Index::new(Arc::clone(&snapshot));
        let granted: BTreeSet<_> = kernel.grants.iter().map(|g| (g.0, g.1, g.2)).collect();
        let mut pairs = 0;
        for source in &snapshot.services {
            for destination in &snapshot.services {
                for port in destination.ports.iter().map(|p| p.port).chain([81]) {
                    let query = Query { source: source.id, destination: Destination::Service { id: destination.id, port }, protocol: Protocol::Tcp };
                    let decided = index.decide(&query).verdict == Verdict::Allow;
                    let declared = destination.ports.iter().any(|p| p.port == port);
                    let in_kernel = granted.contains(&(source.id, destination.id, port)) || (source.id == destination.id && declared);
                    assert_eq!(decided, in_kernel, "{} → {}:{port}", source.name, destination.name);
                    pairs += 1;
                }
            }
        }
        assert!(pairs >= 32 && granted.len() == 2, "{pairs} pairs, {granted:?}");
    }
    Ok(())
}

#[test]
fn a_catalog_change_takes_effect_without_a_restart_and_a_broken_one_does_not() -> Result<()> {
    let mesh = Mesh::start("change", &MeshOptions::default())?;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let attempt = |who: &str| probe(mesh.pod(who).place(), "tcp", &mesh.vip("shop/server")?.to_string(), 80, who);
    assert!(!attempt("stranger")?.ok);
    mesh.recatalog(&swapped())?;
    assert!(attempt("stranger")?.ok);
    assert!(!attempt("client")?.ok);
    // A broken change leaves the good revision in force.
    let good = mesh.status(0)?.revision;
    std::fs::write(mesh.catalog.join("mesh.yaml"), SHOP.replace("owner: shop", "ownr: shop"))?;
    eventually(SETTLE, "the bridge complains", || -> Result<()> {
        if mesh.bridge.log().contains("ownr") { Ok(()) } else { bail!("{}", mesh.bridge.log()) }
    })?;
    assert_eq!(mesh.status(0)?.revision, good);
    assert!(attempt("stranger")?.ok);
    mesh.recatalog(SHOP)?;
    assert!(attempt("client")?.ok);
    assert!(!attempt("stranger")?.ok);
    Ok(())
}

#[test]
fn each_connect_under_flipping_revisions_matches_one_of_them() -> Result<()> {
    flip(&Mesh::start("flip", &MeshOptions::default())?)
}

#[test]
fn nor_does_any_of_a_big_mesh_which_gets_changes_only() -> Result<()> {
    let mesh = Mesh::start("flipbig", &MeshOptions::default())?;
    std::fs::write(mesh.catalog.join("big.yaml"), (0..BIG).map(|i| big(i, 40)).collect::<Vec<_>>().join("---\n"))?;
    eventually(SETTLE, "the big catalog in the kernel", || -> Result<()> {
        let grants = mesh.pinned(0)?.dump()?.grants.len();
        if grants > BIG * 40 { Ok(()) } else { bail!("{grants} grants\n{}", mesh.bridge.log()) }
    })?;
    flip(&mesh)?;
    // No two of these are alike, so a generation that misses one of the two changes since it was in force holds something else.
    for i in 0..6 {
        std::fs::write(mesh.catalog.join(format!("more{i}.yaml")), big(BIG + i, 3 + i))?;
        if i == 3 {
            std::fs::remove_file(mesh.catalog.join("more0.yaml"))?;
        }
        let services = BIG + SHOP.matches("MeshService").count() + i + usize::from(i < 3);
        eventually(SETTLE, "the next revision", || -> Result<()> {
            let (snapshot, status) = (mesh.snapshot(0)?, mesh.status(0)?);
            if snapshot.services.len() != services || status.kernel_revision != snapshot.revision.0 {
                bail!("{} of {services} services, {status:?}", snapshot.services.len());
            }
            let (mut held, mut wanted) = (mesh.pinned(0)?.dump()?, tables(&snapshot));
            for t in [&mut held, &mut wanted] {
                t.destinations.sort_unstable();
                t.ports.sort_unstable();
                t.grants.sort_unstable();
            }
            assert!(held == wanted, "the kernel holds {} grants, revision {} has {}", held.grants.len(), snapshot.revision, wanted.grants.len());
            Ok(())
        })?;
    }
    let log = mesh.agents[0].log();
    let whole = log.lines().filter(|l| l.contains("revision is in force") && l.contains(" base=0")).count();
    assert!(log.lines().filter(|l| l.contains("revision is in force")).count() > whole + 12, "changes came whole:\n{log}");
    Ok(())
}

const BIG: usize = 300;

/// A service that may reach so many others.
fn big(i: usize, dependencies: usize) -> String {
    let entries: Vec<_> = (1..=dependencies).map(|j| format!("    - {{ service: s{}, port: web }}\n", (i + j) % BIG)).collect();
    format!(
        "apiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: s{i}, namespace: big }}\nspec:\n  type: application\n  owner: shop\n  \
         ports: [ {{ name: web, port: 80, targetPort: 8080 }} ]\n  dependsOn:\n{}",
        entries.concat()
    )
}

/// Moves a grant there and back while both that it is for dial without a pause.
fn flip(mesh: &Mesh) -> Result<()> {
    const FLIPS: usize = 12;
    let _server = Server::start(mesh.pod("server").place(), "near", PORT)?;
    let to = mesh.vip("shop/server")?.to_string();
    let mut kinds = BTreeMap::from([(mesh.status(0)?.kernel_revision, "client")]);
    let stop = Arc::new(AtomicBool::new(false));
    let dialers: Vec<_> = ["client", "stranger"]
        .into_iter()
        .map(|who| {
            let (pod, to, stop) = (mesh.pod(who).clone(), to.clone(), Arc::clone(&stop));
            thread::spawn(move || -> Result<usize> {
                let mut attempts = 0;
                while !stop.load(Ordering::Relaxed) {
                    pod.place().output(&["python3", "-c", BURST, &to], std::time::Duration::from_secs(30))?;
                    attempts += 1;
                }
                Ok(attempts)
            })
        })
        .collect();
    for flip in 0..FLIPS {
        let (text, kind) = if flip % 2 == 0 { (swapped(), "stranger") } else { (SHOP.to_owned(), "client") };
        kinds.insert(mesh.recatalog(&text)?, kind);
    }
    stop.store(true, Ordering::Relaxed);
    for d in dialers {
        assert!(d.join().expect("a dialler panicked")? > 0);
    }
    let mut seen = BTreeMap::new();
    for f in mesh.flows(0)?.iter().filter(|f| f.point == "kernel-out" && f.port == 80) {
        let Some(kind) = kinds.get(&f.revision) else { continue };
        let expected = if f.source == format!("shop/{kind}") { "allow" } else { "deny" };
        assert_eq!(f.verdict, expected, "under revision {} ({kind} is granted): {f:?}", f.revision);
        *seen.entry((f.revision, f.verdict.clone())).or_insert(0) += 1;
    }
    let revisions: BTreeSet<_> = seen.keys().map(|k| k.0).collect();
    assert!(revisions.len() > FLIPS / 2, "too few revisions under load: {seen:?}");
    Ok(())
}

/// The grant to `server` moved from client to stranger.
fn swapped() -> String {
    const DEPENDS: &str = "  dependsOn: [ { service: server, port: web }, { service: far, port: web } ]\n";
    let without = SHOP.replace(DEPENDS, "");
    let at = without.find("{ name: stranger").expect("the stranger's document");
    let (head, tail) = without.split_at(at);
    head.to_owned() + &tail.replacen("  owner: shop\n", &format!("  owner: shop\n{DEPENDS}"), 1)
}

/// Connects in a tight loop; what came of it is on record in the agent.
const BURST: &str = r"
import socket, sys
for _ in range(50):
    s = socket.socket()
    s.settimeout(2)
    try:
        s.connect((sys.argv[1], 80))
    except OSError:
        pass
    s.close()
";
