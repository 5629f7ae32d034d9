//! Signing in and out against OpenID providers that nobody here wrote: npm's `oidc-provider` and Debian's `glewlwyd`, which sign with other algorithms, keep
//! groups in other places, and word a logout in other ways. `cargo xtask test gateway` installs both.
//!
//! Each runs as a process of its own on 127.0.0.1 with its own clock; the gateway's clock is moved ahead of it, by less than their tokens live.

mod browser;
mod glewlwyd;
mod oidc_provider;
mod provider;
mod world;

use std::time::Duration;

use anyhow::Result;
use http::{Method, StatusCode, header};
use weft_gateway::sso::{Access, End, Notice, SessionEvent, Who};

use crate::{
    browser::{Browser, Seen, at},
    glewlwyd::Glewlwyd,
    oidc_provider::OidcProvider,
    provider::Foreign,
    world::{PORTAL, SHOP, STOCK, WIKI, World},
};

/// In what the provider is down for, the gateway's clock goes on by this much, five times.
const OUTAGE_STEP_SECONDS: u64 = 240;

#[tokio::test(flavor = "multi_thread")]
async fn npm_oidc_provider() -> Result<()> {
    passes::<OidcProvider>().await
}

#[tokio::test(flavor = "multi_thread")]
async fn debian_glewlwyd() -> Result<()> {
    passes::<Glewlwyd>().await
}

/// In this order, since each step needs what the ones before have shown.
async fn passes<P: Foreign>() -> Result<()> {
    let mut world = World::<P>::start().await?;
    signs_in_once_for_every_app(&world).await?;
    groups_are_those_of_now(&world).await?;
    a_person_signs_out_here_and_there(&world).await?;
    signing_out_elsewhere_signs_out_here(&world).await?;
    an_outage_breaks_new_sign_ins_only(&mut world).await
}

async fn signs_in_once_for_every_app<P: Foreign>(world: &World<P>) -> Result<()> {
    let mut alice = Browser::new(world, "alice");
    let deep = at(SHOP, "/orders/17?tab=lines&q=a%20b");
    let who = alice.app(&deep).await?;
    assert_eq!((who.person.user.as_str(), who.person.email.as_deref()), ("alice", Some("alice@corp.example")), "{:?}", who.person);
    assert_eq!(who.person.groups, ["ops", "sales"]);
    alice.app(&at(STOCK, "/")).await?;
    alice.app(&at(PORTAL, "/")).await?;
    assert_eq!(alice.typed, 1, "one password for all apps");
    // The same browser at another application of the same provider: the provider remembers, and vouches for the same person.
    let elsewhere = alice.app(&at(WIKI, "/")).await?;
    assert_eq!((alice.typed, &elsewhere.person.subject), (1, &who.person.subject));
    // Who does not know a password does not get in: the provider asks, and asks again.
    let mut mallory = Browser::new(world, "nobody");
    assert!(mallory.app(&deep).await.is_err());
    assert_eq!(mallory.ticket(SHOP), None);
    Ok(())
}

async fn groups_are_those_of_now<P: Foreign>(world: &World<P>) -> Result<()> {
    let mut bob = Browser::new(world, "bob");
    let first = bob.app(&at(SHOP, "/")).await?;
    let session = first.session.as_ref().expect("a session").id;
    assert_eq!(first.person.groups, ["support"]);
    let mut notices = world.sso.sessions().subscribe();
    for groups in [vec!["sales", "support"], vec![], vec!["support"]] {
        world.provider.set_groups("bob", &groups).await?;
        world.pass(world::REFRESH_SECONDS + 1);
        let now = bob.ask(&at(SHOP, "/")).await.expect("still signed in");
        assert_eq!(now.person.groups, groups);
        assert_eq!(now.session.as_ref().expect("a session").id, session, "refreshed, not signed in anew");
        assert_eq!(notices.next().await, Some(Notice::One(SessionEvent::Changed(session))), "streams are told");
    }
    assert_eq!(bob.typed, 1);
    Ok(())
}

