//! The policy comes from the agent: before it there is nothing, and what was the last stays.

use http::Method;

use crate::{
    apps::App,
    browser::at,
    client::{Answer, empty, request2},
    nobody::nobody,
    world::{PORT, World, eventually},
};

const SHOP: &str = "{ port: web, host: shop, access: { public: true } }";

#[tokio::test]
async fn without_a_policy_nothing_listens_and_readiness_says_why() {
    let app = App::start().await;
    let world = World::before(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    world.agent.go();
    let steps = async {
        let ready = async || world.probe("/readyz").await.map(|answer| (answer.status.as_u16(), answer.text().to_owned()));
        let says = async |words: &str| {
            eventually(words, async || ready().await.is_some_and(|(status, text)| status == 503 && text.contains(words))).await;
        };
        says("nobody answers at").await;
        world.agent.come();
        says("nothing is exposed").await;
        // One that cannot be read changes nothing.
        world.agent.say_bytes(vec![0xff; 10]);
        says("no envelope that can be read").await;
        assert!(tokio::net::TcpStream::connect(world.public()).await.is_err());
        assert_eq!(world.probe("/healthz").await.unwrap().status, 200);
        world.revise(|_| {});
    };
    tokio::join!(world.start(), steps);
    assert_eq!(world.get(&at("shop", "/")).await.status, 200);
    assert_eq!(world.probe("/readyz").await.unwrap().status, 200);
}

#[tokio::test]
async fn the_last_policy_stays_while_the_agent_is_away() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    world.agent.go();
    for _ in 0..3 {
        assert_eq!(world.get(&at("shop", "/")).await.status, 200);
    }
    assert_eq!(world.get(&at("stock", "/")).await.status, 404);
    assert_eq!(world.probe("/readyz").await.unwrap().status, 200);
    // What it says when it is back is in force, and what happened meanwhile is told.
    let revision = world.revise(|plan| {
        plan.expose("shop/stock", &["{ port: web, host: stock, access: { public: true } }"]);
        plan.workload("shop/stock", nobody());
    });
    world.agent.come();
    eventually("the revision", async || world.metric("weft_gateway_revision").await as u64 == revision).await;
    assert_eq!(world.get(&at("stock", "/")).await.status, 502);
    eventually("flows", async || world.agent.flows().len() >= 5).await;
    // A revision that cannot be used changes nothing.
    world.agent.say_bytes(vec![0xff; 10]);
    world.agent.go();
    world.agent.come();
    assert_eq!(world.get(&at("shop", "/")).await.status, 200);
}

#[tokio::test]
async fn where_nothing_is_exposed_any_more_nothing_is_answered() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    let mut kept = world.h2("shop.corp.example").await;
    let mut ask = async || Answer::of(kept.send_request(request2(Method::GET, &at("shop", "/"), &[], empty())).await.unwrap()).await;
    assert_eq!(ask().await.status, 200);
    world.revise(|plan| plan.expose.clear());
    eventually("the policy", async || world.metric("weft_gateway_revision").await == 0.0).await;
    let answer = ask().await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (503, Some("not_ready")));
    assert_eq!(world.probe("/readyz").await.unwrap().status, 503);
    world.revised(|plan| plan.expose("shop/orders", &[SHOP])).await;
    assert_eq!(ask().await.status, 200);
}

#[tokio::test]
async fn a_port_moves_with_the_policy() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    let url = |port: u16| format!("https://shop.corp.example:{port}/");
    let mut kept = world.h2("shop.corp.example").await;
    // Somebody else has the port: the former one stays until it can be had.
    let taken = std::net::TcpListener::bind((world.address, PORT + 1)).unwrap();
    world.revised(|plan| plan.public_port = PORT + 1).await;
    let former = std::net::SocketAddr::new(world.address, PORT);
    assert!(tokio::net::TcpStream::connect(former).await.is_ok());
    drop(taken);
    eventually("the new port", async || tokio::net::TcpStream::connect(former).await.is_err()).await;
    assert_eq!(world.get(&url(PORT + 1)).await.status, 200);
    // What was open goes on.
    assert_eq!(Answer::of(kept.send_request(request2(Method::GET, &url(PORT), &[], empty())).await.unwrap()).await.status, 200);
    // Whoever is led to sign in is led to where the portal is now.
    let page = world.ask(Method::GET, "https://portal.corp.example:8444/", &[("sec-fetch-mode", "navigate")], "").await;
    assert!(page.header("location").starts_with("https://portal.corp.example:8444/.weft/start"), "{page:?}");
}

#[tokio::test]
async fn plain_http_leads_to_https_and_nowhere_else() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &[SHOP]);
        plan.workload("shop/orders", app.address);
        // People know one port, and the gateway listens at another: something forwards.
        (plan.listen_port, plan.redirect_port) = (Some(PORT + 1), Some(8080));
    })
    .await;
    assert_eq!(world.get(&at("shop", "/")).await.status, 200);
    assert!(tokio::net::TcpStream::connect((world.address, PORT)).await.is_err());
    let plain = async |host: &str, path: &str| {
        let request = http::Request::get(path).header("host", host).body(empty()).unwrap();
        world.plain((world.address, 8080).into(), request).await
    };
    for host in ["shop.corp.example", "shop.corp.example:8080", "SHOP.corp.example"] {
        let led = plain(host, "/a%20b?c=d").await.unwrap();
        assert_eq!((led.status.as_u16(), led.header("location")), (308, at("shop", "/a%20b?c=d").as_str()), "{host}");
    }
    assert_eq!(plain("portal.corp.example", "/").await.unwrap().header("location"), at("portal", "/"));
    for nobody in ["evil.example", "nobody.corp.example"] {
        let answer = plain(nobody, "/").await.unwrap();
        assert!(answer.status == 404 && !answer.headers.contains_key("location"), "{answer:?}");
    }
    assert_eq!(app.requests(), 1);
    // A port that is not wanted any more is closed.
    world.revised(|plan| plan.redirect_port = None).await;
    eventually("the end of it", async || tokio::net::TcpStream::connect((world.address, 8080)).await.is_err()).await;
}
