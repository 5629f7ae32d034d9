//! What is open ends when what had let it in is gone, and only then.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::{
    apps::App,
    browser::{Browser, at},
    client::{Coming, H1, H2, empty, request, request2},
    provider::{API, CLIENT, random},
    socket::WebSocket,
    world::{BACK_CHANNEL_PORT, World, eventually},
};

/// An event stream of either protocol, and a WebSocket of either.
struct Open {
    events: [Coming; 2],
    sockets: [WebSocket; 2],
}

const ORDERS: &str = "{ port: web, host: orders, access: { groups: [ sales ] } }";

async fn shop() -> (World, Arc<App>) {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &[ORDERS, "{ port: web, host: shop, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    (world, app)
}

impl Open {
    async fn of(world: &World, browser: &mut Browser<'_>) -> Self {
        let page = browser.open(&at("orders", "/")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let cookies = browser.cookies(&at("orders", "/"));
        let fields = [("cookie", cookies.as_str())];
        let one = world.h1("orders.corp.example").await.send_request(request(Method::GET, &at("orders", "/sse"), &fields, empty())).await.unwrap();
        let two = world.h2("orders.corp.example").await.send_request(request2(Method::GET, &at("orders", "/sse"), &fields, empty())).await.unwrap();
        let mut open = Self {
            events: [Coming(one), Coming(two)],
            sockets: [world.websocket(&at("orders", "/ws"), &fields, H1).await.unwrap(), world.websocket(&at("orders", "/ws"), &fields, H2).await.unwrap()],
        };
        for events in &mut open.events {
            assert_eq!(events.text().await, "data: hello\n\n");
        }
        open
    }

    async fn goes_on(&mut self, app: &App) {
        app.events.send("on".to_owned()).unwrap();
        for events in &mut self.events {
            assert_eq!(events.text().await, "data: on\n\n");
        }
        for socket in &mut self.sockets {
            socket.echo("on").await;
        }
    }

    async fn ends(self) {
        for mut events in self.events {
            let mut last = events.piece().await;
            while let Some(Ok(_)) = last {
                last = events.piece().await;
            }
            assert!(matches!(last, Some(Err(_))), "an event stream that ends breaks off, so that nobody takes it for whole: {last:?}");
        }
        for socket in self.sockets {
            assert_eq!(socket.ends_with().await, Some(1008));
        }
    }
}

/// Two persons have streams open; what happens ends those of alice, and leaves bob's.
async fn two() -> (World, Arc<App>) {
    shop().await
}

#[tokio::test]
async fn a_group_that_is_taken_away_at_the_provider_ends_what_it_had_opened() {
    let (world, app) = two().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    let mut of_alice = Open::of(&world, &mut alice).await;
    of_alice.goes_on(&app).await;
    // The provider's next word is of another group. Nobody asks for anything: the streams are all that is open.
    world.person("alice", &["kitchen"]);
    of_alice.goes_on(&app).await;
    world.time.pass(301);
    of_alice.ends().await;
    eventually("the application is told", async || app.open() == 0).await;
    assert_eq!(alice.get(&at("orders", "/")).await.status, 403);
    assert_eq!(world.metric("weft_gateway_revoked_total").await, 4.0);
    assert_eq!(world.metric("weft_gateway_live").await, 0.0);

    // The same without another group: what was open goes on over a renewal.
    let mut carol = world.signed_in("carol", &["sales"]).await;
    let mut of_carol = Open::of(&world, &mut carol).await;
    let before = world.provider.counts.refreshes.load(std::sync::atomic::Ordering::SeqCst);
    world.time.pass(301);
    eventually("a renewal", async || world.provider.counts.refreshes.load(std::sync::atomic::Ordering::SeqCst) > before).await;
    of_carol.goes_on(&app).await;
}

#[tokio::test]
async fn a_session_that_ends_elsewhere_ends_what_it_had_opened() {
    let (world, app) = two().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    let of_alice = Open::of(&world, &mut alice).await;
    let mut bob = world.signed_in("bob", &["sales"]).await;
    let mut of_bob = Open::of(&world, &mut bob).await;
    let out = alice.clone().post(&at("portal", "/.weft/logout"), "local=1").await;
    assert_eq!(out.status, 303);
    of_alice.ends().await;
    of_bob.goes_on(&app).await;
    assert_eq!(alice.get(&at("orders", "/")).await.status, 401);
    assert_eq!(bob.get(&at("orders", "/")).await.status, 200);
}

/// What a form of a page holds under this name.
fn field(page: &str, name: &str) -> Vec<String> {
    let of = |part: &str| part.split('"').next().unwrap().to_owned();
    page.split(&format!("name=\"{name}\" value=\"")).skip(1).map(of).collect()
}

#[tokio::test]
async fn a_person_ends_a_session_of_their_own_from_another_browser() {
    let (world, app) = two().await;
    let mut away = world.signed_in("alice", &["sales"]).await;
    let mut of_away = Open::of(&world, &mut away).await;
    let mut bob = world.signed_in("bob", &["sales"]).await;
    let mut of_bob = Open::of(&world, &mut bob).await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    let (list, end) = (at("portal", "/.weft/sessions"), at("portal", "/.weft/sessions/end"));
    let page = alice.open(&list).await;
    let (ids, token) = (field(page.text(), "session"), field(page.text(), "csrf").swap_remove(0));
    assert_eq!(ids.len(), 2, "her own, and nobody else's: {}", page.text());
    let of_bobs = bob.open(&list).await;
    let (bobs_id, bobs_token) = (field(of_bobs.text(), "session").swap_remove(0), field(of_bobs.text(), "csrf").swap_remove(0));
    // Neither another site's form, nor one of another session, nor another person.
    let elsewhere = format!("session={}", ids[1]);
    for form in [elsewhere.clone(), format!("{elsewhere}&csrf={bobs_token}")] {
        assert_eq!(alice.post(&end, &form).await.status, 403, "{form}");
    }
    bob.post(&end, &format!("{elsewhere}&csrf={bobs_token}")).await;
    of_away.goes_on(&app).await;
    alice.post(&end, &format!("session={bobs_id}&csrf={token}")).await;
    of_bob.goes_on(&app).await;
    assert_eq!(alice.post(&end, &format!("{elsewhere}&csrf={token}")).await.status, 303);
    of_away.ends().await;
    assert_eq!(away.get(&at("orders", "/")).await.status, 401);
    assert_eq!(alice.open(&at("orders", "/")).await.status, 200, "this browser's own goes on");
    of_bob.goes_on(&app).await;
}

#[tokio::test]
async fn the_provider_signs_out_over_either_back_channel() {
    let (world, app) = two().await;
    let token = |user: &str| {
        let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        let now = world.time.now();
        let claims = json!({"iss": world.provider.issuer(), "aud": CLIENT, "iat": now, "exp": now + 60, "jti": random(), "sub": format!("id-of-{user}"), "events": events});
        format!("logout_token={}", world.provider.key().sign(&json!({"alg": "ES256", "typ": "logout+jwt", "kid": world.provider.key().kid}), &claims))
    };
    const FORM: [(&str, &str); 1] = [("content-type", "application/x-www-form-urlencoded")];
    let channel = std::net::SocketAddr::new(world.address, BACK_CHANNEL_PORT);
    let post = async |path: &str, method: Method, body: String| {
        let request = request(method, &format!("https://gateway.weft.weft.internal{path}"), &FORM, crate::client::full(body));
        world.plain(channel, request).await.unwrap().status.as_u16()
    };
    let mut bob = world.signed_in("bob", &["sales"]).await;
    let mut of_bob = Open::of(&world, &mut bob).await;

    let mut alice = world.signed_in("alice", &["sales"]).await;
    let mut of_alice = Open::of(&world, &mut alice).await;
    // Nothing else is answered there, and nobody is believed without a signature.
    assert_eq!(post("/.weft/backchannel-logout", Method::POST, "logout_token=x".to_owned()).await, 400);
    for (path, method) in [("/", Method::GET), ("/.weft/backchannel-logout", Method::GET), ("/.weft/logout", Method::POST), ("/.weft/jwks.json", Method::GET)] {
        assert_eq!(post(path, method, token("alice")).await, 404, "{path}");
    }
    of_alice.goes_on(&app).await;
    assert_eq!(post("/.weft/backchannel-logout", Method::POST, token("alice")).await, 200);
    of_alice.ends().await;

    // From outside of the mesh.
    let mut alice = world.signed_in("alice", &["sales"]).await;
    let of_alice = Open::of(&world, &mut alice).await;
    assert_eq!(world.ask(Method::POST, &at("portal", "/.weft/backchannel-logout"), &FORM, &token("alice")).await.status, 200);
    of_alice.ends().await;
    of_bob.goes_on(&app).await;
}

#[tokio::test]
async fn a_revision_ends_what_it_would_not_let_in() {
    let (world, app) = two().await;
    let public = "{ port: web, host: shop, access: { public: true } }";
    let mut alice = world.signed_in("alice", &["sales", "ops"]).await;
    let mut open = Open::of(&world, &mut alice).await;
    // Something else, and other words for the same.
    world.revised(|plan| plan.expose("shop/stock", &["{ port: web, host: stock, access: { public: true } }"])).await;
    open.goes_on(&app).await;
    world.revised(|plan| plan.expose("shop/orders", &["{ port: web, host: orders, access: { groups: [ ops ] } }", public])).await;
    open.goes_on(&app).await;
    // A group that alice has not.
    world.revised(|plan| plan.expose("shop/orders", &["{ port: web, host: orders, access: { groups: [ boss ] } }", public])).await;
    open.ends().await;
    assert_eq!(alice.get(&at("orders", "/")).await.status, 403);

    // No route any more; and the same route to another application.
    for gone in [vec![public], vec![ORDERS, public]] {
        world.revised(|plan| plan.expose("shop/orders", &[ORDERS, public])).await;
        let open = Open::of(&world, &mut alice).await;
        let mut events = world.h1("shop.corp.example").await.send_request(request(Method::GET, &at("shop", "/sse"), &[], empty())).await.map(Coming).unwrap();
        assert_eq!(events.text().await, "data: hello\n\n");
        world
            .revised(|plan| {
                if gone.len() == 2 {
                    plan.expose.remove("shop/orders");
                    plan.expose("shop/elsewhere", &gone);
                    plan.workload("shop/elsewhere", app.address);
                    plan.workloads.retain(|(service, _)| service != "shop/orders");
                } else {
                    plan.expose("shop/orders", &gone);
                }
            })
            .await;
        open.ends().await;
        if gone.len() == 1 {
            app.events.send("on".to_owned()).unwrap();
            assert_eq!(events.text().await, "data: on\n\n", "what is public goes on");
        } else {
            assert!(events.piece().await.unwrap().is_err());
        }
        eventually("the application is told", async || app.open() == usize::from(gone.len() == 1)).await;
    }
}

#[tokio::test]
async fn a_token_that_expires_ends_what_it_had_opened() {
    let (world, app) = two().await;
    let now = world.time.now();
    let bearer = |user: &str, seconds: u64| {
        let claims =
            json!({"iss": world.provider.issuer(), "aud": API, "sub": user, "preferred_username": user, "groups": ["sales"], "iat": now, "exp": now + seconds});
        format!("Bearer {}", world.provider.key().jwt(&claims))
    };
    let (short, long) = (bearer("robot", 60), bearer("other", 600));
    let mut short = world.websocket(&at("orders", "/ws"), &[("authorization", &short)], H1).await.unwrap();
    let mut long = world.websocket(&at("orders", "/ws"), &[("authorization", &long)], H2).await.unwrap();
    short.echo("on").await;
    // A minute is what clocks may differ by.
    world.time.pass(119);
    long.echo("on").await;
    short.echo("on").await;
    world.time.pass(1);
    assert_eq!(short.ends_with().await, Some(1008));
    long.echo("on").await;
    assert_eq!(app.open(), 1);
}

#[tokio::test]
async fn what_waits_for_an_answer_ends_too() {
    let (world, app) = two().await;
    let mut alice = world.signed_in("alice", &["sales"]).await;
    alice.open(&at("orders", "/")).await;
    let before = app.requests();
    let waiting = alice.clone();
    let get = async {
        let mut waiting = waiting;
        waiting.get(&at("orders", "/gate")).await
    };
    let revise = async {
        eventually("it waits", async || app.requests() == before + 1).await;
        world.revise(|plan| plan.expose("shop/orders", &["{ port: web, host: orders, access: { groups: [ boss ] } }"]));
    };
    let (answer, ()) = tokio::join!(get, revise);
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (403, Some("revoked")));
}
