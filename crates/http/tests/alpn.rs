//! Over TLS the handshake says which HTTP is spoken, and the first bytes change nothing.

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Backend, Forward, PATIENCE};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use weft_http::{Drain, Limits, Pool, PoolLimits, Server, Tcp, Wire};

struct Door {
    address: std::net::SocketAddr,
    roots: RootCertStore,
}

async fn door(backend: &Backend) -> Door {
    let made = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = Wire::ALPN.map(<[u8]>::to_vec).to_vec();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(Limits::default(), Drain::new());
    let forward = Forward {
        pool: Pool::new(Tcp, PoolLimits::default()),
        endpoint: backend.endpoint,
        revoked: tokio_util::sync::CancellationToken::new(),
        failures: Arc::default(),
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, server, forward) = (acceptor.clone(), server.clone(), forward.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if let Some(wire) = Wire::from_alpn(stream.get_ref().1.alpn_protocol()) {
                    let _ = server.serve(stream, wire, forward).await;
                }
            });
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    Door { address, roots }
}

async fn connect(door: &Door, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut config = ClientConfig::builder().with_root_certificates(door.roots.clone()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(door.address).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("shop.example").unwrap(), stream).await.unwrap()
}

#[tokio::test]
async fn the_handshake_decides() {
    let backend = Backend::start().await;
    let door = door(&backend).await;

    let stream = connect(&door, &[b"h2", b"http/1.1"]).await;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(Request::get("https://shop.example/x").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");

    for alpn in [&[b"http/1.1".as_slice()][..], &[]] {
        let mut stream = connect(&door, alpn).await;
        stream.write_all(b"GET /x HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut heard = String::new();
        // The end is said in TLS too, or this would be an error: a cut answer must not look like a whole one.
        timeout(PATIENCE, stream.read_to_string(&mut heard)).await.unwrap().unwrap();
        assert!(heard.starts_with("HTTP/1.1 200 OK\r\n") && heard.ends_with("ok"), "{heard}");
    }
    assert_eq!(backend.requests().len(), 3);

    // Who has agreed on HTTP/1.1 and sends the preface of HTTP/2 gets no HTTP/2.
    let mut stream = connect(&door, &[b"http/1.1"]).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut heard = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"");
    assert_eq!(backend.requests().len(), 3);
}
