//! A provider, or somebody in its place, that lies in one way at a time. The control is the same sign-in without the lie.

use std::{sync::atomic::Ordering, time::Duration};

use http::StatusCode;
use rustls::RootCertStore;
use weft_gateway::sso::Caller;

use crate::{
    browser::{Browser, Seen, at},
    provider::{Key, Lie},
    world::{SHOP, World, caller, config, open},
};

#[tokio::test]
async fn a_lie_signs_nobody_in() {
    for (lie, status) in [
        (Lie::None, None),
        (Lie::AlmostExpired, None),
        (Lie::AlmostFromTheFuture, None),
        (Lie::AlgNone, Some(502)),
        (Lie::SharedSecret, Some(502)),
        (Lie::PublicKeyAsSecret, Some(502)),
        (Lie::OtherKind, Some(502)),
        (Lie::Audience, Some(502)),
        (Lie::TwoAudiences, Some(502)),
        (Lie::NoAudience, Some(502)),
        (Lie::AuthorizedParty, Some(502)),
        (Lie::Nonce, Some(502)),
        (Lie::NoNonce, Some(502)),
        (Lie::Issuer, Some(502)),
        (Lie::Expired, Some(502)),
        (Lie::FromTheFuture, Some(502)),
        (Lie::NotYet, Some(502)),
        (Lie::OtherKey, Some(502)),
        (Lie::UnknownKey, Some(502)),
        (Lie::Critical, Some(502)),
        (Lie::NoIdToken, Some(502)),
        (Lie::NoJson, Some(503)),
        (Lie::Huge, Some(503)),
        (Lie::TooManyRequests, Some(503)),
        (Lie::ClientUnknown, Some(503)),
        (Lie::Down, Some(503)),
    ] {
        let world = World::new().await;
        let mut browser = Browser::new(&world);
        let mut url = at(SHOP, "/");
        while !url.contains("/.weft/callback") {
            url = browser.step(&url).await.unwrap();
        }
        world.provider.lie(lie);
        match (browser.open(&url).await, status) {
            (Seen::App(..), None) => {}
            (Seen::Page(found, html), Some(status)) => {
                assert_eq!(found.as_u16(), status, "{lie:?}: {html}");
                assert!(html.contains("Try again"), "{lie:?}: {html}");
            }
            (seen, _) => panic!("{lie:?}: {seen:?}"),
        }
        assert_eq!(browser.ticket(SHOP).is_some(), status.is_none(), "{lie:?}");
    }
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_given_up() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let caller = Caller { timeout: Duration::from_millis(300), ..caller(RootCertStore::empty()) };
    browser.sso = open(&config(&world.provider, world.dir.path()), &world.time, caller);
    world.provider.lie(Lie::Silent);
    let (status, html) = browser.page(&at(SHOP, "/")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(html.contains("cannot be reached"), "{html}");
}

#[tokio::test]
async fn keys_are_fetched_again_when_a_token_names_an_unknown_one_but_not_at_every_token() {
    let world = World::new().await;
    let keys = || world.provider.counts.keys.load(Ordering::SeqCst);
    Browser::new(&world).app(&at(SHOP, "/")).await;
    assert_eq!(keys(), 1);
    world.time.pass(60);
    world.provider.set(|b| b.keys = vec![Key::make("two")]);
    Browser::new(&world).app(&at(SHOP, "/")).await;
    assert_eq!(keys(), 2, "a rotation of keys costs nobody a sign-in");
    world.provider.lie(Lie::UnknownKey);
    for _ in 0..10 {
        let (status, _) = Browser::new(&world).page(&at(SHOP, "/")).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(keys(), 2, "asked a moment ago");
    world.time.pass(5);
    for _ in 0..10 {
        Browser::new(&world).page(&at(SHOP, "/")).await;
    }
    assert_eq!(keys(), 3);
}
