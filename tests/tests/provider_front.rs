//! The local identity provider in the mesh: the bridge is no workload, its front is one, and only the gateway reaches it.

use std::time::Duration;

use anyhow::{Result, bail};
use weft_lab::{Proc, bin, eventually};
use weft_tests::{Mesh, MeshOptions, SETTLE, SHOP};

const SOON: Duration = Duration::from_secs(20);
const ISSUER: &str = "https://id.corp.example";

fn exposed() -> String {
    SHOP.replacen("trustDomain: corp.example", "trustDomain: corp.example, baseDomain: corp.example", 1).replacen(
        "metadata: { name: server, namespace: shop }\nspec:\n",
        "metadata: { name: server, namespace: shop }\nspec:\n  expose: [ { port: web, host: shop, access: { groups: [ sales ] } } ]\n",
        1,
    )
}

/// The front of the mesh's bridge, in a pod of its own.
fn front(mesh: &Mesh) -> Result<Proc> {
    let pod = mesh.pod("front").place();
    let config = pod.dir().join("front.toml");
    let sockets = mesh.bridge.machine().place().dir().display();
    std::fs::write(&config, format!("[front]\nprovider = \"{sockets}/provider.sock\"\n"))?;
    let mut front = pod.spawn("front", &[bin("weft-iam-bridge")?.display().to_string(), "front".into(), "--config".into(), config.display().to_string()])?;
    front.wait_for_log("front 0.0.0.0:15013", SETTLE)?;
    Ok(front)
}

#[test]
fn the_gateway_reaches_the_provider_through_the_front_and_nobody_else_does() -> Result<()> {
    let options = MeshOptions {
        catalog: exposed(),
        // On two nodes, so that the agents carry it; the client beside the gateway differs in the grant only.
        workloads: vec![("a", "gw", "weft/gateway"), ("a", "client", "shop/client"), ("b", "front", "weft/iam-bridge")],
        may_run: vec![("a", "shop/*"), ("a", "weft/gateway"), ("b", "weft/iam-bridge")],
        issuer: Some(ISSUER),
        ..MeshOptions::default()
    };
    let mesh = Mesh::start("front", &options)?;
    let _front = front(&mesh)?;
    let vip = mesh.vip("weft/iam-bridge")?.to_string();
    let ask = |pod: &str| mesh.pod(pod).place().http_get(&format!("{vip}:80"), "/.well-known/openid-configuration");
    let said = eventually(SOON, "the provider's description", || match ask("gw") {
        Ok(said) if said.contains(&format!("\"issuer\":\"{ISSUER}\"")) => Ok(said),
        other => bail!("{other:?}\n{}", mesh.logs()),
    })?;
    assert!(said.contains("\"backchannel_logout_supported\":true"), "{said}");
    let refused = ask("client");
    assert!(refused.is_err(), "{refused:?}");
    Ok(())
}
