//! The local provider over a real socket, asked by a relying party that nobody here wrote.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use openidconnect::{
    AccessTokenHash, AdditionalClaims, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest,
    HttpResponse, IssuerUrl, JsonWebKey as _, Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _,
    UserInfoClaims,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreGenderClaim, CoreIdToken, CoreIdTokenVerifier, CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreTokenResponse,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Code, transport::Channel};
use weft_api::{
    bridge::v1::{
        AddUserRequest, ListUsersRequest, RemoveUserRequest, SetUserDisabledRequest, SetUserGroupsRequest, SetUserPasswordRequest, users_client::UsersClient,
    },
    connect_unix,
};
use weft_iam_bridge::{
    Bound,
    config::{ClientConfig, Listen, ProviderConfig},
    start,
};

use crate::support::{DEADLINE, World};

const ISSUER: &str = "https://id.apps.corp.example";
const CALLBACK: &str = "https://portal.apps.corp.example/.weft/callback";
const BYE: &str = "https://portal.apps.corp.example/";
pub const PASSWORD: &str = "correct horse battery";

/// The issuer's name leads to a gateway; here, as the gateway does, its address is taken instead.
type Party = CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

#[derive(Debug, Clone, Deserialize, Serialize)]
struct Groups {
    groups: Vec<String>,
}

impl AdditionalClaims for Groups {}

/// A bridge with a provider.
struct Stand {
    world: World,
    addr: SocketAddr,
    backchannel: TcpListener,
}

impl Stand {
    async fn new() -> Self {
        let backchannel = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut world = World::new().await;
        world.bridge.take().unwrap().stop().await;
        let mut stand = Self { world, addr: "127.0.0.1:0".parse().unwrap(), backchannel };
        stand.start().await;
        stand
    }

    async fn start(&mut self) {
        let mut config = self.world.config();
        config.provider = Some(ProviderConfig {
            listen: Listen::Tcp("127.0.0.1:0".parse().unwrap()),
            out_socket: None,
            socket_group: None,
            issuer: ISSUER.into(),
            session_idle: Duration::from_secs(3600),
            session_life: Duration::from_secs(7200),
            token_ttl: Duration::from_secs(300),
            proxies: vec!["127.0.0.0/8".parse().unwrap()],
            clients: vec![ClientConfig {
                id: "gateway".into(),
                secret_file: None,
                redirect_uris: vec![CALLBACK.into()],
                post_logout_redirect_uris: vec![BYE.into()],
                backchannel_logout_uri: Some(format!("http://{}/.weft/backchannel-logout", self.backchannel.local_addr().unwrap())),
                origins: vec![],
            }],
        });
        let running = start(config).await.unwrap();
        let Some(Bound::Tcp(addr)) = running.provider else { panic!("{:?}", running.provider) };
        self.addr = addr;
        self.world.bridge = Some(running);
    }

    async fn users(&self) -> UsersClient<Channel> {
        UsersClient::new(connect_unix(self.world.dir.path().join("bridge.sock")).await.unwrap())
    }

    async fn add(&self, name: &str, groups: &[&str]) {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        let made = self.users().await.add(AddUserRequest { name: name.into(), groups, password: PASSWORD.into() }).await.unwrap().into_inner();
        assert_eq!(made.password, "", "one that was given is not given back");
    }

    fn secret(&self) -> String {
        std::fs::read_to_string(self.world.config().state_dir.join("provider-client-gateway.secret")).unwrap().trim().to_owned()
    }

    async fn party(&self) -> Party {
        let metadata = CoreProviderMetadata::discover_async(IssuerUrl::new(ISSUER.into()).unwrap(), &asks(self.addr)).await.unwrap();
        CoreClient::from_provider_metadata(metadata, ClientId::new("gateway".into()), Some(ClientSecret::new(self.secret())))
            .set_redirect_uri(RedirectUrl::new(CALLBACK.into()).unwrap())
    }

