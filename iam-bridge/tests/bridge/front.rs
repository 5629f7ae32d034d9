//! The front between the mesh and the provider: what it carries, what it leaves alone, and how it ends.

use std::{net::SocketAddr, os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    time::timeout,
};
use weft_api::{
    bridge::v1::{AddUserRequest, RemoveUserRequest, users_client::UsersClient},
    connect_unix,
};
use weft_iam_bridge::{
    Bound, Front,
    config::{ClientConfig, FrontConfig, Listen, ProviderConfig},
    start, start_front,
};

use crate::{
    provider::{Browser, PASSWORD, code_of, exchange_at},
    support::{DEADLINE, World},
};

const ISSUER: &str = "https://id.apps.corp.example";

/// A bridge whose provider listens on a socket, a front beside it, and a gateway's back channel.
struct Stand {
    world: World,
    front: Option<Front>,
    backchannel: TcpListener,
}

fn bridge_config(world: &World) -> weft_iam_bridge::Config {
    let dir = world.dir.path();
    let mut config = world.config();
    config.provider = Some(ProviderConfig {
        listen: Listen::Socket(dir.join("provider.sock")),
        out_socket: Some(dir.join("out.sock")),
        socket_group: None,
        issuer: ISSUER.into(),
        session_idle: Duration::from_secs(3600),
        session_life: Duration::from_secs(7200),
        token_ttl: Duration::from_secs(300),
        proxies: vec![],
        clients: vec![ClientConfig {
            id: "weft-gateway".into(),
            secret_file: None,
            redirect_uris: vec!["https://portal.apps.corp.example/.weft/callback".into()],
            post_logout_redirect_uris: vec![],
            backchannel_logout_uri: Some("http://gateway.weft.weft.internal/.weft/backchannel-logout".into()),
            origins: vec![],
        }],
    });
    config
}

impl Stand {
    async fn new() -> Self {
        let mut world = World::new().await;
        world.bridge.take().unwrap().stop().await;
        world.bridge = Some(start(bridge_config(&world)).await.unwrap());
        let mut stand = Self { world, front: None, backchannel: TcpListener::bind("127.0.0.1:0").await.unwrap() };
        stand.front = Some(start_front(stand.front_config()).await.unwrap());
        stand
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    fn front_config(&self) -> FrontConfig {
        FrontConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            provider: self.path("provider.sock"),
            out: self.path("out.sock"),
            backchannel: self.backchannel.local_addr().unwrap().to_string(),
            log_level: "info".into(),
            log_format: weft_telemetry::LogFormat::Text,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.front.as_ref().unwrap().addr
    }

    /// Somebody who has signed in, so that a client has something to be told of.
    async fn signed_in(&self) {
        let mut users = UsersClient::new(connect_unix(self.path("bridge.sock")).await.unwrap());
        users.add(AddUserRequest { name: "alice".into(), groups: vec![], password: PASSWORD.into() }).await.unwrap();
        let secret = std::fs::read_to_string(self.world.config().state_dir.join("provider-client-weft-gateway.secret")).unwrap();
        let (code, verifier) = code_of(&mut Browser::default(), self.addr(), "weft-gateway", "alice").await;
        exchange_at(self.addr(), "weft-gateway", secret.trim(), &code, verifier).await;
    }

    async fn remove_alice(&self) {
        let mut users = UsersClient::new(connect_unix(self.path("bridge.sock")).await.unwrap());
        users.remove(RemoveUserRequest { name: "alice".into() }).await.unwrap();
    }

    /// The next thing that comes to the gateway's back channel.
    async fn told(&self) -> String {
        let heard = async {
            let (mut stream, _) = self.backchannel.accept().await.unwrap();
            let mut text = String::new();
            while !text.contains("logout_token=") {
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).await.unwrap();
                assert!(read > 0, "it ended after {text:?}");
                text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            text
        };
        timeout(DEADLINE, heard).await.expect("the gateway is told in time")
    }
}

#[tokio::test]
async fn people_sign_in_and_the_gateway_hears_of_the_end_through_the_front() {
    let stand = Stand::new().await;
    assert_eq!(stand.world.running().provider, Some(Bound::Socket(stand.path("provider.sock"))));
    for socket in ["provider.sock", "out.sock"] {
        assert_eq!(std::fs::metadata(stand.path(socket)).unwrap().mode() & 0o777, 0o600, "{socket}");
    }
    stand.signed_in().await;
    stand.remove_alice().await;
    let told = stand.told().await;
    assert!(told.starts_with("POST /.weft/backchannel-logout HTTP/1.1\r\nhost: gateway.weft.weft.internal\r\n"), "{told}");
}

#[tokio::test]
async fn a_front_that_comes_late_or_a_gateway_that_hangs_up_costs_a_token_nothing_but_time() {
    let mut stand = Stand::new().await;
    stand.signed_in().await;
    stand.front.take().unwrap().stop().await;
    stand.remove_alice().await;
    stand.front = Some(start_front(stand.front_config()).await.unwrap());
    drop(timeout(DEADLINE, stand.backchannel.accept()).await.unwrap().unwrap());
    assert!(stand.told().await.contains("logout_token="));
}

#[tokio::test]
async fn a_bridge_that_comes_again_is_found_again() {
    let mut stand = Stand::new().await;
    stand.signed_in().await;
    stand.world.bridge.take().unwrap().stop().await;
    for socket in ["provider.sock", "out.sock", "bridge.sock"] {
        assert!(!stand.path(socket).exists(), "{socket} is left");
    }
    let mut refused = TcpStream::connect(stand.addr()).await.unwrap();
    assert_eq!(timeout(DEADLINE, refused.read(&mut [0])).await.unwrap().unwrap_or(0), 0, "nobody answers");
    stand.world.bridge = Some(start(bridge_config(&stand.world)).await.unwrap());
    stand.remove_alice().await;
    assert!(stand.told().await.contains("logout_token="));
}

/// A provider that is no more than a socket: what arrives there, byte for byte.
struct Plain {
    _dir: tempfile::TempDir,
    provider: UnixListener,
    out: UnixListener,
    backchannel: TcpListener,
    front: Front,
}

impl Plain {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bind = |name: &str| UnixListener::bind(dir.path().join(name)).unwrap();
        let (provider, out) = (bind("p"), bind("o"));
        let backchannel = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = FrontConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            provider: dir.path().join("p"),
            out: dir.path().join("o"),
            backchannel: backchannel.local_addr().unwrap().to_string(),
            log_level: "info".into(),
            log_format: weft_telemetry::LogFormat::Text,
        };
        let front = start_front(config).await.unwrap();
        Self { _dir: dir, provider, out, backchannel, front }
    }

    async fn accepted(&self) -> UnixStream {
        timeout(DEADLINE, self.provider.accept()).await.unwrap().unwrap().0
    }
}

