//! Clients: TLS to the gateway under any name, HTTP/1.1 and HTTP/2, and bytes as they are.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use url::Url;
use weft_gateway::CertificateFiles;

use crate::{
    socket::WebSocket,
    world::{PATIENCE, World},
};

pub(crate) type Body = BoxBody<Bytes, Infallible>;
pub(crate) type Tls = TlsStream<TcpStream>;

/// Who vouches for the gateway's certificates.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: AtomicUsize,
}

/// How a client says hello.
#[derive(Clone, Copy)]
pub(crate) struct Hello {
    pub(crate) alpn: &'static [&'static [u8]],
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
}

pub(crate) const H1: Hello = Hello { alpn: &[b"http/1.1"], versions: rustls::ALL_VERSIONS };
pub(crate) const H2: Hello = Hello { alpn: &[b"h2"], versions: rustls::ALL_VERSIONS };

/// A response that comes piece by piece.
pub(crate) struct Coming(pub(crate) http::Response<Incoming>);

impl Coming {
    /// The next piece. `None`: it has ended; an error: it broke off.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        let frame = timeout(PATIENCE, self.0.body_mut().frame()).await.expect("a piece, or the end")?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    pub(crate) async fn text(&mut self) -> String {
        String::from_utf8(self.piece().await.expect("a piece").expect("no break").to_vec()).unwrap()
    }
}

/// A request's body that the test sends piece by piece; it ends when the sender is dropped.
pub(crate) fn pieces() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (send, receive) = mpsc::channel(1);
    (send, StreamBody::new(ReceiverStream::new(receive).map(Ok)).boxed())
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(), issued: AtomicUsize::new(0) }
    }

    /// A certificate for these names, put where its files are at once.
    pub(crate) fn issue(&self, dir: &Path, name: &str, hosts: &[&str]) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = CertificateFiles { chain: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        let staged = dir.join(format!("staged-{}", self.issued.fetch_add(1, Ordering::Relaxed)));
        for (path, text) in [(&files.key, key.serialize_pem()), (&files.chain, certificate.pem())] {
            std::fs::write(&staged, text).unwrap();
            std::fs::rename(&staged, path).unwrap();
        }
        files
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }

    pub(crate) async fn connect(&self, to: SocketAddr, name: &str, hello: Hello) -> std::io::Result<Tls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(hello.versions).unwrap();
        let mut config = config.with_root_certificates(self.roots()).with_no_client_auth();
        config.alpn_protocols = hello.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("a handshake, or its end")
    }
}

impl Answer {
    pub(crate) async fn of(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, body.collect()).await.expect("a whole body").expect("a body that does not break off");
        let trailers = body.trailers().cloned();
        Self { status: head.status, version: head.version, headers: head.headers, body: body.to_bytes(), trailers }
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} in {self:?}")).to_str().unwrap()
    }

    pub(crate) fn flow(&self) -> &str {
        self.header("weft-flow")
    }
}

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// `https://HOST.corp.example:8443PATH`, in the form that hyper's clients of HTTP/1.1 want: the path alone, and the host beside it.
pub(crate) fn request(method: Method, url: &str, fields: &[(&str, &str)], body: Body) -> Request<Body> {
    let parsed = Url::parse(url).unwrap();
    let host = url.strip_prefix("https://").unwrap().split('/').next().unwrap();
    let path = url.split_once(host).unwrap().1;
    let mut request = Request::builder().method(method).uri(if path.is_empty() { "/" } else { path }).header("host", host);
    assert_eq!(parsed.scheme(), "https");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// The same for HTTP/2.
pub(crate) fn request2(method: Method, url: &str, fields: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(url).version(Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

impl World {
    pub(crate) async fn tls(&self, name: &str, hello: Hello) -> Tls {
        self.authority.connect(self.public(), name, hello).await.unwrap()
    }

    pub(crate) async fn h1(&self, name: &str) -> http1::SendRequest<Body> {
        let stream = self.tls(name, H1).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender
    }

    pub(crate) async fn h2(&self, name: &str) -> http2::SendRequest<Body> {
        let stream = self.tls(name, H2).await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// One request over a connection of its own.
    pub(crate) async fn ask(&self, method: Method, url: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let name = Url::parse(url).unwrap().host_str().unwrap().to_owned();
        let body = if body.is_empty() { empty() } else { full(body.to_owned()) };
        let response = self.h1(&name).await.send_request(request(method, url, fields, body));
        Answer::of(timeout(PATIENCE, response).await.expect("an answer").unwrap()).await
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        self.ask(Method::GET, url, &[], "").await
    }

    /// Bytes as they are, and all that comes back until the end.
    pub(crate) async fn raw(&self, name: &str, bytes: &[u8]) -> String {
        let mut stream = self.tls(name, H1).await;
        stream.write_all(bytes).await.unwrap();
        let mut heard = Vec::new();
        // Whoever closes without a goodbye of TLS has closed all the same.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("the end of the connection");
        String::from_utf8_lossy(&heard).into_owned()
    }

    /// A WebSocket, over whichever protocol; or what was answered instead.
    pub(crate) async fn websocket(&self, url: &str, fields: &[(&str, &str)], hello: Hello) -> Result<WebSocket, Box<Answer>> {
        let name = Url::parse(url).unwrap().host_str().unwrap().to_owned();
        let (response, opened) = if hello.alpn == H2.alpn {
            let mut sender = self.h2(&name).await;
            // Extended CONNECT may be asked for when the server has said that it takes it, which it has when it has answered.
            let before = Url::parse(url).unwrap().join("/before").unwrap();
            Answer::of(sender.send_request(request2(Method::GET, before.as_str(), &[], empty())).await.unwrap()).await;
            let mut request = request2(Method::CONNECT, url, fields, empty());
            request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
            (timeout(PATIENCE, sender.send_request(request)).await, StatusCode::OK)
        } else {
            let upgrade =
                [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
            let request = request(Method::GET, url, &[fields, &upgrade].concat(), empty());
            (timeout(PATIENCE, self.h1(&name).await.send_request(request)).await, StatusCode::SWITCHING_PROTOCOLS)
        };
        let response = response.expect("an answer").unwrap();
        if response.status() != opened {
            return Err(Box::new(Answer::of(response).await));
        }
        Ok(WebSocket::new(timeout(PATIENCE, hyper::upgrade::on(response)).await.expect("a switch").unwrap()))
    }

    /// Plain HTTP/1.1 to one of the gateway's other ports.
    pub(crate) async fn plain(&self, to: SocketAddr, request: Request<Body>) -> Option<Answer> {
        let stream = TcpStream::connect(to).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let response = timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").ok()?;
        Some(Answer::of(response).await)
    }

    pub(crate) async fn probe(&self, path: &str) -> Option<Answer> {
        let request = Request::get(path).header("host", "metrics").body(empty()).unwrap();
        self.plain(self.metrics(), request).await
    }

    /// The sum of a metric over all its labels that hold `of`.
    pub(crate) async fn metric_of(&self, name: &str, of: &str) -> f64 {
        let text = self.probe("/metrics").await.expect("metrics").text().to_owned();
        let mine = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(of);
        text.lines().filter(mine).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, "").await
    }
}