async fn a_person_signs_out_here_and_there<P: Foreign>(world: &World<P>) -> Result<()> {
    let mut alice = Browser::new(world, "alice");
    alice.app(&at(SHOP, "/")).await?;
    alice.app(&at(STOCK, "/")).await?;
    let answer = alice.weft(Method::POST, &at(SHOP, "/.weft/logout"), &[("origin", &at(SHOP, ""))], b"").await;
    let to = answer.headers()[header::LOCATION].to_str()?.to_owned();
    assert!(to.starts_with(&world.provider.issuer()) && to.contains("id_token_hint="), "{to}");
    let Seen::Page(url, StatusCode::OK, html) = alice.open(&to).await? else { panic!("no page after {:?}", alice.trail) };
    // It may add what is nobody's business here, such as an empty state.
    assert!(url.starts_with(&at(PORTAL, "/.weft/signed-out")) && html.contains("signed out"), "{url}: {html}");
    for host in [SHOP, STOCK] {
        assert!(alice.ask(&at(host, "/")).await.is_none(), "{host}");
    }
    // And there: the provider asks for the password again.
    alice.app(&at(SHOP, "/")).await?;
    assert_eq!(alice.typed, 2, "{:?}", alice.trail);
    Ok(())
}

async fn signing_out_elsewhere_signs_out_here<P: Foreign>(world: &World<P>) -> Result<()> {
    let (mut alice, mut bob) = (Browser::new(world, "alice"), Browser::new(world, "bob"));
    let session = alice.app(&at(SHOP, "/")).await?.session.expect("a session").id;
    bob.app(&at(SHOP, "/")).await?;
    alice.app(&at(WIKI, "/")).await?;
    let mut notices = world.sso.sessions().subscribe();
    let answer = alice.weft(Method::POST, &at(WIKI, "/.weft/logout"), &[("origin", &at(WIKI, ""))], b"").await;
    assert!(alice.ask(&at(SHOP, "/")).await.is_some(), "not before the provider says so");
    alice.open(answer.headers()[header::LOCATION].to_str()?).await?;
    let ended = tokio::time::timeout(world::PATIENCE, async {
        loop {
            match notices.next().await {
                Some(Notice::One(SessionEvent::Ended(id, end))) if id == session => return Some(end),
                Some(_) => {}
                None => return None,
            }
        }
    });
    assert_eq!(ended.await?, Some(End::ProviderLogout), "the back channel got {:?}", world.back_channel.answers());
    assert!(world.back_channel.answers().iter().all(|status| *status == StatusCode::OK), "{:?}", world.back_channel.answers());
    assert!(alice.ask(&at(SHOP, "/")).await.is_none());
    assert!(bob.ask(&at(SHOP, "/")).await.is_some(), "only who has signed out");
    Ok(())
}

async fn an_outage_breaks_new_sign_ins_only<P: Foreign>(world: &mut World<P>) -> Result<()> {
    let mut alice = Browser::new(world, "alice");
    alice.app(&at(SHOP, "/")).await?;
    let groups = alice.ask(&at(SHOP, "/")).await.expect("signed in").person.groups;
    world.provider.stop().await?;
    for restarted in [false, true] {
        if restarted {
            world.restart_gateway()?;
            alice.follow(world);
        }
        for _ in 0..5 {
            world.pass(OUTAGE_STEP_SECONDS);
            assert_eq!(alice.ask(&at(SHOP, "/")).await.expect("a session goes on").person.groups, groups);
        }
        // Another app of the same session needs no provider either.
        alice.app(&at(STOCK, "/")).await?;
        alice.forget(STOCK);
        let mut stranger = Browser::new(world, "bob");
        let html = stranger.sent_away(&at(SHOP, "/")).await?;
        assert!(html.contains("can go on working"), "{html}");
    }
    world.provider.start().await?;
    // By itself: nobody is asked to do anything but to try again.
    world.pass(60);
    let mut stranger = Browser::new(world, "bob");
    stranger.app(&at(SHOP, "/")).await?;
    // Who stayed has a person taken anew, by the refresh token of before.
    world.provider.set_groups("alice", &["ops"]).await?;
    world.pass(world::REFRESH_SECONDS + 60);
    let deadline = tokio::time::Instant::now() + world::PATIENCE;
    loop {
        let Who::Identified(who) = alice.who(&at(SHOP, "/"), Access::SignedIn).await else { panic!("signed out by an outage") };
        if who.person.groups == ["ops"] {
            return Ok(());
        }
        assert!(tokio::time::Instant::now() < deadline, "still {:?}", who.person.groups);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
