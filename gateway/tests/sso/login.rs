//! Signing in: deep links, several tabs, one ticket per host, and what a link or another browser cannot do.

use http::{Method, StatusCode, header};
use serde_json::json;
use weft_gateway::sso::{Access, ClaimPath, Who};

use crate::{
    browser::{Browser, Seen, at, portal},
    provider::Provider,
    world::{AUTH, SHOP, STOCK, World, provider_config},
};

#[tokio::test]
async fn a_deep_link_leads_through_sign_in_to_where_it_meant() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let deep = at(SHOP, "/orders/7?view=full&x=%2F..");
    let who = browser.app(&deep).await;
    assert_eq!((who.person.user.as_str(), who.person.groups.as_slice()), ("alice", ["sales".to_owned()].as_slice()));
    assert_eq!(who.person.email.as_deref(), Some("alice@corp.example"));
    // Signed in once: the next app asks nobody.
    browser.trail.clear();
    browser.app(&at(STOCK, "/")).await;
    assert!(!browser.trail.iter().any(|url| url.starts_with(&world.provider.issuer())), "{:?}", browser.trail);
    browser.app(&portal("/")).await;
    // Nothing of the sign-ins is left over.
    let names: Vec<&str> = browser.jar.keys().map(|(_, name)| name.as_str()).filter(|name| !name.ends_with("-n")).collect();
    assert_eq!(names, ["__Host-weft"; 3], "{names:?}");
}

#[tokio::test]
async fn a_ticket_is_good_at_its_own_host_only() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    let shop = browser.ticket(SHOP).unwrap();
    assert_ne!(Some(&shop), browser.ticket(AUTH).as_ref());
    for (host, good) in [(SHOP, true), (STOCK, false), (AUTH, false)] {
        let mut thief = Browser::new(&world);
        thief.set_ticket(host, &shop);
        let who = thief.ask(&at(host, "/"), &[], Access::SignedIn).await;
        assert_eq!(matches!(who, Who::Identified(_)), good, "{host}: {who:?}");
    }
}

#[tokio::test]
async fn several_tabs_sign_in_at_once() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let tabs = [at(SHOP, "/one"), at(SHOP, "/two"), at(STOCK, "/three"), portal("/four")];
    let mut urls = tabs.clone();
    // Every tab takes one step at a time, so that all of them are at the provider at the same time.
    let mut arrived = vec![None; tabs.len()];
    for _ in 0..12 {
        for (tab, url) in urls.iter_mut().enumerate().filter(|(tab, _)| arrived[*tab].is_none()).collect::<Vec<_>>() {
            match browser.step(url).await {
                Ok(next) => *url = next,
                Err(seen) => match *seen {
                    Seen::App(at, who) => arrived[tab] = Some((at, who.session.unwrap().id)),
                    other => panic!("{other:?}"),
                },
            }
        }
    }
    let arrived: Vec<_> = arrived.into_iter().map(Option::unwrap).collect();
    assert_eq!(arrived.iter().map(|(at, _)| at.clone()).collect::<Vec<_>>(), tabs);
    assert!(arrived.iter().all(|(_, id)| *id == arrived[0].1), "one browser has one session: {arrived:?}");
}

#[tokio::test]
async fn another_tab_that_comes_back_late_goes_on_to_where_it_meant() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    // One tab stops at the provider.
    let mut url = at(SHOP, "/late");
    while !url.contains("/authorize") {
        url = browser.step(&url).await.unwrap();
    }
    let back = browser.step(&url).await.unwrap();
    browser.app(&at(SHOP, "/")).await;
    // Its cookie is gone, but somebody is signed in.
    browser.jar.retain(|(_, name), _| !name.contains("-tx-"));
    let seen = browser.open(&back).await;
    assert!(matches!(&seen, Seen::App(at, _) if *at == self::at(SHOP, "/late")), "{seen:?}");
    // So it is with a reload of an address that was used.
    let mut again = Browser::new(&world);
    again.app(&at(SHOP, "/used")).await;
    for used in again.trail.clone().iter().filter(|url| url.contains("/.weft/")) {
        let seen = again.open(used).await;
        assert!(matches!(&seen, Seen::App(at, _) if *at == self::at(SHOP, "/used")), "{used}: {seen:?}");
    }
}

#[tokio::test]
async fn nobody_is_signed_in_by_somebody_elses_link() {
    let world = World::new().await;
    let mut attacker = Browser::new(&world);
    // The attacker stops right before the callback, and right before the code is used.
    let mut url = at(SHOP, "/");
    while !url.contains("/.weft/callback") {
        url = attacker.step(&url).await.unwrap();
    }
    let callback = url.clone();
    let mut victim = Browser::new(&world);
    let (status, html) = victim.page(&callback).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("cannot be finished") && html.contains("Sign in"), "{html}");
    let enter = attacker.step(&callback).await.unwrap();
    assert!(enter.contains("/.weft/enter?code="));
    let (status, html) = victim.page(&enter).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("Allow cookies"), "{html}");
    assert_eq!(victim.ticket(SHOP), None);
    // Neither used it up: the control is the browser that began.
    assert!(matches!(attacker.open(&enter).await, Seen::App(_, _)));
}

