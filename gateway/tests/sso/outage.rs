//! The provider is down for minutes, across a restart of the gateway: only new sign-ins fail, with a page that says so.

use http::StatusCode;
use serde_json::json;
use weft_gateway::sso::{Access, Who};

use crate::{
    browser::{Browser, Seen, at},
    provider::{API, Lie},
    world::{SHOP, STOCK, World},
};

#[tokio::test]
async fn an_outage_breaks_new_sign_ins_only() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    world.provider.lie(Lie::Down);
    let api =
        world.provider.key().jwt(&json!({"iss": world.provider.issuer(), "aud": API, "sub": "robot", "exp": world.time.now() + 100_000, "groups": ["ci"]}));
    let api = format!("Bearer {api}");
    for restarted in [false, true] {
        if restarted {
            browser.sso = world.restarted();
        }
        for _ in 0..5 {
            world.time.pass(240);
            assert!(matches!(browser.ask(&at(SHOP, "/"), &[], Access::SignedIn).await, Who::Identified(_)), "a session goes on");
        }
        // Another app of the same session needs no provider either, nor does an API client.
        browser.app(&at(STOCK, "/")).await;
        browser.jar.retain(|(host, _), _| host != STOCK);
        let mut robot = Browser::new(&world);
        robot.sso = std::sync::Arc::clone(&browser.sso);
        let who = robot.ask(&at(SHOP, "/"), &[("authorization", &api)], Access::SignedIn).await;
        assert!(matches!(&who, Who::Identified(who) if who.person.groups == ["ci"]), "last-known keys: {who:?}");
        let mut stranger = Browser::new(&world);
        stranger.sso = std::sync::Arc::clone(&browser.sso);
        let mut url = at(SHOP, "/");
        while !url.contains("/.weft/callback") {
            url = stranger.step(&url).await.unwrap();
        }
        let Seen::Page(status, html) = stranger.open(&url).await else { panic!("signed in without a provider") };
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(html.contains("can go on working"), "{html}");
    }
    world.provider.lie(Lie::None);
    let mut stranger = Browser::new(&world);
    stranger.sso = browser.sso;
    stranger.app(&at(SHOP, "/")).await;
}

#[tokio::test]
async fn a_gateway_that_starts_during_an_outage_asks_again_by_itself() {
    let world = World::new().await;
    world.provider.lie(Lie::Down);
    let (status, _) = Browser::new(&world).page(&at(SHOP, "/")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    world.provider.lie(Lie::None);
    // Not at once: a provider that comes up is not asked by everybody at the same moment.
    let (status, _) = Browser::new(&world).page(&at(SHOP, "/")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    world.time.pass(30);
    Browser::new(&world).app(&at(SHOP, "/")).await;
}
