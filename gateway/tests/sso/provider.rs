//! A small OpenID provider over HTTP/1.1 on 127.0.0.1: a good one, and one that lies in one way at a time.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    digest, hmac,
    rand::{self, SystemRandom},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, sync::Semaphore};
use url::{Url, form_urlencoded};

use crate::world::Time;

pub(crate) const CLIENT: &str = "weft";
pub(crate) const CLIENT_SECRET: &str = "a client secret";
pub(crate) const API: &str = "https://api.example";

/// How the provider lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    AlgNone,
    /// Signed with the client's secret.
    SharedSecret,
    /// Signed with the bytes of the public key as a shared secret.
    PublicKeyAsSecret,
    /// An elliptic-curve signature that says it is RSA.
    OtherKind,
    Audience,
    TwoAudiences,
    NoAudience,
    AuthorizedParty,
    Nonce,
    NoNonce,
    Issuer,
    Expired,
    /// Within a minute's leeway: no lie.
    AlmostExpired,
    FromTheFuture,
    AlmostFromTheFuture,
    NotYet,
    OtherKey,
    UnknownKey,
    Critical,
    NoIdToken,
    NoJson,
    Huge,
    Silent,
    Down,
    TooManyRequests,
    RefreshRefused,
    ClientUnknown,
    RefreshOfSomebodyElse,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) discovery: AtomicUsize,
    pub(crate) keys: AtomicUsize,
    pub(crate) codes: AtomicUsize,
    pub(crate) refreshes: AtomicUsize,
    pub(crate) userinfo: AtomicUsize,
}

pub(crate) struct Key {
    pub(crate) kid: String,
    pair: EcdsaKeyPair,
}

/// Who signs in next, and how the provider behaves.
pub(crate) struct Behaviour {
    pub(crate) lie: Lie,
    pub(crate) claims: Map<String, Value>,
    /// Claims that only userinfo says.
    pub(crate) more: Map<String, Value>,
    pub(crate) token_seconds: u64,
    pub(crate) keys: Vec<Arc<Key>>,
    pub(crate) with_refresh: bool,
    codes: HashMap<String, Grant>,
    refreshes: HashMap<String, Map<String, Value>>,
}

struct Grant {
    challenge: String,
    nonce: String,
    redirect: String,
}

pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    /// What it calls itself, when that is not its address.
    pub(crate) public: OnceLock<String>,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) counts: Counts,
    /// Refreshes are counted, and then wait for a permit; there are plenty, unless a test takes them away.
    pub(crate) refreshing: Semaphore,
    time: Time,
}

impl Key {
    pub(crate) fn make(kid: &str) -> Arc<Self> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        Arc::new(Self { kid: kid.to_owned(), pair })
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..65])})
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = encoded(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// Signed with what everybody knows of the key, as if it were a shared secret.
    pub(crate) fn confused(&self, claims: &Value) -> String {
        shared(self.pair.public_key().as_ref(), &json!({"alg": "HS256", "typ": "JWT", "kid": self.kid}), claims)
    }

    pub(crate) fn jwt(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "typ": "JWT", "kid": self.kid}), claims)
    }
}

