//! Codes and refresh tokens: what they give, to whom, how often, and what a thief's use of one ends.

use super::*;
use crate::limits::provider as limits;

#[test]
fn a_code_gives_tokens_that_say_who_when_and_for_whom() {
    let mut world = World::with_alice();
    let code = world.code();
    let answer = world.token(&redemption(&code, &[]));
    assert_eq!((&answer.headers()["cache-control"], &answer.headers()["content-type"]), (&"no-store".parse().unwrap(), &"application/json".parse().unwrap()));
    let tokens = json(&answer);
    let (id, now) = (claims(&tokens["id_token"]), super::super::unix(world.now));
    for (claim, expect) in [("iss", ISSUER), ("aud", "portal"), ("nonce", "the nonce"), ("preferred_username", "alice"), ("name", "alice")] {
        assert_eq!(id[claim], expect, "{claim}");
    }
    assert_eq!((&id["iat"], &id["auth_time"], &id["exp"]), (&now.into(), &now.into(), &(now + 300).into()));
    assert_eq!(id["groups"], serde_json::json!(["sales"]));
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(id["at_hash"], B64.encode(&sha256(access.as_bytes())[..16]));
    assert_eq!(
        (tokens["token_type"].as_str(), tokens["expires_in"].as_u64(), tokens["scope"].as_str()),
        (Some("Bearer"), Some(300), Some("openid profile groups"))
    );
    let answer = world.userinfo(&tokens["access_token"]);
    let info = json(&answer);
    assert_eq!((info["sub"].as_str(), &info["groups"]), (id["sub"].as_str(), &id["groups"]));
}

#[test]
fn a_code_is_for_one_client_one_address_one_verifier_and_one_minute() {
    let mut world = World::with_alice();
    let code = world.code();
    world.redeem(&code);
    let short = &VERIFIER[..42];
    for (what, changes, error, status) in [
        ("another client", &[("client_id", "other"), ("client_secret", OTHER_SECRET)][..], "invalid_grant", 400),
        ("another address", &[("redirect_uri", "https://portal.apps.example/cb?tenant=a")], "invalid_grant", 400),
        ("another verifier", &[("code_verifier", "1123456789-0123456789-0123456789-0123456789")], "invalid_grant", 400),
        ("a short verifier", &[("code_verifier", short)], "invalid_grant", 400),
        ("no verifier", &[("code_verifier", "")], "invalid_request", 400),
        ("no address", &[("redirect_uri", "")], "invalid_request", 400),
        ("no code", &[("code", "")], "invalid_request", 400),
        ("an invented code", &[("code", "0123456789")], "invalid_grant", 400),
        ("no grant type", &[("grant_type", "")], "invalid_request", 400),
        ("another grant type", &[("grant_type", "password")], "unsupported_grant_type", 400),
        ("another secret", &[("client_secret", OTHER_SECRET)], "invalid_client", 401),
        ("no secret", &[("client_secret", "")], "invalid_client", 401),
        ("an unknown client", &[("client_id", "nobody")], "invalid_client", 401),
    ] {
        let code = world.code();
        let answer = world.token(&redemption(&code, changes));
        assert_eq!((answer.status().as_u16(), json(&answer)["error"].as_str()), (status, Some(error)), "{what}");
        assert_eq!(answer.headers().contains_key("www-authenticate"), status == 401, "{what}");
        if error == "invalid_grant" && what != "an invented code" {
            assert_eq!(world.token(&redemption(&code, &[])).status(), 400, "{what}: it was shown once");
        }
    }
    let (late, in_time) = (world.code(), world.code());
    world.pass(59);
    world.redeem(&in_time);
    world.pass(1);
    assert_eq!(json(&world.token(&redemption(&late, &[])))["error"], "invalid_grant");
}

#[test]
fn a_client_may_prove_itself_in_a_header_and_only_in_one_way() {
    let mut world = World::with_alice();
    let basic = |secret: &str| vec![(header::AUTHORIZATION, format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("portal:{secret}"))))];
    let code = world.code();
    let body: Vec<(&str, &str)> = redemption(&code, &[]).into_iter().filter(|(n, _)| !n.starts_with("client")).collect();
    world.headers = basic("wrong");
    assert_eq!(world.token(&body).status(), 401);
    world.headers = basic(SECRET);
    assert_eq!(json(&world.token(&redemption(&code, &[])))["error"], "invalid_request", "both ways");
    assert_eq!(world.token(&body).status(), 200);
    world.headers.clear();
    let twice = format!("{}&grant_type=refresh_token", form_urlencoded::Serializer::new(String::new()).extend_pairs(redemption("x", &[])).finish());
    let mut request = world.request(Method::POST, "/token", Some(&[]));
    *request.body_mut() = twice.into();
    assert_eq!(json(&world.send(request))["error"], "invalid_request");
    let mut request = world.request(Method::POST, "/token", None);
    *request.body_mut() = "{}".into();
    assert_eq!(json(&world.send(request))["error"], "invalid_request");
}

#[test]
fn a_code_that_comes_again_takes_back_what_it_gave_and_nothing_else() {
    let mut world = World::with_alice();
    let (code, other) = (world.code(), world.tokens());
    let tokens = world.redeem(&code);
    assert_eq!(world.userinfo(&tokens["access_token"]).status(), 200);
    // However late, and after a restart too.
    world.pass(3000);
    world.restart();
    let fresh = json(&world.refresh(&tokens["refresh_token"]));
    assert_eq!(world.token(&redemption(&code, &[])).status(), 400);
    assert_eq!(world.userinfo(&fresh["access_token"]).status(), 401);
    assert_eq!(world.refresh(&fresh["refresh_token"]).status(), 400);
    assert_eq!(world.refresh(&other["refresh_token"]).status(), 200, "another login of the same person");
}

