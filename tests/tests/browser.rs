//! People at the door, in headless Chromium: `tests/browser` has the scenes, this sets the stage. `cargo xtask test browser` installs what it needs; names of
//! scenes in `WEFT_SCENES` choose among them. Pictures are in `browser/` of the target directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::time::Duration;
use weft_lab::bin;
use weft_tests::door::{App, DOMAIN, Door, DoorOptions, PORT};

/// All scenes together take half a minute, and several where everything is busy.
const DEADLINE: Duration = Duration::from_secs(600);
const CHROMIUM: &str = "/usr/bin/chromium";

const CATALOG: &str = r#"apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: orders, namespace: shop }
spec:
  type: application
  title: Orders
  owner: shop
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose: [ { port: web, host: orders, access: { groups: [ sales ] }, portal: { icon: box, category: Shop } } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: books, namespace: shop }
spec:
  type: application
  title: Ledger
  owner: shop
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose: [ { port: web, host: books, access: { groups: [ finance ] }, portal: { icon: chart, category: Office } } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: wiki, namespace: shop }
spec:
  type: application
  title: Wiki
  owner: shop
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose: [ { port: web, host: wiki, access: { authenticated: true }, portal: { icon: book, category: Team } } ]
---
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: returns, namespace: shop }
spec:
  type: application
  title: Returns
  owner: shop
  lifecycle: experimental
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose: [ { port: web, host: orders, pathPrefix: /returns, access: { groups: [ sales ] }, portal: { icon: truck, category: Shop } } ]
---
# Declared, and nowhere to be found.
apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: gone, namespace: shop }
spec:
  type: application
  title: Archive
  owner: shop
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose: [ { port: web, host: gone, access: { authenticated: true }, portal: { hidden: true } } ]
"#;

const USERS: [(&str, &str, &str); 4] = [
    ("alice", "a password of alice", "sales"),
    ("bob", "a password of bob", "finance"),
    ("carol", "a password of carol", ""),
    ("dora", "a password of dora", "sales"),
];

#[test]
fn people_in_a_browser() -> Result<()> {
    let node = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node");
    let program = node.join("node").display().to_string();
    for (path, what) in [(Path::new(CHROMIUM), "chromium"), (Path::new(&program), "node")] {
        ensure!(path.exists(), "{what} is not at {}: `cargo xtask test browser` installs it", path.display());
    }
    let scripts = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("browser");
    let script = |name: &str| scripts.join(name).display().to_string();
    let app = |name, title: &str| App {
        name,
        argv: vec![program.clone(), script("app.mjs"), title.to_owned(), "8080".to_owned()],
        ready: "listening",
        envs: vec![("WEFT_NODE".to_owned(), node.display().to_string())],
    };
    let door = Door::open(
        "browser",
        &DoorOptions {
            catalog: CATALOG.to_owned(),
            hosts: vec!["orders", "books", "wiki", "gone"],
            apps: vec![app("orders", "Orders"), app("books", "Ledger"), app("wiki", "Wiki")],
            users: USERS.to_vec(),
            gateway: toml::Table::new(),
        },
    )?;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("browser");
    let users: serde_json::Map<_, _> = USERS.iter().map(|(name, password, _)| ((*name).to_owned(), json!(password))).collect();
    let stage = json!({
        "domain": DOMAIN, "port": PORT, "gateway": door.gateway.v4(), "pin": door.certificates.pin()?, "chromium": CHROMIUM, "pictures": pictures,
        "users": users, "weft": bin("weft")?, "bridge": door.bridge.socket(),
    });
    let scenes = std::env::var("WEFT_SCENES").unwrap_or_default();
    let argv: Vec<String> = [program.clone(), script("run.mjs")].into_iter().chain(scenes.split_whitespace().map(str::to_owned)).collect();
    let mut play = door.people.place().spawn_with("scenes", &argv, |command| {
        command.env("WEFT_STAGE", stage.to_string()).env("WEFT_NODE", &node).env("HOME", door.people.place().dir());
    })?;
    let status = play.wait(DEADLINE).with_context(|| door.logs())?;
    println!("{}", play.log());
    ensure!(status.success(), "not every scene is as it should be\n{}", door.logs());
    Ok(())
}
