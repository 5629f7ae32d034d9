//! Leaving: at the client's word, at the person's own, and never at a stranger's; who is told.

use super::*;

fn leave(params: &[(&str, &str)]) -> String {
    format!("/logout?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish())
}

#[test]
fn a_client_that_shows_its_token_ends_the_login_and_every_client_hears_of_it() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    let id = claims(&tokens["id_token"]);
    let path = leave(&[("id_token_hint", tokens["id_token"].as_str().unwrap()), ("post_logout_redirect_uri", BYE), ("state", "s 1")]);
    // Whether the token has expired is no question.
    world.pass(3000);
    let answer = world.get(&path);
    let (to, said) = location(&answer);
    assert_eq!((to.as_str(), said["state"].as_str()), (BYE, "s 1"));
    assert!(!world.cookies.contains_key("__Host-id") && !world.is_signed_in());
    assert_eq!(world.refresh(&tokens["refresh_token"]).status(), 400);
    let told = world.provider().take_logouts();
    assert_eq!((told.len(), told[0].client.as_str(), told[0].uri.as_str()), (1, "portal", "http://portal.internal/backchannel"));
    assert!(!format!("{told:?}").contains(&told[0].token));
    // OpenID Connect Back-Channel Logout 1.0 section 2.4.
    let token = Value::from(told[0].token.clone());
    let said = claims(&token);
    let head: Value = serde_json::from_slice(&B64.decode(told[0].token.split('.').next().unwrap()).unwrap()).unwrap();
    assert_eq!((head["typ"].as_str(), head["alg"].as_str()), (Some("logout+jwt"), Some("ES256")));
    assert_eq!((&said["iss"], &said["aud"], &said["sub"], &said["sid"]), (&ISSUER.into(), &"portal".into(), &id["sub"], &id["sid"]));
    assert_eq!(said["events"], serde_json::json!({ "http://schemas.openid.net/event/backchannel-logout": {} }));
    assert_eq!((said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), said.get("nonce")), (120, None));
    assert!(said["jti"].as_str().is_some_and(|j| j.len() == 22));
    // Once more: it is over already, and the answer is the same.
    assert_eq!(location(&world.get(&path)).0, BYE);
    assert!(world.provider().take_logouts().is_empty());
}

#[test]
fn nobody_is_led_to_an_address_that_was_not_registered_and_nothing_ends_for_it() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    let hint = tokens["id_token"].as_str().unwrap();
    for (what, params) in [
        ("another host", vec![("id_token_hint", hint), ("post_logout_redirect_uri", "https://evil.example/bye")]),
        ("a longer path", vec![("id_token_hint", hint), ("post_logout_redirect_uri", "https://portal.apps.example/bye/x")]),
        ("another client's", vec![("id_token_hint", hint), ("post_logout_redirect_uri", "https://other.apps.example/bye")]),
        ("no client", vec![("post_logout_redirect_uri", BYE)]),
        ("an unknown client", vec![("client_id", "nobody"), ("post_logout_redirect_uri", BYE)]),
        ("a token of another client", vec![("client_id", "other"), ("id_token_hint", hint)]),
        ("a token of nobody", vec![("id_token_hint", "e30.e30.e30"), ("post_logout_redirect_uri", BYE)]),
        ("a parameter twice", vec![("id_token_hint", hint), ("state", "1"), ("state", "2")]),
    ] {
        let answer = world.get(&leave(&params));
        assert_eq!((answer.status().as_u16(), answer.headers().get("location")), (400, None), "{what}");
        assert!(world.is_signed_in(), "{what}");
    }
    assert_eq!(location(&world.get(&leave(&[("id_token_hint", hint), ("post_logout_redirect_uri", BYE)]))).0, BYE, "the control");
}

#[test]
fn without_a_token_the_person_is_asked_and_another_site_cannot_answer() {
    let mut world = World::with_alice();
    world.login("alice");
    let path = leave(&[("client_id", "portal"), ("post_logout_redirect_uri", BYE), ("state", "s")]);
    let page = text(&world.get(&path));
    assert!(page.contains("Do you want to sign out") && world.is_signed_in());
    let (request, proof) = (hidden(&page, "request"), hidden(&page, "proof"));
    let foreign = request.replace("portal.apps", "evil.apps");
    for (what, request, proof, status) in
        [("no proof", &request, "", 200), ("another proof", &request, "AAAA", 200), ("another request", &foreign, proof.as_str(), 400)]
    {
        assert_eq!(world.post("/logout/confirm", &[("request", request), ("proof", proof)]).status(), status, "{what}");
        assert!(world.is_signed_in(), "{what}");
    }
    world.headers = vec![(header::ORIGIN, "https://evil.example".into())];
    assert_eq!(world.post("/logout/confirm", &[("request", &request), ("proof", &proof)]).status(), 403);
    world.headers.clear();
    assert!(world.is_signed_in());
    let answer = world.post("/logout/confirm", &[("request", &request), ("proof", &proof)]);
    assert_eq!(location(&answer).0, BYE);
    assert!(!world.is_signed_in());
}

#[test]
fn a_token_of_another_person_signs_nobody_out_unasked() {
    let mut world = World::with_alice();
    world.add("bob", &[]);
    let hers = world.tokens();
    world.cookies.clear();
    world.login("bob");
    let answer = world.get(&leave(&[("id_token_hint", hers["id_token"].as_str().unwrap())]));
    assert!(text(&answer).contains("Do you want to sign out"));
    assert!(world.is_signed_in());
    assert_eq!(world.refresh(&hers["refresh_token"]).status(), 200);
}

#[test]
fn a_client_without_the_browser_ends_the_login_that_its_token_names() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    world.cookies.clear();
    let path = leave(&[("id_token_hint", tokens["id_token"].as_str().unwrap())]);
    assert!(text(&world.get(&path)).contains("Signed out"));
    assert_eq!(world.refresh(&tokens["refresh_token"]).status(), 400);
    assert!(text(&world.get("/logout")).contains("Signed out"), "and where there is nothing to end");
}