async fn all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let plain = Plain::new().await;
    let mut client = TcpStream::connect(plain.front.addr).await.unwrap();
    let mut provider = plain.accepted().await;
    client.write_all(b"asked").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(all(&mut provider).await, "asked");
    provider.write_all(b"answered late").await.unwrap();
    provider.shutdown().await.unwrap();
    assert_eq!(all(&mut client).await, "answered late");

    let (mut waits, _) = timeout(DEADLINE, plain.out.accept()).await.unwrap().unwrap();
    waits.write_all(b"told").await.unwrap();
    waits.shutdown().await.unwrap();
    let (mut gateway, _) = timeout(DEADLINE, plain.backchannel.accept()).await.unwrap().unwrap();
    assert_eq!(all(&mut gateway).await, "told");
    gateway.write_all(b"heard").await.unwrap();
    drop(gateway);
    assert_eq!(all(&mut waits).await, "heard");
}

#[tokio::test]
async fn the_gateway_is_dialled_only_when_the_bridge_has_something_to_say() {
    let plain = Plain::new().await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(timeout(DEADLINE, plain.out.accept()).await.unwrap().unwrap().0);
    }
    drop(waiting);
    // The front comes again; neither has dialled.
    let (mut waits, _) = timeout(DEADLINE, plain.out.accept()).await.unwrap().unwrap();
    waits.write_all(b"x").await.unwrap();
    let (mut gateway, _) = timeout(DEADLINE, plain.backchannel.accept()).await.unwrap().unwrap();
    drop(waits);
    assert_eq!(all(&mut gateway).await, "x", "the first connection that came is the one that was spoken to");
}

#[tokio::test]
async fn what_is_open_may_end_when_the_front_is_told_to_stop() {
    let plain = Plain::new().await;
    let addr = plain.front.addr;
    let mut client = TcpStream::connect(addr).await.unwrap();
    let mut provider = plain.accepted().await;
    client.write_all(b"asked").await.unwrap();
    let front = plain.front;
    let stopping = tokio::spawn(front.stop());
    // No new ones, as soon as the listener has been given up.
    let gone = async { while TcpStream::connect(addr).await.is_ok() {} };
    timeout(DEADLINE, gone).await.expect("new connections are refused");
    drop(client.shutdown().await);
    assert_eq!(all(&mut provider).await, "asked");
    provider.write_all(b"answered").await.unwrap();
    drop(provider);
    assert_eq!(all(&mut client).await, "answered");
    timeout(DEADLINE, stopping).await.unwrap().unwrap();
}
