//! Refreshes: one for however many requests, nobody signed out by one, and groups as they are now.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustls::RootCertStore;
use serde_json::json;
use weft_gateway::sso::{Access, End, Notice, SessionEvent, Who};

use crate::{
    browser::{Browser, at},
    provider::Lie,
    world::{SHOP, STOCK, World, caller, config, open_with},
};

/// Signed in, with an access token that has just ended.
async fn at_expiry() -> (World, Browser) {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    world.time.pass(3600);
    (world, browser)
}

async fn groups(browser: &Browser) -> Option<Vec<String>> {
    match browser.ask(&at(SHOP, "/"), &[], Access::SignedIn).await {
        Who::Identified(who) => Some(who.person.groups),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_requests_at_expiry_cause_one_refresh_and_no_failure() {
    let (world, browser) = at_expiry().await;
    world.provider.claim("groups", json!(["sales", "support"]));
    let browser = Arc::new(browser);
    let mut running = Vec::new();
    for _ in 0..50 {
        let browser = Arc::clone(&browser);
        running.push(tokio::spawn(async move { groups(&browser).await.is_some() }));
    }
    for request in running {
        assert!(request.await.unwrap(), "a request failed");
    }
    assert_eq!(world.provider.counts.refreshes.load(Ordering::SeqCst), 1);
    assert_eq!(groups(&browser).await.unwrap(), ["sales", "support"], "groups are those of now");
    // The next expiry works with the refresh token that came with the first.
    world.time.pass(3600);
    assert!(groups(&browser).await.is_some());
    assert_eq!(world.provider.counts.refreshes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_goes_away_does_not_lose_the_refreshed_token() {
    let (world, browser) = at_expiry().await;
    let browser = Arc::new(browser);
    let refreshes = || world.provider.counts.refreshes.load(Ordering::SeqCst);
    let permits = world.provider.refreshing.forget_permits(1000);
    let asking = Arc::clone(&browser);
    let request = tokio::spawn(async move { groups(&asking).await });
    while refreshes() == 0 {
        tokio::task::yield_now().await;
    }
    // The provider has the request; the browser goes away; the provider answers.
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    world.provider.refreshing.add_permits(permits);
    assert!(groups(&browser).await.is_some());
    assert_eq!(refreshes(), 1);
    world.time.pass(3600);
    assert!(groups(&browser).await.is_some(), "the token that came last is the one that is kept");
    assert_eq!(refreshes(), 2);
}

#[tokio::test]
async fn a_slow_provider_holds_nobody_up() {
    let (world, mut browser) = at_expiry().await;
    browser.sso = open_with(&config(&world.provider, world.dir.path()), &world.time, caller(RootCertStore::empty()), Duration::ZERO);
    world.provider.claim("groups", json!(["ops"]));
    let permits = world.provider.refreshing.forget_permits(1000);
    for _ in 0..20 {
        assert_eq!(groups(&browser).await.unwrap(), ["sales"], "what is known");
    }
    while world.provider.counts.refreshes.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(groups(&browser).await.unwrap(), ["sales"]);
    world.provider.refreshing.add_permits(permits);
    while groups(&browser).await.unwrap() != ["ops"] {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.provider.counts.refreshes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_outage_keeps_the_session_and_a_refusal_ends_it() {
    for (lie, lives) in [
        (Lie::None, true),
        (Lie::Down, true),
        (Lie::NoJson, true),
        (Lie::Huge, true),
        (Lie::TooManyRequests, true),
        (Lie::ClientUnknown, true),
        (Lie::NoIdToken, true),
        (Lie::RefreshRefused, false),
        (Lie::RefreshOfSomebodyElse, false),
        (Lie::AlgNone, false),
        (Lie::OtherKey, false),
        (Lie::Audience, false),
    ] {
        let (world, browser) = at_expiry().await;
        let mut notices = world.sso.sessions().subscribe();
        world.provider.lie(lie);
        assert_eq!(groups(&browser).await.is_some(), lives, "{lie:?}");
        if lives {
            world.provider.lie(Lie::None);
            world.time.pass(30);
            world.provider.claim("groups", json!(["ops"]));
            let now = groups(&browser).await;
            // Without an ID token userinfo is all there is, and this one's says no groups.
            let expect: &[&str] = match lie {
                Lie::None => &["sales"],
                Lie::NoIdToken => &[],
                _ => &["ops"],
            };
            assert_eq!(now.unwrap(), expect, "{lie:?}");
        } else {
            assert!(matches!(notices.next().await, Some(Notice::One(SessionEvent::Ended(_, End::Refused)))), "{lie:?}");
        }
    }
}

#[tokio::test]
async fn a_group_that_is_taken_away_is_gone_after_the_refresh_and_streams_are_told() {
    let world = World::with(|config| config.lifetimes.refresh = 300).await;
    let mut browser = Browser::new(&world);
    let who = browser.app(&at(SHOP, "/")).await;
    let id = who.session.as_ref().unwrap().id;
    let mut notices = world.sso.sessions().subscribe();
    world.provider.claim("groups", json!([]));
    world.time.pass(299);
    assert_eq!(groups(&browser).await.unwrap(), ["sales"]);
    world.time.pass(1);
    // A stream sends no requests: whoever holds it renews the session.
    assert!(world.sso.renew(id).await.unwrap().unwrap().person.groups.is_empty());
    assert_eq!(notices.next().await, Some(Notice::One(SessionEvent::Changed(id))));
    assert!(groups(&browser).await.unwrap().is_empty());
}

#[tokio::test]
async fn without_an_id_token_userinfo_says_the_groups_and_an_absent_claim_is_none() {
    let (world, browser) = at_expiry().await;
    world.provider.lie(Lie::NoIdToken);
    for (said, expect) in [(json!({"groups": ["ops"]}), &["ops"][..]), (json!({}), &[]), (json!({"groups": ["ops"]}), &["ops"]), (json!({"groups": []}), &[])] {
        world.provider.set(|b| b.more = said.as_object().unwrap().clone());
        assert_eq!(groups(&browser).await.unwrap(), expect, "{said}");
        world.time.pass(3600);
    }
}

#[tokio::test]
async fn an_access_token_that_ends_is_no_end_of_a_stream() {
    let (world, browser) = at_expiry().await;
    let mut notices = world.sso.sessions().subscribe();
    let Who::Identified(who) = browser.ask(&at(SHOP, "/"), &[], Access::SignedIn).await else { panic!("nobody") };
    assert_eq!(world.provider.counts.refreshes.load(Ordering::SeqCst), 1);
    let id = who.session.unwrap().id;
    world.sso.sessions().end(id, End::Revoked).unwrap();
    assert_eq!(notices.next().await, Some(Notice::One(SessionEvent::Ended(id, End::Revoked))), "nothing came before");
}

#[tokio::test]
async fn a_rotated_ticket_leaves_the_old_one_good_until_the_new_one_was_seen_and_half_a_minute_more() {
    let (world, mut browser) = at_expiry().await;
    let old = browser.ticket(SHOP).unwrap();
    // The answer with the new ticket is lost: nothing happens.
    let lost = browser.ask(&at(SHOP, "/"), &[("sec-fetch-mode", "navigate")], Access::SignedIn).await;
    assert!(matches!(lost, Who::Identified(who) if who.set_cookie.is_some()));
    world.time.pass(3000);
    assert!(groups(&browser).await.is_some(), "a lost answer signs nobody out");
    // Only a page brings a new ticket, and not twice at a time.
    assert!(matches!(browser.ask(&at(SHOP, "/"), &[("sec-fetch-mode", "cors")], Access::SignedIn).await, Who::Identified(who) if who.set_cookie.is_none()));
    let first = browser.app(&at(SHOP, "/")).await;
    assert!(first.set_cookie.is_some());
    let new = browser.ticket(SHOP).unwrap();
    assert_ne!(new, old);
    let live = async |ticket: &str| {
        let mut browser = Browser::new(&world);
        browser.set_ticket(SHOP, ticket);
        groups(&browser).await.is_some()
    };
    assert!(live(&old).await && live(&new).await);
    world.time.pass(29);
    assert!(live(&old).await, "requests under way with the old one do not fail");
    world.time.pass(1);
    assert!(!live(&old).await && live(&new).await);
}

#[tokio::test]
async fn without_a_refresh_token_a_session_lives_until_it_ends_by_itself() {
    let world = World::new().await;
    world.provider.set(|b| b.with_refresh = false);
    let mut browser = Browser::new(&world);
    browser.app(&at(STOCK, "/")).await;
    browser.app(&at(SHOP, "/")).await;
    world.time.pass(7000);
    assert!(groups(&browser).await.is_some());
    assert_eq!(world.provider.counts.refreshes.load(Ordering::SeqCst), 0);
}
