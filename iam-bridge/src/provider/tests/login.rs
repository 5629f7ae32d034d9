//! The form: what it is bound to, how often it may fail, and what becomes of a session.

use super::*;
use crate::{limits::provider as limits, store::SessionRow};

/// The page, but for what differs in every form and for the name that was typed.
fn shape(answer: &Answer, name: &str) -> String {
    let page = text(answer);
    let (request, proof) = (hidden(&page, "request"), hidden(&page, "proof"));
    page.replace(&request.replace('&', "&amp;"), "REQUEST").replace(&proof, "PROOF").replace(&format!("value=\"{name}\""), "value=\"NAME\"")
}

#[test]
fn whatever_is_wrong_the_answer_and_the_work_are_the_same() {
    let mut world = World::with_alice();
    world.add("mallory", &[]);
    let now = world.now;
    world.provider().set_disabled("mallory", true, now).unwrap();
    let mut answers = Vec::new();
    for (name, password) in [("alice", "wrong password"), ("nobody", PASSWORD), ("mallory", PASSWORD), ("not a name", PASSWORD), ("alice", "")] {
        let form = world.form(&authorize(&[]), name, password);
        assert!(matches!(world.begin(&form), Step::Password(_)), "{name}: a password is looked at");
        let answer = world.post_form(&form);
        assert_eq!(answer.status(), 403, "{name}");
        assert!(!world.cookies.contains_key("__Host-id"), "{name}");
        answers.push(shape(&answer, name));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:#?}");
    assert!(answers[0].contains("do not fit together"));
    assert!(location(&world.login("ALICE")).1.contains_key("code"), "the control, in another case");
}

#[test]
fn a_form_is_bound_to_its_browser_and_its_request() {
    let mut world = World::with_alice();
    let form = world.form(&authorize(&[]), "alice", PASSWORD);
    let changed = |name: &str, value: &str| form.iter().map(|(n, v)| (n.clone(), if n == name { value.to_owned() } else { v.clone() })).collect::<Vec<_>>();
    let other = authorize(&[("state", Some("another"))]);
    let cookies = world.cookies.clone();
    for (what, form, cookies) in [
        ("no cookie", form.clone(), BTreeMap::new()),
        ("another browser's cookie", form.clone(), BTreeMap::from([("__Host-id-form-aaaaaaaa".to_owned(), "a".repeat(43))])),
        ("no proof", changed("proof", ""), cookies.clone()),
        ("another proof", changed("proof", &"A".repeat(43)), cookies.clone()),
        ("another request", changed("request", other.split_once('?').unwrap().1), cookies.clone()),
    ] {
        world.cookies = cookies;
        let answer = world.post_form(&form);
        assert_eq!(answer.status(), 400, "{what}");
        assert!(text(&answer).contains("open for too long") && !world.cookies.contains_key("__Host-id"), "{what}");
    }
    world.cookies = cookies;
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://id.apps.example", 403), (ISSUER, 303)] {
        world.headers = vec![(header::ORIGIN, origin.into())];
        assert_eq!(world.post_form(&form).status(), status, "{origin}");
    }
}

#[test]
fn a_form_is_bounded_and_carries_an_order_that_is_still_one() {
    let mut world = World::with_alice();
    let form = world.form(&authorize(&[]), "alice", PASSWORD);
    let with = |more: &[(&str, &str)]| {
        let mut form = form.clone();
        form.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        form
    };
    assert_eq!(world.post_form(&with(&[("username", "bob")])).status(), 400, "a field twice");
    assert_eq!(world.post_form(&with(&[("x", &"a".repeat(limits::FORM_MAX_BYTES))])).status(), 400, "too long");
    let foreign: Vec<_> = form.iter().map(|(n, v)| (n.clone(), v.replace("portal.apps", "evil.apps"))).collect();
    assert_eq!(world.post_form(&foreign).status(), 400, "an address that nobody registered");
    assert_eq!(world.post_form(&form).status(), 303, "the control");
}

#[test]
fn failures_are_rationed_by_name_whether_there_is_such_a_user_or_not() {
    let mut world = World::with_alice();
    world.add("bob", &[]);
    for name in ["alice", "nobody"] {
        let form = world.form(&authorize(&[]), name, PASSWORD);
        for n in 0..limits::USER_BURST {
            assert!(matches!(world.begin(&form), Step::Password(_)), "{name} {n}");
        }
        let answer = world.post_form(&form);
        assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "30"), "{name}: even with the right password");
        assert!(text(&answer).contains("Too many attempts"));
    }
    assert_eq!(world.login("bob").status(), 303, "another user");
    world.cookies.clear();
    world.pass(30);
    assert_eq!(world.login("alice").status(), 303, "one more after a while");
    world.cookies.clear();
    assert_eq!(world.login("alice").status(), 303, "and a login that succeeds costs none");
}