#[test]
fn a_refresh_token_is_replaced_and_its_next_use_ends_the_login() {
    let mut world = World::with_alice();
    let first = world.tokens();
    world.pass(200);
    let second = json(&world.refresh(&first["refresh_token"]));
    let (old, new) = (claims(&first["id_token"]), claims(&second["id_token"]));
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_eq!((&old["sub"], &old["auth_time"], &old["sid"], new.get("nonce")), (&new["sub"], &new["auth_time"], &new["sid"], None));
    assert!(new["iat"].as_i64() > old["iat"].as_i64());
    // One that is under way at the same time gets the same, so that it does not matter whose answer is kept.
    world.pass(30);
    let concurrent = json(&world.refresh(&first["refresh_token"]));
    assert_eq!(concurrent["refresh_token"], second["refresh_token"]);
    let third = json(&world.refresh(&second["refresh_token"]));
    // The one before the last is too old even now.
    assert_eq!(json(&world.refresh(&first["refresh_token"]))["error"], "invalid_grant");
    assert_eq!(world.refresh(&third["refresh_token"]).status(), 400, "the thief's and the owner's");
    assert_eq!(world.userinfo(&third["access_token"]).status(), 401);
}

#[test]
fn an_old_refresh_token_after_the_grace_is_a_theft() {
    let mut world = World::with_alice();
    for (wait, status) in [(30, 200), (31, 400)] {
        let first = world.tokens();
        let second = json(&world.refresh(&first["refresh_token"]));
        world.pass(wait);
        assert_eq!(world.refresh(&first["refresh_token"]).status(), status, "{wait}");
        assert_eq!(world.refresh(&second["refresh_token"]).status(), status, "{wait}");
    }
}

#[test]
fn a_refresh_token_is_its_clients_own_and_cannot_be_made() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    let token = tokens["refresh_token"].as_str().unwrap();
    let ask = |world: &mut World, token: &str, id: &str, secret: &str, scope: &str| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", id), ("client_secret", secret), ("scope", scope)];
        let answer = world.token(&form);
        json(&answer)["error"].as_str().map(str::to_owned)
    };
    let mut bytes = B64.decode(token).unwrap();
    // The next turn, which has not been given out.
    bytes[19] = 1;
    let next = B64.encode(&bytes);
    for (what, token, id, secret, scope, error) in [
        ("another client", token, "other", OTHER_SECRET, "", Some("invalid_grant")),
        ("another secret", token, "portal", OTHER_SECRET, "", Some("invalid_client")),
        ("the next turn", next.as_str(), "portal", SECRET, "", Some("invalid_grant")),
        ("a part", &token[..40], "portal", SECRET, "", Some("invalid_grant")),
        ("nonsense", "?", "portal", SECRET, "", Some("invalid_grant")),
        ("nothing", "", "portal", SECRET, "", Some("invalid_request")),
        ("a wider scope", token, "portal", SECRET, "openid offline_access", Some("invalid_scope")),
        ("a narrower scope", token, "portal", SECRET, "openid", None),
    ] {
        assert_eq!(ask(&mut world, token, id, secret, scope).as_deref(), error, "{what}");
    }
}

#[test]
fn tokens_live_as_long_as_the_session_and_access_tokens_a_little() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    assert_eq!(world.userinfo(&tokens["id_token"]).status(), 401, "an ID token is no access token");
    world.pass(299);
    assert_eq!(world.userinfo(&tokens["access_token"]).status(), 200);
    world.pass(1);
    let late = world.userinfo(&tokens["access_token"]);
    assert_eq!((late.status().as_u16(), late.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"weft\", error=\"invalid_token\""));
    let none = world.get("/userinfo");
    assert_eq!((none.status().as_u16(), none.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer realm=\"weft\""));
    // A client that refreshes keeps the session in use.
    let mut token = tokens["refresh_token"].clone();
    for _ in 0..3 {
        world.pass(3000);
        token = json(&world.refresh(&token))["refresh_token"].clone();
    }
    world.pass(3600);
    assert_eq!(world.refresh(&token).status(), 400, "unused for too long");
}

#[test]
fn groups_are_read_anew_each_time() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    let now = world.now;
    let change = super::super::group_change(None, &["support".into()], &["sales".into()]).unwrap();
    world.provider().set_groups("alice", change, now).unwrap();
    let expect = serde_json::json!(["support"]);
    assert_eq!(json(&world.userinfo(&tokens["access_token"]))["groups"], expect);
    let fresh = json(&world.refresh(&tokens["refresh_token"]));
    assert_eq!(claims(&fresh["id_token"])["groups"], expect);
    assert_eq!(claims(&world.tokens()["id_token"])["groups"], expect);
}

#[test]
fn at_their_bounds_codes_are_refused_and_the_oldest_grant_of_a_session_goes() {
    let mut world = World::with_alice();
    let first = world.tokens();
    for n in 0..limits::CODES_PER_SESSION_MAX {
        assert!(location(&world.get(&authorize(&[]))).1.contains_key("code"), "{n}");
    }
    let (to, said) = location(&world.get(&authorize(&[])));
    assert_eq!((to.as_str(), said["error"].as_str()), (CALLBACK, "temporarily_unavailable"));
    world.pass(60);
    let second = world.tokens();
    for _ in 0..limits::GRANTS_PER_SESSION_MAX - 1 {
        world.tokens();
    }
    assert_eq!(world.refresh(&first["refresh_token"]).status(), 400);
    assert_eq!(world.refresh(&second["refresh_token"]).status(), 200);
}