#[tokio::test]
async fn a_code_is_good_once_for_one_host_and_thirty_seconds() {
    let world = World::new().await;
    let enter = async |browser: &mut Browser| {
        let mut url = at(SHOP, "/");
        while !url.contains("/.weft/enter") {
            url = browser.step(&url).await.unwrap();
        }
        url
    };
    for (case, seconds, host, good) in [("in time", 29, SHOP, true), ("too late", 30, SHOP, false), ("elsewhere", 0, STOCK, false)] {
        let mut browser = Browser::new(&world);
        let url = enter(&mut browser).await.replace(SHOP, host);
        // The cookie goes along, so that only the host differs.
        let cookies: Vec<_> =
            browser.jar.iter().filter(|((of, _), _)| of == SHOP).map(|((_, name), value)| ((host.to_owned(), name.clone()), value.clone())).collect();
        browser.jar.extend(cookies);
        world.time.pass(seconds);
        let answer = browser.weft(Method::GET, &url, &[], b"").await;
        browser.take(host, &answer);
        assert_eq!(browser.ticket(host).is_some(), good, "{case}");
        if good {
            let again = browser.weft(Method::GET, &url, &[], b"").await;
            let mut other = Browser::new(&world);
            other.take(host, &again);
            assert_eq!(other.ticket(host), None, "a code is good once");
        }
    }
}

#[tokio::test]
async fn no_sign_in_leads_to_a_host_that_is_not_ours() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&portal("/")).await;
    for (to, good) in
        [("https%3A%2F%2Fshop.localhost%3A8443%2Fx", true), ("https%3A%2F%2Fevil.example%3A8443%2F", false), ("//evil.example", false), ("", false)]
    {
        let answer = browser.weft(Method::GET, &portal(&format!("/.weft/start?to={to}")), &[], b"").await;
        assert_eq!(answer.headers().contains_key(header::LOCATION), good, "{to}");
        assert_eq!(answer.status() == StatusCode::BAD_REQUEST, !good, "{to}");
    }
    let twice = browser.weft(Method::GET, &portal("/.weft/start?to=https%3A%2F%2Fshop.localhost%3A8443%2F&to=https%3A%2F%2Fevil.example"), &[], b"").await;
    assert_eq!(twice.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_browser_without_cookies_gets_a_page_that_says_so_and_no_circle() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.keeps_cookies = false;
    let (status, html) = browser.page(&at(SHOP, "/")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("cannot be finished") || html.contains("Allow cookies"), "{html}");
    // A browser that loses only the ticket goes round a few times, and then is told.
    let mut browser = Browser::new(&world);
    for _ in 0..8 {
        browser.app(&at(SHOP, "/")).await;
        browser.jar.retain(|(host, name), _| host != SHOP || name != "__Host-weft");
    }
    let (status, html) = browser.page(&at(SHOP, "/")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(html.contains("round in circles") && html.contains("clock") && html.contains("Try again"), "{html}");
    // It is told once; then it may try again.
    browser.app(&at(SHOP, "/")).await;
}

#[tokio::test]
async fn only_page_navigations_are_redirected() {
    let world = World::new().await;
    let browser = Browser::new(&world);
    let check = async |fields: &[(&'static str, &str)], status: u16, redirected: bool| {
        let Who::Answer(answer) = browser.ask(&at(SHOP, "/"), fields, Access::SignedIn).await else { panic!("{fields:?}") };
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key(header::LOCATION)), (status, redirected), "{fields:?}");
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        answer
    };
    check(&[("sec-fetch-mode", "navigate")], 303, true).await;
    check(&[("accept", "text/html")], 303, true).await;
    let json = check(&[("sec-fetch-mode", "cors"), ("accept", "text/html")], 401, false).await;
    assert_eq!(json.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"weft\"");
    let body: serde_json::Value = serde_json::from_slice(json.body()).unwrap();
    assert_eq!(body["error"], "sign_in_required");
    assert_eq!(body["sign_in"], "https://portal.localhost:8443/.weft/start?to=https%3A%2F%2Fshop.localhost%3A8443%2F");
    let grpc = check(&[("content-type", "application/grpc")], 200, false).await;
    assert_eq!(grpc.headers()["grpc-status"], "16");
    assert!(matches!(browser.ask(&at(SHOP, "/"), &[("accept", "text/html")], Access::Public).await, Who::Anonymous));
}

