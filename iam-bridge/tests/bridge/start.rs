//! What keeps a bridge from starting, and in which words.

use std::{net::TcpListener, os::unix::fs::MetadataExt as _};

use crate::support::World;
use weft_iam_bridge::{Config, start};

async fn refused(config: Config) -> String {
    match start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn a_first_start_needs_a_whole_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let world = World { dir, bridge: None };
    let catalog = world.config().catalog;
    let none = refused(world.config()).await;
    assert!(none.contains("the catalog") && none.contains("cannot be used"), "{none}");
    std::fs::create_dir_all(&catalog).unwrap();
    let empty = refused(world.config()).await;
    assert!(empty.contains("Mesh"), "{empty}");
    std::fs::write(catalog.join("a.yaml"), crate::support::service("shop/orders", "")).unwrap();
    let no_mesh = refused(world.config()).await;
    assert!(no_mesh.contains("error:") && no_mesh.contains("Mesh"), "{no_mesh}");
    assert!(!world.config().state_dir.join("ca.pem").exists(), "no CA without a trust domain");
    crate::support::catalog(&catalog);
    std::fs::remove_file(catalog.join("a.yaml")).unwrap();
    start(world.config()).await.unwrap().stop().await;
}

#[tokio::test]
async fn what_is_held_by_another_is_named() {
    let world = World::new().await;
    let twice = refused(world.config()).await;
    assert!(twice.contains("in use by another weft-iam-bridge"), "{twice}");

    let other = tempfile::tempdir().unwrap();
    let mut config = world.config();
    config.state_dir = other.path().join("state");
    let socket = refused(config.clone()).await;
    assert!(socket.contains("another program answers on the socket"), "{socket}");
    config.admin_socket = other.path().join("b.sock");
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    config.listen = held.local_addr().unwrap();
    let port = refused(config.clone()).await;
    assert!(port.contains("cannot listen on") && port.contains("field listen"), "{port}");
    config.listen = "127.0.0.1:0".parse().unwrap();
    config.metrics = Some(held.local_addr().unwrap());
    let metrics = refused(config.clone()).await;
    assert!(metrics.contains("for metrics"), "{metrics}");
    config.metrics = None;
    start(config).await.unwrap().stop().await;
}

#[tokio::test]
async fn secrets_are_closed_to_others() {
    let world = World::new().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    let state = world.config().state_dir;
    assert_eq!(mode(&state), 0o700);
    let files: Vec<_> = std::fs::read_dir(&state).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(files.len() >= 5, "{files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
    assert_eq!(mode(&world.config().admin_socket), 0o600);
}