    /// The next logout token that the client is told.
    async fn told(&self) -> String {
        let heard = async {
            let (mut stream, _) = self.backchannel.accept().await.unwrap();
            let mut text = String::new();
            let mut buffer = [0; 4096];
            while !text.contains("logout_token=") || !text.ends_with(|c: char| c.is_ascii_alphanumeric() || "-_".contains(c)) || text.matches('.').count() < 3 {
                let read = stream.read(&mut buffer).await.unwrap();
                text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await.unwrap();
            assert!(text.starts_with("POST /.weft/backchannel-logout HTTP/1.1\r\n"), "{text}");
            text.split_once("logout_token=").unwrap().1.to_owned()
        };
        timeout(DEADLINE, heard).await.expect("the client is told in time")
    }
}

/// A request straight to an address, whatever host its URL names.
async fn send(addr: SocketAddr, request: HttpRequest) -> io::Result<HttpResponse> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    let (mut head, body) = request.into_parts();
    if let Some(host) = head.uri.host() {
        head.headers.insert(header::HOST, host.parse().unwrap());
    }
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let answer = sender.send_request(Request::from_parts(head, Full::new(Bytes::from(body)))).await.map_err(io::Error::other)?;
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, body.collect().await.map_err(io::Error::other)?.to_bytes().to_vec()))
}

fn asks(addr: SocketAddr) -> impl Fn(HttpRequest) -> std::pin::Pin<Box<dyn Future<Output = io::Result<HttpResponse>> + Send>> {
    move |request| Box::pin(send(addr, request))
}

/// A browser: cookies, and forms as they stand in a page.
#[derive(Default)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    async fn go(&mut self, addr: SocketAddr, uri: &str, form: Option<&[(&str, &str)]>) -> (u16, Option<String>, String) {
        let mut request = Request::builder().method(if form.is_some() { "POST" } else { "GET" }).uri(uri);
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        request = request.header(header::COOKIE, cookies.join("; "));
        if form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").header(header::ORIGIN, ISSUER);
        }
        let body = form.map(|f| form_urlencoded::Serializer::new(String::new()).extend_pairs(f).finish()).unwrap_or_default();
        let answer = send(addr, request.body(body.into_bytes()).unwrap()).await.unwrap();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let (name, value) = cookie.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.into(), value.into());
        }
        let to = answer.headers().get(header::LOCATION).map(|l| l.to_str().unwrap().to_owned());
        (answer.status().as_u16(), to, String::from_utf8(answer.into_body()).unwrap())
    }

    /// Through the login form, to where it leads.
    async fn login(&mut self, addr: SocketAddr, uri: &str, name: &str, password: &str) -> (u16, Option<String>) {
        let (status, _, page) = self.go(addr, uri, None).await;
        assert_eq!(status, 200, "{page}");
        let field = |name: &str| page.split_once(&format!("name=\"{name}\" value=\"")).unwrap().1.split_once('"').unwrap().0.replace("&amp;", "&");
        let (request, proof) = (field("request"), field("proof"));
        let form = [("request", request.as_str()), ("proof", &proof), ("username", name), ("password", password)];
        let (status, to, _) = self.go(addr, &format!("{ISSUER}/login"), Some(&form)).await;
        (status, to)
    }
}

fn answer(to: &str) -> BTreeMap<String, String> {
    let (base, query) = to.split_once('?').unwrap();
    assert_eq!(base, CALLBACK);
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// Through the login form to a code for a client of the gateway's addresses, with what proves that it is the asker's.
pub async fn code_of(browser: &mut Browser, addr: SocketAddr, client: &str, user: &str) -> (String, PkceCodeVerifier) {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("response_type", "code"), ("client_id", client), ("redirect_uri", CALLBACK), ("scope", "openid"), ("state", "s")])
        .extend_pairs([("code_challenge", challenge.as_str()), ("code_challenge_method", "S256")])
        .finish();
    let (status, to) = browser.login(addr, &format!("{ISSUER}/authorize?{query}"), user, PASSWORD).await;
    assert_eq!(status, 303);
    (answer(&to.unwrap())["code"].clone(), verifier)
}

