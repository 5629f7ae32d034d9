//! Certificates and routes change under load, and no request fails by it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use http::Method;
use tokio::task::JoinSet;
use x509_parser::prelude::FromDer as _;

use crate::{
    apps::App,
    browser::at,
    client::{Answer, H1, empty, request2},
    nobody::nobody,
    world::{World, eventually},
};

const SHOP: &str = "{ port: web, host: shop, access: { public: true } }";

/// Requests over connections that stay and over new ones, as long as `go` says. Answers how many were answered.
fn load(world: &Arc<World>, go: &Arc<AtomicBool>) -> (JoinSet<()>, Arc<AtomicUsize>) {
    let (mut tasks, answered) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    for stays in [true, true, false, false] {
        let (world, go, answered) = (Arc::clone(world), Arc::clone(go), Arc::clone(&answered));
        tasks.spawn(async move {
            let mut kept = world.h2("shop.corp.example").await;
            while go.load(Ordering::SeqCst) {
                let status = if stays {
                    Answer::of(kept.send_request(request2(Method::GET, &at("shop", "/"), &[], empty())).await.unwrap()).await.status
                } else {
                    world.get(&at("shop", "/")).await.status
                };
                assert_eq!(status, 200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    (tasks, answered)
}

async fn shop() -> Arc<World> {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    Arc::new(world)
}

/// The key that a new connection is shown, as a number of its own.
async fn shown(world: &World) -> Vec<u8> {
    let stream = world.tls("shop.corp.example", H1).await;
    let chain = stream.get_ref().1.peer_certificates().unwrap().to_vec();
    x509_parser::certificate::X509Certificate::from_der(&chain[0]).unwrap().1.public_key().raw.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_of_certificates_fail_nobody() {
    let world = shop().await;
    let go = Arc::new(AtomicBool::new(true));
    let (tasks, answered) = load(&world, &go);
    let mut before = shown(&world).await;
    for n in 0..100 {
        world.authority.issue(world.dir.path(), "all", &["*.corp.example"]);
        world.reload();
        eventually("the new certificate is shown", async || shown(&world).await != before).await;
        before = shown(&world).await;
        // Now and then one that is broken: the former stays.
        if n % 20 == 0 {
            let whole = std::fs::read(world.dir.path().join("all.pem")).unwrap();
            std::fs::write(world.dir.path().join("all.pem"), b"half written").unwrap();
            world.reload();
            let failed = async || world.metric("weft_gateway_certificate_reloads_failed_total").await;
            eventually("the broken one is seen", async || failed().await >= f64::from(n / 20 + 1)).await;
            assert_eq!(shown(&world).await, before);
            std::fs::write(world.dir.path().join("all.pem"), whole).unwrap();
        }
    }
    go.store(false, Ordering::SeqCst);
    tasks.join_all().await;
    assert!(answered.load(Ordering::SeqCst) > 100, "{answered:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_revisions_fail_nobody() {
    let world = shop().await;
    let go = Arc::new(AtomicBool::new(true));
    let (tasks, answered) = load(&world, &go);
    world.revise(|plan| plan.workload("shop/stock", nobody()));
    for n in 0..100 {
        let other = format!("{{ port: web, host: other, pathPrefix: /v{n}, access: {{ public: true }} }}");
        world.revised(|plan| plan.expose("shop/stock", &[&other])).await;
        // The route that came is there, and the one that went is not.
        assert_eq!(world.get(&at("other", &format!("/v{}", n + 1000))).await.status, 404);
        assert_eq!(world.get(&at("other", &format!("/v{n}"))).await.status, 502, "a route of a service that takes no connections");
        let seen = answered.load(Ordering::SeqCst);
        eventually("requests go on", async || answered.load(Ordering::SeqCst) > seen).await;
    }
    go.store(false, Ordering::SeqCst);
    tasks.join_all().await;
    assert!(answered.load(Ordering::SeqCst) > 100, "{answered:?}");
}
