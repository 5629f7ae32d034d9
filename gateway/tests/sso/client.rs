//! The usual HTTP client: over TLS to whom the roots vouch for, and straight to a provider inside the mesh under its public name.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use weft_gateway::sso::HttpError;

use crate::{
    browser::{Browser, at},
    provider::Provider,
    world::{SHOP, Time, World, caller, config, open},
};

/// Answers with the request's target and Host, or sends elsewhere.
async fn tls_server() -> (u16, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(server.with_single_cert(vec![certificate.clone()], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            let service = service_fn(async |request: Request<Incoming>| {
                let text = format!("{} {}", request.uri(), request.headers()["host"].to_str().unwrap());
                let away = Response::builder().status(if request.uri().path() == "/away" { 302 } else { 200 }).header("location", "http://127.0.0.1:1/");
                Ok::<_, Infallible>(away.body(Full::new(Bytes::from(text))).unwrap())
            });
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    });
    (port, certificate)
}

#[tokio::test]
async fn only_who_is_vouched_for_is_asked_and_no_redirect_is_followed() {
    let (port, certificate) = tls_server().await;
    let get = |path: &str| Request::get(format!("https://localhost:{port}{path}")).body(Vec::new()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = caller(roots).client();
    let answer = trusting(get("/a?b=c")).await.unwrap();
    assert_eq!((answer.status(), answer.body().as_slice()), (StatusCode::OK, format!("/a?b=c localhost:{port}").as_bytes()));
    assert_eq!(trusting(get("/away")).await.unwrap().status(), StatusCode::FOUND);
    let distrusting = caller(RootCertStore::empty()).client();
    assert!(matches!(distrusting(get("/")).await, Err(HttpError::Connect { .. })));
    let other = Request::get("ftp://localhost/").body(Vec::new()).unwrap();
    assert!(matches!(trusting(other).await, Err(HttpError::Address(_))));
}

#[tokio::test]
async fn a_provider_inside_the_mesh_is_dialled_directly_under_its_public_name() {
    let world = World::new().await;
    let time = Time::start();
    let provider = Provider::start(time.clone()).await;
    provider.public.set("https://id.localhost:8443".to_owned()).unwrap();
    let mut caller = caller(RootCertStore::empty());
    caller.direct.insert("id.localhost:8443".to_owned(), provider.address);
    let dir = tempfile::tempdir().unwrap();
    let mut browser = Browser::new(&World { sso: open(&config(&provider, dir.path()), &time, caller), provider, time, dir: world.dir });
    assert_eq!(browser.app(&at(SHOP, "/")).await.person.user, "alice");
    assert!(browser.trail.iter().any(|url| url.starts_with("https://id.localhost:8443/authorize?")), "{:?}", browser.trail);
}