/// What the code is worth.
pub async fn exchange_at(addr: SocketAddr, client: &str, secret: &str, code: &str, verifier: PkceCodeVerifier) {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", verifier.secret().as_str())])
        .extend_pairs([("client_id", client), ("client_secret", secret)])
        .finish();
    let request = Request::post(format!("{ISSUER}/token")).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = send(addr, request.body(form.into_bytes()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "{}", String::from_utf8_lossy(answer.body()));
}

struct Asked {
    url: String,
    state: CsrfToken,
    nonce: Nonce,
    verifier: PkceCodeVerifier,
}

fn ask(party: &Party) -> Asked {
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let request = party.authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random);
    let (url, state, nonce) = request.add_scope(Scope::new("groups".into())).set_pkce_challenge(challenge).url();
    Asked { url: url.to_string(), state, nonce, verifier }
}

async fn exchange(stand: &Stand, party: &Party, code: &str, verifier: PkceCodeVerifier) -> Result<CoreTokenResponse, String> {
    let request = party.exchange_code(AuthorizationCode::new(code.into())).unwrap().set_pkce_verifier(verifier);
    request.request_async(&asks(stand.addr)).await.map_err(|e| format!("{e:?}"))
}

fn checker(party: &Party) -> CoreIdTokenVerifier<'_> {
    party.id_token_verifier().set_allowed_algs([CoreJwsSigningAlgorithm::EcdsaP256Sha256])
}

