//! API clients: bearer tokens that are believed, those that are not, and never two credentials at once.

use http::header;
use serde_json::{Value, json};
use weft_gateway::sso::{Access, Answer, Who};

use crate::{
    browser::{Browser, at},
    provider::{API, CLIENT_SECRET, Key, shared, unsigned},
    world::{SHOP, World},
};

fn claims(world: &World, change: &Value) -> Value {
    let now = world.time.now();
    let mut claims = json!({"iss": world.provider.issuer(), "aud": API, "sub": "robot", "iat": now, "exp": now + 300, "groups": ["ci"]});
    for (name, value) in change.as_object().unwrap() {
        if value == "absent" {
            claims.as_object_mut().unwrap().remove(name)
        } else {
            claims.as_object_mut().unwrap().insert(name.clone(), value.clone())
        };
    }
    claims
}

async fn ask(world: &World, authorization: &str, access: Access) -> Who {
    Browser::new(world).ask(&at(SHOP, "/"), &[("authorization", authorization)], access).await
}

async fn refusal(world: &World, authorization: &str) -> Option<Answer> {
    match ask(world, authorization, Access::SignedIn).await {
        Who::Identified(who) => {
            assert_eq!((who.person.user.as_str(), who.person.groups.as_slice(), who.session.is_none()), ("robot", ["ci".to_owned()].as_slice(), true));
            None
        }
        Who::Answer(answer) => {
            assert!(matches!(ask(world, authorization, Access::Public).await, Who::Anonymous), "{authorization}");
            Some(*answer)
        }
        Who::Anonymous => panic!("anonymous"),
    }
}

#[tokio::test]
async fn a_token_for_this_audience_is_believed_and_no_other() {
    let world = World::new().await;
    let now = world.time.now();
    let key = world.provider.key();
    let signed = |change: Value| key.jwt(&claims(&world, &change));
    let with = |header: Value| key.sign(&header, &claims(&world, &json!({})));
    let good = json!({});
    for (token, believed) in [
        (signed(json!({})), true),
        (signed(json!({"aud": ["x", API]})), true),
        (signed(json!({"exp": now - 59})), true),
        (signed(json!({"nbf": now + 60, "iat": now + 60})), true),
        (with(json!({"alg": "ES256", "typ": "at+jwt", "kid": "one"})), true),
        (with(json!({"alg": "ES256", "kid": "one"})), true),
        (with(json!({"alg": "ES256"})), true),
        (signed(json!({"aud": "https://other.example"})), false),
        (signed(json!({"aud": "weft"})), false),
        (signed(json!({"aud": "absent"})), false),
        (signed(json!({"iss": "https://other.example"})), false),
        (signed(json!({"exp": now - 60})), false),
        (signed(json!({"exp": "absent"})), false),
        (signed(json!({"exp": "soon"})), false),
        (signed(json!({"nbf": now + 61})), false),
        (signed(json!({"nbf": "soon"})), false),
        (signed(json!({"iat": now + 61})), false),
        (signed(json!({"sub": "absent"})), false),
        (signed(json!({"nonce": "x"})), false),
        (signed(json!({"events": {}})), false),
        (with(json!({"alg": "ES256", "typ": "logout+jwt", "kid": "one"})), false),
        (with(json!({"alg": "ES256", "kid": "one", "crit": ["b64"], "b64": true})), false),
        (with(json!({"alg": "RS256", "kid": "one"})), false),
        (with(json!({"alg": "ES384", "kid": "one"})), false),
        (with(json!({"alg": "EdDSA", "kid": "one"})), false),
        (with(json!({"alg": "ES256", "kid": "unknown"})), false),
        (Key::make("one").jwt(&claims(&world, &good)), false),
        (shared(CLIENT_SECRET.as_bytes(), &json!({"alg": "HS256", "kid": "one"}), &claims(&world, &good)), false),
        (key.confused(&claims(&world, &good)), false),
        (unsigned(&claims(&world, &good)), false),
        ("an-opaque-token".to_owned(), false),
        ("a.b.c".to_owned(), false),
        (String::new(), false),
        (format!("{}x", signed(json!({}))), false),
        (signed(json!({"pad": "x".repeat(40_000)})), false),
    ] {
        let answer = refusal(&world, &format!("Bearer {token}")).await;
        assert_eq!(answer.is_none(), believed, "{token} {answer:?}");
        if let Some(answer) = answer {
            assert_eq!(
                (answer.status().as_u16(), answer.headers()[header::WWW_AUTHENTICATE].to_str().unwrap()),
                (401, "Bearer realm=\"weft\", error=\"invalid_token\"")
            );
        }
    }
    assert!(refusal(&world, &format!("bEARER  {}", signed(json!({})))).await.is_none());
}

#[tokio::test]
async fn tokens_of_strangers_make_nobody_ask_the_provider_again_and_again() {
    let world = World::new().await;
    let keys = || world.provider.counts.keys.load(std::sync::atomic::Ordering::SeqCst);
    let good = format!("Bearer {}", world.provider.key().jwt(&claims(&world, &json!({}))));
    assert!(refusal(&world, &good).await.is_none());
    for _ in 0..20 {
        world.time.pass(5);
        let unknown = Key::make("unknown").jwt(&claims(&world, &json!({})));
        assert!(refusal(&world, &format!("Bearer {unknown}")).await.is_some());
    }
    // At first, and at most every 30 of those 100 seconds.
    assert_eq!(keys(), 1 + 3);
}

#[tokio::test]
async fn without_a_configured_audience_no_token_is_believed() {
    let world = World::with(|config| config.providers[0].api_audiences.clear()).await;
    let token = world.provider.key().jwt(&claims(&world, &json!({})));
    assert!(refusal(&world, &format!("Bearer {token}")).await.is_some());
}

#[tokio::test]
async fn two_credentials_at_once_are_nobodys() {
    let world = World::new().await;
    let mut browser = Browser::new(&world);
    browser.app(&at(SHOP, "/")).await;
    let token = format!("Bearer {}", world.provider.key().jwt(&claims(&world, &json!({}))));
    let url = at(SHOP, "/");
    let both = [("authorization", token.as_str())];
    let Who::Answer(answer) = browser.ask(&url, &both, Access::SignedIn).await else { panic!("two credentials were taken") };
    assert_eq!(answer.status(), 400);
    assert!(matches!(browser.ask(&url, &both, Access::Public).await, Who::Anonymous));
    let two = [("authorization", token.as_str()), ("authorization", token.as_str())];
    let Who::Answer(answer) = Browser::new(&world).ask(&url, &two, Access::SignedIn).await else { panic!("two tokens were taken") };
    assert_eq!(answer.status(), 400);
    // An application's own token beside the session is its own business.
    for own in ["Bearer an-opaque-token", "Basic dTpw"] {
        let who = browser.ask(&url, &[("authorization", own)], Access::SignedIn).await;
        assert!(matches!(&who, Who::Identified(who) if who.person.user == "alice"), "{own}: {who:?}");
    }
}