#[tokio::test]
async fn no_header_says_where_a_request_goes_or_whose_it_is() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let leads_to = async |browser: &Browser, fields: &[(&'static str, &str)]| {
        let fields = [&[("sec-fetch-mode", "navigate")], fields].concat();
        let Who::Answer(answer) = browser.ask(&at(SHOP, "/x"), &fields, Access::SignedIn).await else { panic!("{fields:?}") };
        answer.headers()[header::LOCATION].to_str().unwrap().split("&bind=").next().unwrap().to_owned()
    };
    let expect = leads_to(&browser, &[]).await;
    for name in ["host", "x-forwarded-host", "x-original-url", "x-rewrite-url", "x-forwarded-uri", "x-forwarded-port", "x-forwarded-proto", "forwarded"] {
        assert_eq!(leads_to(&browser, &[(name, "evil.example")]).await, expect, "{name}");
    }
    browser.app(&at(SHOP, "/")).await;
    for name in ["x-forwarded-user", "x-remote-user", "remote-user", "x-auth-request-email", "x-forwarded-groups", "weft-assertion", "weft_assertion"] {
        assert_eq!(leads_to(&Browser::new(&world), &[(name, "root")]).await, leads_to(&Browser::new(&world), &[]).await);
        let Who::Identified(who) = browser.ask(&at(SHOP, "/"), &[(name, "root")], Access::SignedIn).await else { panic!("{name}") };
        assert_eq!((who.person.user.as_str(), who.person.groups.as_slice()), ("alice", ["sales".to_owned()].as_slice()), "{name}");
    }
}

#[tokio::test]
async fn an_answer_of_another_provider_than_was_asked_is_not_taken() {
    let world = World::new().await;
    for (iss, good) in [("", true), ("&iss=http%3A%2F%2F127.0.0.1%3A1", false), (&format!("&iss={}", world.provider.issuer()), true)] {
        let mut browser = Browser::new(&world);
        let mut url = at(SHOP, "/");
        while !url.contains("/.weft/callback") {
            url = browser.step(&url).await.unwrap();
        }
        let seen = browser.open(&format!("{url}{iss}")).await;
        assert_eq!(matches!(seen, Seen::App(..)), good, "{iss}: {seen:?}");
    }
}

#[tokio::test]
async fn a_preflight_is_never_asked_to_sign_in() {
    let world = World::new().await;
    let fields = [("origin", "https://other.example"), ("access-control-request-method", "PUT")];
    let headers = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    for (method, anonymous) in [(Method::OPTIONS, true), (Method::GET, false)] {
        let head = weft_gateway::sso::Head { method: &method, host: SHOP, path: "/", query: None, headers: &headers };
        let who = world.sso.identify(&head, Access::SignedIn).await;
        assert_eq!(matches!(who, Who::Anonymous), anonymous, "{method} {who:?}");
    }
}

#[tokio::test]
async fn of_several_cookies_with_the_tickets_name_each_is_tried() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    let good = browser.ticket(SHOP).unwrap();
    let stale = "A".repeat(43);
    for (cookies, found) in [
        (format!("__Host-weft={stale}; __Host-weft={good}"), true),
        (format!("__Host-weft={good}; __Host-weft=x; __Host-weft="), true),
        (format!("__Host-weft={stale}; __Host-weft=x"), false),
    ] {
        let fresh = Browser::new(&world);
        let who = fresh.ask(&at(SHOP, "/"), &[("cookie", &cookies)], Access::SignedIn).await;
        assert_eq!(matches!(who, Who::Identified(_)), found, "{cookies}");
    }
}

#[tokio::test]
async fn sessions_outlive_a_restart_and_end_by_idleness_and_age() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    browser.sso = world.restarted();
    let live = async |browser: &Browser| matches!(browser.ask(&at(SHOP, "/"), &[], Access::SignedIn).await, Who::Identified(_));
    assert!(live(&browser).await);
    world.time.pass(7199);
    assert!(live(&browser).await, "sliding: not idle for long enough");
    world.time.pass(7199);
    assert!(live(&browser).await);
    world.time.pass(7200);
    assert!(!live(&browser).await, "idle");
    browser.app(&at(SHOP, "/")).await;
    for _ in 0..6 {
        world.time.pass(7199);
        assert!(live(&browser).await);
    }
    world.time.pass(6);
    assert!(!live(&browser).await, "12 hours are over, however busy they were");
}

