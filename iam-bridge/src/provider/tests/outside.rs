//! What everybody sees of the provider: its doors, its description, its keys.

use super::*;

#[test]
fn a_door_opens_to_its_own_methods_and_there_are_no_others() {
    let mut world = World::new();
    for (path, methods) in [
        ("/.well-known/openid-configuration", "GET, HEAD"),
        ("/jwks", "GET, HEAD"),
        ("/authorize", "GET, POST"),
        ("/userinfo", "GET, POST"),
        ("/logout", "GET, POST"),
        ("/login", "POST"),
        ("/token", "POST"),
        ("/logout/confirm", "POST"),
    ] {
        for method in [Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
            let request = world.request(method.clone(), path, None);
            let answer = world.send(request);
            assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, methods), "{method} {path}");
        }
        let request = world.request(if methods.contains("GET") { Method::GET } else { Method::POST }, path, None);
        assert_ne!(world.send(request).status(), 405, "{path}");
    }
    for path in ["/", "/jwks/", "/JWKS", "//jwks", "/.weft/", "/authorize/x"] {
        assert_eq!(world.get(path).status(), 404, "{path}");
    }
}

#[test]
fn its_description_names_its_doors_and_what_it_offers() {
    let mut world = World::new();
    let answer = world.get("/.well-known/openid-configuration");
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    let said = json(&answer);
    assert_eq!(said["issuer"], ISSUER);
    for door in ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "end_session_endpoint"] {
        let url = said[door].as_str().unwrap().to_owned();
        let path = url.strip_prefix(ISSUER).unwrap_or_else(|| panic!("{door}: {url}"));
        assert_ne!(world.get(path).status(), 404, "{door}");
    }
    for (field, expect) in
        [("response_types_supported", "code"), ("code_challenge_methods_supported", "S256"), ("id_token_signing_alg_values_supported", "ES256")]
    {
        assert_eq!(said[field], serde_json::json!([expect]), "{field}");
    }
}

#[test]
fn its_keys_are_public_halves_and_sign_across_a_rotation() {
    let mut world = World::with_alice();
    let kids = |world: &mut World| {
        let said = json(&world.get("/jwks"));
        let keys = said["keys"].as_array().unwrap().clone();
        assert!(keys.iter().all(|k| k.get("d").is_none() && k["alg"] == "ES256" && k["use"] == "sig"));
        keys.iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let signer = |token: &Value| {
        let head: Value = serde_json::from_slice(&B64.decode(token.as_str().unwrap().split('.').next().unwrap()).unwrap()).unwrap();
        head["kid"].as_str().unwrap().to_owned()
    };
    let first = kids(&mut world);
    assert_eq!([signer(&world.tokens()["id_token"])], *first);
    world.pass(90 * 86_400);
    let both = kids(&mut world);
    assert_eq!((both.len(), &both[0]), (2, &first[0]));
    let tokens = world.tokens();
    assert_eq!(signer(&tokens["id_token"]), first[0], "not before everybody could have learnt the new one");
    world.pass(86_400);
    assert_eq!(signer(&world.tokens()["id_token"]), both[1]);
    assert_eq!(kids(&mut world).len(), 2, "the former one is still published");
    world.pass(86_400);
    assert_eq!(kids(&mut world), both[1..]);
}