/// What a token says, for claims that the relying party's types do not have; it was verified before.
fn said(token: &str) -> Value {
    serde_json::from_slice(&B64.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_relying_party_of_others_logs_in_refreshes_and_logs_out() {
    let stand = Stand::new().await;
    stand.add("alice", &["sales", "support"]).await;
    let party = stand.party().await;
    let (asked, mut browser) = (ask(&party), Browser::default());

    let (status, to) = browser.login(stand.addr, &asked.url, "Alice", PASSWORD).await;
    let said_back = answer(&to.unwrap());
    assert_eq!((status, &said_back["state"], said_back["iss"].as_str()), (303, asked.state.secret(), ISSUER));
    let tokens = exchange(&stand, &party, &said_back["code"], asked.verifier).await.unwrap();

    // Issuer, audience, expiry, signature and nonce are the relying party's to judge.
    let id: &CoreIdToken = tokens.id_token().unwrap();
    let claims = id.claims(&checker(&party), &asked.nonce).unwrap();
    assert_eq!(claims.preferred_username().unwrap().as_str(), "alice");
    assert!(id.claims(&checker(&party), &Nonce::new_random()).is_err(), "another nonce");
    let hash = AccessTokenHash::from_token(tokens.access_token(), id.signing_alg().unwrap(), id.signing_key(&checker(&party)).unwrap()).unwrap();
    assert_eq!(claims.access_token_hash(), Some(&hash));
    assert_eq!(said(&id.to_string())["groups"], serde_json::json!(["sales", "support"]));
    let sid = said(&id.to_string())["sid"].clone();

    // Who it is, and with which groups: as they are now.
    let change = SetUserGroupsRequest { name: "alice".into(), add: vec!["team".into()], ..SetUserGroupsRequest::default() };
    stand.users().await.set_groups(change).await.unwrap();
    let request = party.user_info(tokens.access_token().clone(), Some(claims.subject().clone())).unwrap();
    let info: UserInfoClaims<Groups, CoreGenderClaim> = request.request_async(&asks(stand.addr)).await.unwrap();
    assert_eq!(info.additional_claims().groups, ["sales", "support", "team"]);

    let fresh = party.exchange_refresh_token(tokens.refresh_token().unwrap()).unwrap().request_async(&asks(stand.addr)).await.unwrap();
    assert_ne!(fresh.refresh_token().unwrap().secret(), tokens.refresh_token().unwrap().secret());
    // OpenID Connect Core 1.0 section 12.2: a refreshed ID token has no nonce.
    let refreshed = fresh.id_token().unwrap().claims(&checker(&party), |nonce: Option<&Nonce>| nonce.is_none().then_some(()).ok_or("a nonce".into())).unwrap();
    assert_eq!((refreshed.subject(), refreshed.auth_time()), (claims.subject(), claims.auth_time()));

    // A second login asks for nothing; leaving ends it, and the client is told.
    let again = ask(&party);
    assert!(browser.go(stand.addr, &again.url, None).await.1.is_some_and(|to| answer(&to).contains_key("code")));
    let leave = form_urlencoded::Serializer::for_suffix(format!("{ISSUER}/logout?"), ISSUER.len() + 8)
        .append_pair("id_token_hint", &id.to_string())
        .append_pair("post_logout_redirect_uri", BYE)
        .finish();
    let (told, left) = tokio::join!(stand.told(), browser.go(stand.addr, &leave, None));
    assert_eq!((left.0, left.1.as_deref()), (303, Some(BYE)));
    assert_eq!((&said(&told)["sid"], said(&told)["sub"].as_str()), (&sid, Some(claims.subject().as_str())));
    let (signed, signature) = told.rsplit_once('.').unwrap();
    let verifier = checker(&party);
    let key = id.signing_key(&verifier).unwrap();
    assert!(key.verify_signature(&CoreJwsSigningAlgorithm::EcdsaP256Sha256, signed.as_bytes(), &B64.decode(signature).unwrap()).is_ok());
    assert_eq!(browser.go(stand.addr, &again.url, None).await.0, 200, "the form again");
    let dead = party.exchange_refresh_token(fresh.refresh_token().unwrap()).unwrap().request_async(&asks(stand.addr)).await;
    assert!(format!("{dead:?}").contains("invalid_grant"), "{dead:?}");
}

#[tokio::test]
async fn a_stolen_code_and_a_wrong_password_give_nothing() {
    let stand = Stand::new().await;
    stand.add("alice", &[]).await;
    let party = stand.party().await;
    let (asked, mut browser) = (ask(&party), Browser::default());
    assert_eq!(browser.login(stand.addr, &asked.url, "alice", "another password").await, (403, None));
    let code = answer(&browser.login(stand.addr, &asked.url, "alice", PASSWORD).await.1.unwrap())["code"].clone();
    let (_, other) = PkceCodeChallenge::new_random_sha256();
    assert!(exchange(&stand, &party, &code, other).await.unwrap_err().contains("invalid_grant"));
    let again = ask(&party);
    let code = answer(&browser.go(stand.addr, &again.url, None).await.1.unwrap())["code"].clone();
    assert!(exchange(&stand, &party, &code, again.verifier).await.is_ok(), "the control");
    let metrics = send(stand.world.running().metrics.unwrap(), Request::get("/metrics").body(vec![]).unwrap()).await.unwrap();
    let metrics = String::from_utf8(metrics.into_body()).unwrap();
    for outcome in ["granted", "refused"] {
        assert!(metrics.contains(&format!("weft_bridge_logins_total{{outcome=\"{outcome}\"}} 1\n")), "{metrics}");
    }
}

#[tokio::test]
async fn sessions_keys_secrets_and_users_outlive_a_restart() {
    let mut stand = Stand::new().await;
    stand.add("alice", &["sales"]).await;
    let party = stand.party().await;
    let (asked, mut browser) = (ask(&party), Browser::default());
    let code = answer(&browser.login(stand.addr, &asked.url, "alice", PASSWORD).await.1.unwrap())["code"].clone();
    let tokens = exchange(&stand, &party, &code, asked.verifier).await.unwrap();
    let secret = stand.secret();
    stand.world.bridge.take().unwrap().stop().await;
    stand.start().await;
    assert_eq!(stand.secret(), secret);
    let fresh = party.exchange_refresh_token(tokens.refresh_token().unwrap()).unwrap().request_async(&asks(stand.addr)).await.unwrap();
    // With the keys that the party learnt before.
    assert!(fresh.id_token().unwrap().claims(&checker(&party), |_: Option<&Nonce>| Ok(())).is_ok());
    assert!(browser.go(stand.addr, &ask(&party).url, None).await.1.is_some());
}

#[tokio::test]
async fn removing_a_user_is_told_to_clients_and_a_client_that_is_away_is_asked_again() {
    let stand = Stand::new().await;
    stand.add("alice", &[]).await;
    let party = stand.party().await;
    let (asked, mut browser) = (ask(&party), Browser::default());
    let code = answer(&browser.login(stand.addr, &asked.url, "alice", PASSWORD).await.1.unwrap())["code"].clone();
    exchange(&stand, &party, &code, asked.verifier).await.unwrap();
    stand.users().await.remove(RemoveUserRequest { name: "alice".into() }).await.unwrap();
    // The first time it hangs up.
    drop(timeout(DEADLINE, stand.backchannel.accept()).await.unwrap().unwrap());
    let told = stand.told().await;
    assert!(said(&told)["events"].is_object());
    assert_eq!(browser.go(stand.addr, &ask(&party).url, None).await.0, 200, "the form");
}

#[tokio::test]
async fn what_comes_over_the_socket_is_bounded() {
    let stand = Stand::new().await;
    let post = |bytes: usize| {
        let request = Request::post("/token").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        send(stand.addr, request.body(vec![b'a'; bytes]).unwrap())
    };
    assert_eq!(post(16 << 10).await.unwrap().status(), 401, "the control");
    assert_eq!(post((16 << 10) + 1).await.unwrap().status(), 413);
    let head = |bytes: usize| send(stand.addr, Request::get("/jwks").header("x", "a".repeat(bytes)).body(vec![]).unwrap());
    assert_eq!(head(8 << 10).await.unwrap().status(), 200, "the control");
    assert_eq!(head(64 << 10).await.map_or(431, |a| a.status().as_u16()), 431);
    let mut many = Request::get("/jwks");
    for n in 0..100 {
        many = many.header(format!("x-{n}"), "1");
    }
    assert_eq!(send(stand.addr, many.body(vec![]).unwrap()).await.map_or(431, |a| a.status().as_u16()), 431);
}

#[tokio::test]
async fn a_bridge_without_a_provider_has_no_users_and_says_so() {
    let world = World::new().await;
    let mut users = UsersClient::new(connect_unix(world.dir.path().join("bridge.sock")).await.unwrap());
    let refused = users.list(ListUsersRequest {}).await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("[provider]")), (Code::FailedPrecondition, true));
    assert_eq!(world.running().provider, None);
}