#[tokio::test]
async fn of_several_providers_a_person_chooses_one_and_claims_are_where_the_configuration_says() {
    let first = World::new().await;
    let second = Provider::start(first.time.clone()).await;
    second.set(|b| {
        b.claims = json!({"sub": "k1", "upn": "bob", "realm_access": {"roles": ["ops"]}}).as_object().unwrap().clone();
        b.more = json!({"email": "bob@corp.example", "realm_access": {"roles": ["not these"]}}).as_object().unwrap().clone();
    });
    let world = World::with(|config| {
        let mut other = provider_config("other", &second);
        other.claims.user = ClaimPath::new(["upn"]);
        other.claims.groups = vec![ClaimPath::new(["realm_access", "roles"])];
        config.providers.push(other);
    })
    .await;
    let mut browser = Browser::new(&world);
    let (status, html) = browser.page(&at(SHOP, "/x")).await;
    assert_eq!(status, StatusCode::OK);
    let choice = html.split("href=\"").nth(2).and_then(|rest| rest.split('"').next()).unwrap().replace("&amp;", "&");
    assert!(html.contains("Account at corp") && choice.contains("provider=other"), "{html}");
    let mut url = browser.step(&choice).await.unwrap();
    url = second.authorize(&url);
    let who = match browser.open(&url).await {
        Seen::App(at, who) if at == self::at(SHOP, "/x") => who,
        other => panic!("{other:?}"),
    };
    let person = &who.person;
    assert_eq!((person.provider.as_str(), person.user.as_str(), person.groups.as_slice()), ("other", "bob", ["ops".to_owned()].as_slice()));
    assert_eq!(person.email.as_deref(), Some("bob@corp.example"), "what the ID token lacks is asked for, and what it says stands");
}

#[tokio::test]
async fn other_providers_come_in_force_and_sessions_of_those_that_went_end() {
    let world = World::new().await;
    let second = Provider::start(world.time.clone()).await;
    let live = async |browser: &Browser| matches!(browser.ask(&at(SHOP, "/"), &[], Access::SignedIn).await, Who::Identified(_));
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    let corp = provider_config("corp", &world.provider);
    world.sso.reconfigure(&[corp.clone(), provider_config("other", &second)]).unwrap();
    assert!(live(&browser).await);
    assert!(world.sso.reconfigure(&[]).is_err());
    assert!(live(&browser).await, "what is refused changes nothing");
    // The same name, but somebody else who vouches: the same `sub` is another person there.
    world.sso.reconfigure(&[provider_config("corp", &second)]).unwrap();
    assert!(!live(&browser).await);
    world.sso.reconfigure(&[corp]).unwrap();
    assert!(!live(&browser).await);
    browser.app(&at(SHOP, "/")).await;
}

#[tokio::test]
async fn what_the_provider_says_of_a_failure_is_shown_as_text() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    let mut url = at(SHOP, "/");
    while !url.contains("/.weft/callback") {
        url = browser.step(&url).await.unwrap();
    }
    let state = url.split("state=").nth(1).unwrap();
    let (status, html) = browser.page(&portal(&format!("/.weft/callback?error=access_denied&error_description=%3Cscript%3Eno&state={state}"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(html.contains("access_denied") && html.contains("&lt;script&gt;no") && html.contains("https://shop.localhost:8443/"), "{html}");
}

#[tokio::test]
async fn a_persons_own_sessions_are_listed_and_ended_one_by_one() {
    let world = World::new().await;
    let (mut here, mut there) = (Browser::new(&world), Browser::new(&world));
    let mine = here.app(&at(SHOP, "/")).await;
    there.app(&at(STOCK, "/")).await;
    world.provider.claim("sub", json!("18"));
    let mut stranger = Browser::new(&world);
    let theirs = stranger.app(&at(SHOP, "/")).await;
    let sessions = world.sso.sessions();
    let listed = sessions.of("corp", "17", world.time.now()).unwrap();
    assert_eq!(listed.len(), 2);
    let now = world.time.now();
    let end = |id| sessions.end_own(&mine.person, id, weft_gateway::sso::End::Revoked, now).unwrap();
    assert!(!end(theirs.session.as_ref().unwrap().id), "another's session is none of mine");
    let other = listed.iter().map(|listed| listed.session.id).find(|id| *id != mine.session.as_ref().unwrap().id).unwrap();
    assert!(end(other));
    assert!(!end(other));
    let live = async |browser: &Browser, host| matches!(browser.ask(&at(host, "/"), &[], Access::SignedIn).await, Who::Identified(_));
    assert!(live(&here, SHOP).await && live(&stranger, SHOP).await && !live(&there, STOCK).await);
}

#[tokio::test]
async fn cookies_of_abandoned_sign_ins_do_not_pile_up() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    for tab in 0..40 {
        world.time.pass(61);
        let mut url = at(SHOP, &format!("/{tab}"));
        browser.jar.retain(|(_, name), _| !name.ends_with("-n"));
        while !url.contains("/authorize") {
            url = browser.step(&url).await.unwrap();
        }
        for host in [SHOP, AUTH] {
            let count = browser.jar.keys().filter(|(of, name)| of == host && name.contains("-tx-")).count();
            assert!(count <= 8, "{host}: {count}");
        }
    }
}