impl Provider {
    pub(crate) async fn start(time: Time) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let claims =
            json!({"sub": "17", "preferred_username": "alice", "email": "alice@corp.example", "name": "Alice", "groups": ["sales"], "sid": "provider-sid"});
        let behaviour = Behaviour {
            lie: Lie::None,
            claims: claims.as_object().unwrap().clone(),
            more: Map::new(),
            token_seconds: 3600,
            keys: vec![Key::make("one")],
            with_refresh: true,
            codes: HashMap::new(),
            refreshes: HashMap::new(),
        };
        let provider = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            public: OnceLock::new(),
            behaviour: Mutex::new(behaviour),
            counts: Counts::default(),
            refreshing: Semaphore::new(1000),
            time,
        });
        let served = Arc::clone(&provider);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let provider = Arc::clone(&served);
                let service = service_fn(move |request| {
                    let provider = Arc::clone(&provider);
                    async move { Ok::<_, Infallible>(provider.answer(request).await) }
                });
                tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
            }
        });
        provider
    }

    pub(crate) fn issuer(&self) -> String {
        self.public.get().cloned().unwrap_or_else(|| format!("http://{}", self.address))
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(crate) fn lie(&self, lie: Lie) {
        self.set(|b| b.lie = lie);
    }

    pub(crate) fn claim(&self, name: &str, value: Value) {
        self.set(|b| drop(b.claims.insert(name.to_owned(), value)));
    }

    pub(crate) fn key(&self) -> Arc<Key> {
        Arc::clone(&self.behaviour.lock().unwrap().keys[0])
    }

    /// What a browser does at the provider: the person signs in at once. Returns where they are sent back to.
    pub(crate) fn authorize(&self, url: &str) -> String {
        let url = Url::parse(url).unwrap();
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!((url.path(), query["client_id"].as_str(), query["response_type"].as_str()), ("/authorize", CLIENT, "code"));
        assert_eq!(query["code_challenge_method"], "S256");
        assert_eq!(query["scope"].split(' ').filter(|scope| *scope == "openid").count(), 1);
        let code = random();
        let grant = Grant { challenge: query["code_challenge"].clone(), nonce: query["nonce"].clone(), redirect: query["redirect_uri"].clone() };
        let back = format!("{}?code={code}&state={}", grant.redirect, query["state"]);
        self.set(|b| drop(b.codes.insert(code, grant)));
        back
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let lie = self.behaviour.lock().unwrap().lie;
        match lie {
            Lie::Down => return text(StatusCode::SERVICE_UNAVAILABLE, "{\"error\":\"invalid_grant\"}"),
            Lie::Silent => std::future::pending().await,
            _ => {}
        }
        let count = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::SeqCst);
        match request.uri().path() {
            "/.well-known/openid-configuration" => {
                count(&self.counts.discovery);
                json_answer(StatusCode::OK, &self.discovery())
            }
            "/jwks" => {
                count(&self.counts.keys);
                let keys: Vec<Value> = self.behaviour.lock().unwrap().keys.iter().map(|key| key.public()).collect();
                json_answer(StatusCode::OK, &json!({"keys": keys}))
            }
            "/token" => self.token(request, lie).await,
            "/userinfo" => {
                count(&self.counts.userinfo);
                let behaviour = self.behaviour.lock().unwrap();
                let mut claims = behaviour.more.clone();
                claims.entry("sub").or_insert_with(|| behaviour.claims["sub"].clone());
                json_answer(StatusCode::OK, &Value::Object(claims))
            }
            _ => text(StatusCode::NOT_FOUND, ""),
        }
    }

    fn discovery(&self) -> Value {
        let at = |path: &str| format!("{}{path}", self.issuer());
        json!({"issuer": self.issuer(), "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"), "jwks_uri": at("/jwks"),
            "userinfo_endpoint": at("/userinfo"), "end_session_endpoint": at("/logout"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256", "RS256", "HS256", "none"]})
    }

    async fn token(&self, request: Request<Incoming>, lie: Lie) -> Response<Full<Bytes>> {
        let authorized = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{CLIENT}:{}", CLIENT_SECRET.replace(' ', "+"))));
        let known = request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == authorized.as_str());
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let form: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
        let refused = |error: &str| json_answer(StatusCode::BAD_REQUEST, &json!({"error": error}));
        if !known || lie == Lie::ClientUnknown {
            return json_answer(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
        }
        match lie {
            Lie::Huge => return text(StatusCode::OK, &"x".repeat(3 << 20)),
            Lie::NoJson => return text(StatusCode::OK, "<html>"),
            Lie::TooManyRequests => return json_answer(StatusCode::TOO_MANY_REQUESTS, &json!({"error": "invalid_grant"})),
            _ => {}
        }
        if form["grant_type"] == "refresh_token" {
            self.counts.refreshes.fetch_add(1, Ordering::SeqCst);
            self.refreshing.acquire().await.unwrap().forget();
        }
        let mut behaviour = self.behaviour.lock().unwrap();
        let mut claims = behaviour.claims.clone();
        let mut nonce = None;
        if form["grant_type"] == "authorization_code" {
            self.counts.codes.fetch_add(1, Ordering::SeqCst);
            let Some(grant) = behaviour.codes.remove(&form["code"]) else { return refused("invalid_grant") };
            let verifier = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, form["code_verifier"].as_bytes()));
            if verifier != grant.challenge || form["redirect_uri"] != grant.redirect {
                return refused("invalid_grant");
            }
            nonce = Some(grant.nonce);
        } else {
            // Each refresh token is good once: a second refresh of the same session would be refused.
            let Some(before) = behaviour.refreshes.remove(&form["refresh_token"]) else { return refused("invalid_grant") };
            if lie == Lie::RefreshRefused {
                return refused("invalid_grant");
            }
            claims.insert("sub".to_owned(), before["sub"].clone());
            if lie == Lie::RefreshOfSomebodyElse {
                claims.insert("sub".to_owned(), json!("99"));
            }
        }
        let mut answer = json!({"access_token": random(), "token_type": "Bearer", "expires_in": behaviour.token_seconds});
        if lie != Lie::NoIdToken {
            answer["id_token"] = json!(self.id_token(&behaviour, claims.clone(), nonce, lie));
        }
        if behaviour.with_refresh {
            let refresh = random();
            answer["refresh_token"] = json!(refresh);
            behaviour.refreshes.insert(refresh, claims);
        }
        json_answer(StatusCode::OK, &answer)
    }

    fn id_token(&self, behaviour: &Behaviour, mut claims: Map<String, Value>, nonce: Option<String>, lie: Lie) -> String {
        let now = self.time.now();
        claims.extend(json!({"iss": self.issuer(), "aud": CLIENT, "iat": now, "exp": now + 300}).as_object().unwrap().clone());
        if let Some(nonce) = nonce {
            claims.insert("nonce".to_owned(), json!(nonce));
        }
        let mut set = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
        match lie {
            Lie::Audience => set("aud", json!("somebody-else")),
            Lie::TwoAudiences => set("aud", json!([CLIENT, "somebody-else"])),
            Lie::AuthorizedParty => set("azp", json!("somebody-else")),
            Lie::Nonce => set("nonce", json!("another")),
            Lie::Issuer => set("iss", json!("http://127.0.0.1:1")),
            Lie::Expired => set("exp", json!(now - 60)),
            Lie::AlmostExpired => set("exp", json!(now - 59)),
            Lie::AlmostFromTheFuture => {
                set("iat", json!(now + 60));
                set("nbf", json!(now + 60));
            }
            Lie::FromTheFuture => set("iat", json!(now + 61)),
            Lie::NotYet => set("nbf", json!(now + 61)),
            _ => {}
        }
        if lie == Lie::NoAudience {
            claims.remove("aud");
        }
        if lie == Lie::NoNonce {
            claims.remove("nonce");
        }
        let claims = Value::Object(claims);
        let key = &behaviour.keys[0];
        let header = |alg: &str| json!({"alg": alg, "typ": "JWT", "kid": key.kid});
        match lie {
            Lie::AlgNone => format!("{}.", encoded(&json!({"alg": "none", "typ": "JWT"}), &claims)),
            Lie::SharedSecret => shared(CLIENT_SECRET.as_bytes(), &header("HS256"), &claims),
            Lie::PublicKeyAsSecret => key.confused(&claims),
            Lie::OtherKind => key.sign(&header("RS256"), &claims),
            Lie::OtherKey => Key::make(&key.kid).jwt(&claims),
            Lie::UnknownKey => Key::make("unknown").jwt(&claims),
            Lie::Critical => key.sign(&json!({"alg": "ES256", "kid": key.kid, "crit": ["exp"], "exp": 1}), &claims),
            _ => key.jwt(&claims),
        }
    }
}

fn encoded(header: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

pub(crate) fn shared(secret: &[u8], header: &Value, claims: &Value) -> String {
    let text = encoded(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

pub(crate) fn unsigned(claims: &Value) -> String {
    format!("{}.", encoded(&json!({"alg": "none"}), claims))
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    Response::builder().status(status).header(header::CONTENT_TYPE, "application/json").body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

pub(crate) fn random() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).unwrap();
    URL_SAFE_NO_PAD.encode(bytes)
}