#[tokio::test]
async fn users_are_administered_over_the_admin_socket() {
    let stand = Stand::new().await;
    let mut users = stand.users().await;
    let add = |name: &str, password: &str| AddUserRequest { name: name.into(), groups: vec!["sales".into()], password: password.into() };
    let made = users.add(add("alice", "")).await.unwrap().into_inner();
    let mut browser = Browser::default();
    let party = stand.party().await;
    assert_eq!(browser.login(stand.addr, &ask(&party).url, "alice", &made.password).await.0, 303, "the password that was made");
    let code = |answer: Result<_, tonic::Status>| answer.map(|_: tonic::Response<_>| ()).map_err(|s| s.code());
    assert_eq!(code(users.add(add("Alice", PASSWORD)).await), Err(Code::AlreadyExists));
    assert_eq!(code(users.add(add("bob", "short")).await), Err(Code::InvalidArgument));
    assert_eq!(code(users.add(add("b b", PASSWORD)).await), Err(Code::InvalidArgument));
    let absent = users.set_password(SetUserPasswordRequest { name: "bob".into(), password: String::new() }).await.unwrap_err();
    assert_eq!((absent.code(), absent.message()), (Code::NotFound, "there is no user bob: weft user list shows all"));
    let list = users.list(ListUsersRequest {}).await.unwrap().into_inner().users;
    assert_eq!((list.len(), list[0].name.as_str(), list[0].sessions, list[0].disabled), (1, "alice", 1, false));
    users.set_disabled(SetUserDisabledRequest { name: "alice".into(), disabled: true }).await.unwrap();
    let list = users.list(ListUsersRequest {}).await.unwrap().into_inner().users;
    assert_eq!((list[0].sessions, list[0].disabled), (0, true));
}
