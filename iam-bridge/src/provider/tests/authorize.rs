//! Who may ask, and where an answer goes.

use super::*;

#[test]
fn nothing_is_sent_to_an_address_that_nobody_registered() {
    let mut world = World::with_alice();
    world.login("alice");
    assert_eq!(location(&world.get(&authorize(&[]))).0, CALLBACK, "the control");
    for (what, path) in [
        ("no client", authorize(&[("client_id", None)])),
        ("another client", authorize(&[("client_id", Some("nobody"))])),
        ("another client's address", authorize(&[("client_id", Some("other"))])),
        ("no address", authorize(&[("redirect_uri", None)])),
        ("another host", authorize(&[("redirect_uri", Some("https://evil.example/.weft/callback"))])),
        ("a longer path", authorize(&[("redirect_uri", Some("https://portal.apps.example/.weft/callback/x"))])),
        ("a dot segment", authorize(&[("redirect_uri", Some("https://portal.apps.example/.weft/x/../callback"))])),
        ("a query", authorize(&[("redirect_uri", Some("https://portal.apps.example/.weft/callback?x=1"))])),
        ("a fragment", authorize(&[("redirect_uri", Some("https://portal.apps.example/.weft/callback#x"))])),
        ("other case", authorize(&[("redirect_uri", Some("https://PORTAL.apps.example/.weft/callback"))])),
        ("another scheme", authorize(&[("redirect_uri", Some("http://portal.apps.example/.weft/callback"))])),
        ("the client twice", format!("{}&client_id=portal&nonce=again", authorize(&[]))),
        ("the address twice", format!("{}&redirect_uri=https://evil.example", authorize(&[]))),
        ("too many parameters", format!("{}{}", authorize(&[]), "&x=1".repeat(40))),
        ("too long", authorize(&[("x", Some(&"a".repeat(9000)))])),
        ("no text", format!("{}&x=%ff", authorize(&[]))),
    ] {
        let answer = world.get(&path);
        assert_eq!((answer.status().as_u16(), answer.headers().get("location")), (400, None), "{what}");
    }
}

#[test]
fn a_client_hears_what_is_wrong_with_its_request() {
    let mut world = World::new();
    let long = "a".repeat(1025);
    for (name, value, error) in [
        ("response_type", Some("token"), "unsupported_response_type"),
        ("response_type", Some("code id_token"), "unsupported_response_type"),
        ("response_type", None, "invalid_request"),
        ("response_mode", Some("fragment"), "invalid_request"),
        ("scope", Some("profile"), "invalid_scope"),
        ("scope", None, "invalid_scope"),
        ("code_challenge", None, "invalid_request"),
        ("code_challenge", Some("short"), "invalid_request"),
        ("code_challenge", Some(VERIFIER), "invalid_request"),
        ("code_challenge_method", Some("plain"), "invalid_request"),
        ("code_challenge_method", None, "invalid_request"),
        ("prompt", Some("none login"), "invalid_request"),
        ("prompt", Some("perhaps"), "invalid_request"),
        ("max_age", Some("-1"), "invalid_request"),
        ("max_age", Some("soon"), "invalid_request"),
        ("request", Some("e30.e30."), "request_not_supported"),
        ("request_uri", Some("https://portal.apps.example/r"), "request_uri_not_supported"),
        ("nonce", Some(&long), "invalid_request"),
        ("prompt", Some("none"), "login_required"),
    ] {
        let (to, said) = location(&world.get(&authorize(&[(name, value)])));
        assert_eq!((to.as_str(), said.get("error").map(String::as_str)), (CALLBACK, Some(error)), "{name} {value:?}");
        assert_eq!((said["state"].as_str(), said["iss"].as_str(), said.get("code")), ("the state", ISSUER, None), "{name} {value:?}");
    }
    let (_, said) = location(&world.get(&format!("{}&nonce=again", authorize(&[]))));
    assert_eq!((said["error"].as_str(), said["state"].as_str()), ("invalid_request", "the state"));
    let (_, said) = location(&world.get(&format!("{}&state=again", authorize(&[]))));
    assert_eq!((said["error"].as_str(), said.get("state")), ("invalid_request", None));
    let (_, said) = location(&world.get(&authorize(&[("state", Some(&long))])));
    assert_eq!((said["error"].as_str(), said.get("state")), ("invalid_request", None));
    assert_eq!(world.get(&authorize(&[])).status(), 200, "the control: a login form");
}

#[test]
fn a_session_answers_unless_the_client_wants_more() {
    let mut world = World::with_alice();
    world.add("bob", &[]);
    let (to, said) = location(&world.login("alice"));
    assert_eq!((to.as_str(), said["state"].as_str(), said["iss"].as_str(), said["code"].len()), (CALLBACK, "the state", ISSUER, 43));
    let id = world.tokens()["id_token"].as_str().unwrap().to_owned();
    let mut answered = |changes: &[(&str, Option<&str>)]| world.get(&authorize(changes)).status() == 303;
    assert!(answered(&[]) && answered(&[("prompt", Some("consent"))]) && answered(&[("id_token_hint", Some(&id))]));
    for (name, value) in [("prompt", "login"), ("prompt", "select_account"), ("prompt", "consent login"), ("id_token_hint", "e30.e30.e30")] {
        assert!(!answered(&[(name, Some(value))]), "{name} {value}");
    }
    assert!(answered(&[("max_age", Some("1"))]) && !answered(&[("max_age", Some("0"))]));
    world.pass(60);
    let mut required = |age: &str| location(&world.get(&authorize(&[("max_age", Some(age)), ("prompt", Some("none"))]))).1.contains_key("error");
    assert!(!required("60") && required("59") && required("0"));
    // Another person's token is not answered by this session.
    world.cookies.clear();
    world.login("bob");
    let hinted = world.get(&authorize(&[("id_token_hint", Some(&id)), ("prompt", Some("none"))]));
    assert_eq!(location(&hinted).1["error"], "login_required");
}

#[test]
fn a_request_may_be_posted_and_an_address_keeps_its_own_query() {
    let mut world = World::with_alice();
    world.login("alice");
    let path = authorize(&[("redirect_uri", Some("https://portal.apps.example/cb?tenant=a"))]);
    let (_, query) = path.split_once('?').unwrap();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let (to, said) = location(&world.post("/authorize", &pairs));
    assert_eq!((to.as_str(), said["tenant"].as_str(), said.contains_key("code")), ("https://portal.apps.example/cb", "a", true));
}

#[test]
fn a_hint_fills_the_form_and_prompt_login_asks_again_and_ends() {
    let mut world = World::with_alice();
    let page = text(&world.get(&authorize(&[("login_hint", Some("alice"))])));
    assert!(page.contains("name=\"username\" type=\"text\" value=\"alice\""), "{page}");
    world.login("alice");
    let again = world.form(&authorize(&[("prompt", Some("login"))]), "alice", PASSWORD);
    assert!(location(&world.post_form(&again)).1.contains_key("code"), "no second question");
}