#[test]
fn failures_are_rationed_by_peer_and_another_peer_goes_on() {
    let mut world = World::with_alice();
    for n in 0..limits::PEER_BURST {
        let form = world.form(&authorize(&[]), &format!("user{n}"), "wrong password");
        assert!(matches!(world.begin(&form), Step::Password(_)), "{n}");
    }
    assert_eq!(world.login("alice").status(), 429);
    world.peer = "192.0.2.2";
    assert_eq!(world.login("alice").status(), 303);
}

#[test]
fn what_changed_while_the_password_was_looked_at_counts() {
    let mut world = World::with_alice();
    for change in ["nothing", "password", "disabled", "removed"] {
        let form = world.form(&authorize(&[]), "alice", PASSWORD);
        let Step::Password(pending) = world.begin(&form) else { panic!("no password is looked at") };
        let checked = pending.check();
        let now = world.now;
        let provider = world.provider();
        match change {
            "password" => drop(provider.set_password("alice", None, now).unwrap()),
            "disabled" => provider.set_disabled("alice", true, now).unwrap(),
            "removed" => provider.remove_user("alice", now).unwrap(),
            _ => {}
        }
        let answer = provider.finish(checked, now);
        assert_eq!(answer.status(), if change == "nothing" { 303 } else { 403 }, "{change}");
        // As it was, for the next.
        let _ = world.provider().remove_user("alice", now);
        world.add("alice", &[]);
    }
}

#[test]
fn a_login_gets_a_cookie_of_its_own_and_the_one_before_is_worth_nothing() {
    let mut world = World::with_alice();
    world.add("bob", &[]);
    let answer = world.login("alice");
    let cookie = answer.headers().get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).find(|c| c.starts_with("__Host-id=")).unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=86400"), "{cookie}");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let tokens = world.tokens();
    let first = world.cookies.clone();
    // The same person again: the session goes on under another cookie.
    let form = world.form(&authorize(&[("prompt", Some("login"))]), "alice", PASSWORD);
    world.post_form(&form);
    let second = world.cookies.clone();
    assert_ne!(first["__Host-id"], second["__Host-id"]);
    assert!(world.is_signed_in());
    assert_eq!(claims(&world.tokens()["id_token"])["sid"], claims(&tokens["id_token"])["sid"]);
    world.cookies = first;
    assert!(!world.is_signed_in());
    // Another person in the same browser: the session before is over, and its clients hear of it.
    world.cookies = second;
    let form = world.form(&authorize(&[("prompt", Some("login"))]), "bob", PASSWORD);
    world.post_form(&form);
    assert_eq!(world.provider().take_logouts().len(), 1);
    assert_eq!(world.refresh(&tokens["refresh_token"]).status(), 400);
    assert!(world.is_signed_in());
}

#[test]
fn a_session_ends_unused_and_at_the_latest() {
    let mut world = World::with_alice();
    world.login("alice");
    world.pass(3599);
    assert!(world.is_signed_in(), "used in time");
    world.pass(3599);
    assert!(world.is_signed_in(), "and again: use was noted");
    world.pass(3600);
    assert!(!world.is_signed_in(), "unused for too long");
    world.login("alice");
    for _ in 0..28 {
        world.pass(3000);
        assert!(world.is_signed_in());
    }
    world.pass(2399);
    assert!(world.is_signed_in(), "a second before the end");
    world.pass(1);
    assert!(!world.is_signed_in(), "a day after the password was typed");
}

#[test]
fn a_restart_keeps_sessions() {
    let mut world = World::with_alice();
    world.login("alice");
    world.restart();
    assert!(world.is_signed_in());
}

#[test]
fn at_the_bound_of_one_user_their_oldest_session_goes_and_at_the_bound_of_all_none_is_added() {
    let mut world = World::with_alice();
    world.add("bob", &[]);
    let now = super::super::unix(world.now);
    let subject = |world: &mut World, name: &str| world.provider().people.user(name).unwrap().unwrap().subject;
    let (alice, bob) = (subject(&mut world, "alice"), subject(&mut world, "bob"));
    let fill = |world: &mut World, subject: &str, count: usize| {
        let change = world.provider().people.change().unwrap();
        for n in 0..count {
            let sid = format!("{subject}-{n}");
            let age = if n == 0 { 1 } else { 0 };
            change.add_session(&SessionRow { cookie_hash: sha256(sid.as_bytes()), sid, subject: subject.into(), auth_at: now, seen_at: now - age }).unwrap();
        }
        change.commit().unwrap();
    };
    fill(&mut world, &alice, limits::SESSIONS_PER_USER_MAX);
    assert_eq!(world.login("alice").status(), 303);
    let held = world.provider().people.sessions_of(&alice).unwrap();
    assert_eq!((held.len(), held.iter().any(|s| s.sid == format!("{alice}-0"))), (limits::SESSIONS_PER_USER_MAX, false));
    fill(&mut world, &bob, limits::SESSIONS_MAX - limits::SESSIONS_PER_USER_MAX);
    world.cookies.clear();
    let answer = world.login("alice");
    assert_eq!(answer.status(), 503);
    assert!(text(&answer).contains("not possible just now"));
    world.pass(3601);
    assert_eq!(world.login("alice").status(), 303, "what is over makes room");
}
