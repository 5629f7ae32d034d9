//! Signing out, by the person and by the provider: everywhere at once, and whoever holds a stream is told.

use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use weft_gateway::sso::{Access, End, Notice, SessionEvent, Who};

use crate::{
    browser::{Browser, at, portal},
    provider::{CLIENT, Key, random, unsigned},
    world::{AUTH, SHOP, STOCK, World},
};

async fn signed_in() -> (World, Browser) {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    for host in [SHOP, STOCK, AUTH] {
        browser.app(&at(host, "/")).await;
    }
    (world, browser)
}

async fn hosts(browser: &Browser) -> usize {
    let mut count = 0;
    for host in [SHOP, STOCK, AUTH] {
        count += usize::from(matches!(browser.ask(&at(host, "/"), &[], Access::SignedIn).await, Who::Identified(_)));
    }
    count
}

#[tokio::test]
async fn a_person_signs_out_everywhere_and_at_the_provider() {
    for (host, body, to_provider) in [(AUTH, "", true), (SHOP, "", true), (AUTH, "local=1", false)] {
        let (world, mut browser) = signed_in().await;
        assert_eq!(hosts(&browser).await, 3);
        let mut notices = world.sso.sessions().subscribe();
        let answer = browser.weft(Method::POST, &at(host, "/.weft/logout"), &[("origin", &at(host, ""))], body.as_bytes()).await;
        let to = answer.headers()[header::LOCATION].to_str().unwrap();
        assert_eq!(to.starts_with(&format!("{}/logout?id_token_hint=", world.provider.issuer())), to_provider, "{to}");
        assert!(to.contains("portal.localhost%3A8443%2F.weft%2Fsigned-out") || to == portal("/.weft/signed-out"), "{to}");
        assert_eq!(hosts(&browser).await, 0, "{host} {body}");
        assert!(matches!(notices.next().await, Some(Notice::One(SessionEvent::Ended(_, End::SignedOut)))));
        browser.take(host, &answer);
        assert_eq!(browser.ticket(host), None);
        let (status, html) = browser.page(&portal("/.weft/signed-out")).await;
        assert!(status == StatusCode::OK && html.contains("signed out"), "{html}");
    }
}

#[tokio::test]
async fn another_site_or_a_link_signs_nobody_out() {
    let (_world, browser) = signed_in().await;
    let url = portal("/.weft/logout");
    for fields in [vec![("origin", "https://evil.example")], vec![("origin", "null")], vec![("sec-fetch-site", "cross-site")], vec![]] {
        let answer = browser.weft(Method::POST, &url, &fields, b"").await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{fields:?}");
    }
    let asked = browser.weft(Method::GET, &url, &[], b"").await;
    assert!(String::from_utf8_lossy(asked.body()).contains("<form method=\"post\""));
    assert_ne!(asked.headers()[header::REFERRER_POLICY], "no-referrer", "its form would have no origin");
    assert_eq!(hosts(&browser).await, 3);
    browser.weft(Method::POST, &url, &[("sec-fetch-site", "same-origin")], b"").await;
    assert_eq!(hosts(&browser).await, 0);
}

fn claims(world: &World, change: &Value) -> Value {
    let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let mut claims = json!({"iss": world.provider.issuer(), "aud": CLIENT, "iat": world.time.now(), "jti": random(), "events": event});
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

async fn tell(world: &World, token: &str) -> StatusCode {
    let body = format!("logout_token={token}");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = Browser::new(world).weft(Method::POST, &portal("/.weft/backchannel-logout"), &form, body.as_bytes()).await;
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    answer.status()
}

#[tokio::test]
async fn the_provider_signs_a_person_or_one_session_out() {
    for (typ, change, status, left) in [
        ("logout+jwt", json!({"sid": "provider-sid", "sub": "17"}), 200, 0),
        ("logout+jwt", json!({"sid": "provider-sid"}), 200, 0),
        ("JWT", json!({"sub": "17"}), 200, 0),
        ("JWT", json!({"sub": "18"}), 200, 3),
        ("JWT", json!({"sub": "18", "sid": "provider-sid"}), 200, 3),
        ("JWT", json!({"sub": "17", "sid": "another"}), 200, 3),
        ("at+jwt", json!({"sub": "17"}), 400, 3),
        ("JWT", json!({"sub": "17", "aud": "somebody-else"}), 400, 3),
        ("JWT", json!({"sub": "17", "nonce": "x"}), 400, 3),
        ("JWT", json!({"sub": "17", "events": {}}), 400, 3),
    ] {
        let (world, browser) = signed_in().await;
        let key = world.provider.key();
        let token = key.sign(&json!({"alg": "ES256", "typ": typ, "kid": key.kid}), &claims(&world, &change));
        assert_eq!(tell(&world, &token).await.as_u16(), status, "{typ} {change}");
        assert_eq!(hosts(&browser).await, left, "{typ} {change}");
    }
}

#[tokio::test]
async fn a_logout_token_is_believed_once_and_from_the_provider_only() {
    let (world, mut browser) = signed_in().await;
    let forged = Key::make(&world.provider.key().kid).jwt(&claims(&world, &json!({"sub": "17"})));
    assert_eq!(tell(&world, &forged).await, StatusCode::BAD_REQUEST);
    assert_eq!(tell(&world, &unsigned(&claims(&world, &json!({"sub": "17"})))).await, StatusCode::BAD_REQUEST);
    assert_eq!(tell(&world, &"x".repeat(40_000)).await, StatusCode::BAD_REQUEST);
    assert_eq!(hosts(&browser).await, 3);
    let token = world.provider.key().jwt(&claims(&world, &json!({"sub": "17"})));
    let mut notices = world.sso.sessions().subscribe();
    assert_eq!(tell(&world, &token).await, StatusCode::OK);
    assert!(matches!(notices.next().await, Some(Notice::One(SessionEvent::Ended(_, End::ProviderLogout)))));
    assert_eq!(hosts(&browser).await, 0);
    // A copy of it does not end what comes after.
    browser.app(&at(SHOP, "/")).await;
    assert_eq!(tell(&world, &token).await, StatusCode::BAD_REQUEST);
    assert!(hosts(&browser).await > 0);
}

#[tokio::test]
async fn a_second_sign_in_of_one_browser_is_found_by_its_own_sid() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    // A tab stops right before it comes back, and another one signs in meanwhile.
    let mut url = at(SHOP, "/");
    while !url.contains("/.weft/callback") {
        url = browser.step(&url).await.unwrap();
    }
    browser.app(&at(STOCK, "/")).await;
    world.provider.claim("sid", json!("second"));
    browser.open(&url).await;
    let logout = |sid: &str| world.provider.key().jwt(&claims(&world, &json!({"sid": sid})));
    assert_eq!(tell(&world, &logout("another")).await, StatusCode::OK);
    assert_eq!(hosts(&browser).await, 3);
    assert_eq!(tell(&world, &logout("second")).await, StatusCode::OK);
    assert_eq!(hosts(&browser).await, 0);
}
