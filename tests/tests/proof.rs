//! Enrolment is a fixed order and a proof: what was open before ends unless it is granted, and each workload is shown to be captured and closed.

use std::time::Duration;

use anyhow::{Result, bail};
use weft_lab::eventually;
use weft_tests::{Held, Mesh, MeshOptions, SHOP};

const PORT: u16 = 8080;
const SOON: Duration = Duration::from_secs(5);

fn goes_on(held: &Held, what: &str, mesh: &Mesh) -> Result<()> {
    let before = held.beats();
    Ok(eventually(SOON, &format!("{what} goes on"), || {
        if held.beats() > before + 1 && held.ends().is_empty() { Ok(()) } else { bail!("{}\n{}", held.log(), mesh.logs()) }
    })?)
}

#[test]
fn what_was_open_before_enrolment_ends_unless_it_is_granted() -> Result<()> {
    let mut mesh = Mesh::start("sweep", &MeshOptions { agents_wait: true, ..MeshOptions::default() })?;
    let target = mesh.outsider(0, "target")?;
    let stray = mesh.outsider(0, "stray")?;
    let interface = format!(
        "---\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: outside, namespace: shop }}\nspec:\n  type: interface\n  owner: shop\n  external: [ {{ cidr: {}/32, port: 9000 }} ]\n",
        target.v4()
    );
    let catalog = SHOP.replace("{ service: far, port: web } ]", "{ service: far, port: web }, { service: outside } ]") + &interface;
    std::fs::write(mesh.catalog.join("mesh.yaml"), catalog)?;
    let (out, to_out) = (Held::serve(target.place(), PORT)?, target.v4().to_string());
    let _granted_out = Held::serve(target.place(), 9000)?;
    let (server, client) = (mesh.pod("server").clone(), mesh.pod("client").clone());
    let listening = Held::serve(server.place(), PORT)?;

    // All of these work while nothing is enrolled.
    let ungranted = Held::beating(client.place(), &to_out, PORT)?;
    let granted = Held::beating(client.place(), &to_out, 9000)?;
    let plaintext = Held::beating(stray.place(), &server.v4().to_string(), PORT)?;
    let mapped = Held::beating(client.place(), &format!("::ffff:{}", server.v4()), PORT)?;
    let inside = Held::beating(server.place(), "127.0.0.1", PORT)?;
    let unmanaged = Held::beating(stray.place(), &to_out, PORT)?;

    for agent in &mut mesh.agents {
        agent.run()?;
    }
    mesh.settled()?;
    for (held, what) in [(&ungranted, "an ungranted connection"), (&mapped, "a plaintext connection between two that are enrolled now")] {
        if held.wait_for_ends(1, SOON).is_err() {
            bail!("{what} lives on after enrolment: {}\n{}", held.log(), mesh.logs());
        }
    }
    // The accepted sides: of the stray's connection, and of the client's.
    listening.wait_for_ends(2, SOON)?;
    assert_eq!(listening.ends().len(), 2, "{}", listening.log());
    goes_on(&granted, "the connection to a declared interface", &mesh)?;
    goes_on(&inside, "the connection within the namespace", &mesh)?;
    goes_on(&unmanaged, "a connection of somebody who is not enrolled", &mesh)?;
    let before = plaintext.beats();
    std::thread::sleep(Duration::from_secs(1));
    assert!(plaintext.beats() <= before + 1, "the plaintext connection still carries data");
    drop(out);
    // The listener itself was kept: what is granted and attested comes in.
    let attested = Held::dial(client.place(), &mesh.vip("shop/server")?.to_string(), 80, 1)?;
    assert!(attested.ends().is_empty());
    // And it is a connection like any other from now on: it ends with its grant.
    mesh.recatalog(SHOP)?;
    granted.wait_for_ends(1, SOON)?;
    Ok(())
}
