//! How providers are called: an HTTP client is a parameter, and here is the usual one. Bounded in time and size; redirects are answers, never followed.

use std::{collections::HashMap, fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::limits;

pub type HttpFuture = Pin<Box<dyn Future<Output = Result<Response<Vec<u8>>, HttpError>> + Send>>;
/// Carries a request to a provider, and the whole answer back.
pub type HttpClient = Arc<dyn Fn(Request<Vec<u8>>) -> HttpFuture + Send + Sync>;

#[derive(Debug, Error)]
pub enum HttpError {
    #[error("{0} is no address that can be called")]
    Address(Uri),
    #[error("cannot connect to {host}")]
    Connect { host: String, source: std::io::Error },
    #[error("{host} does not speak HTTP as expected")]
    Exchange { host: String, source: hyper::Error },
    #[error("the answer of {host} breaks off, or is longer than {} bytes", limits::PROVIDER_ANSWER_MAX_BYTES)]
    Body { host: String },
    #[error("{host} did not answer within {} s", .after.as_secs())]
    Timeout { host: String, after: Duration },
    #[error("{host} answered {status}")]
    Status { host: String, status: http::StatusCode },
}

/// The usual client. `direct` names the authorities (`HOST:PORT`) that are dialled at another address in plain TCP: providers inside the mesh, whose
/// agent encrypts.
#[derive(Clone)]
pub struct Caller {
    pub tls: Arc<ClientConfig>,
    pub direct: HashMap<String, SocketAddr>,
    pub timeout: Duration,
}

impl Caller {
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls, direct: HashMap::new(), timeout: limits::PROVIDER_TIMEOUT }
    }

    pub fn client(self) -> HttpClient {
        Arc::new(move |request| {
            let caller = self.clone();
            Box::pin(async move {
                let host = request.uri().host().unwrap_or_default().to_owned();
                let after = caller.timeout;
                tokio::time::timeout(after, caller.call(request)).await.unwrap_or(Err(HttpError::Timeout { host, after }))
            })
        })
    }

    async fn call(self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, HttpError> {
        let bad = || HttpError::Address(request.uri().clone());
        let host = request.uri().host().ok_or_else(bad)?.trim_matches(['[', ']']).to_owned();
        let tls = match request.uri().scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad()),
        };
        let port = request.uri().port_u16().unwrap_or(if tls { 443 } else { 80 });
        let refused = |source| HttpError::Connect { host: host.clone(), source };
        if let Some(address) = self.direct.get(&format!("{host}:{port}")) {
            let stream = TcpStream::connect(address).await.map_err(refused)?;
            return exchange(stream, request, host).await;
        }
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(refused)?;
        if !tls {
            return exchange(stream, request, host).await;
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
        let stream = TlsConnector::from(self.tls).connect(name, stream).await.map_err(refused)?;
        exchange(stream, request, host).await
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("direct", &self.direct).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// One request on a connection of its own: providers are asked rarely.
async fn exchange<S>(stream: S, request: Request<Vec<u8>>, host: String) -> Result<Response<Vec<u8>>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |source| HttpError::Exchange { host: host.clone(), source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Ends with the sender, or with the peer.
    let driver = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(origin_form(request)?).await.map_err(broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, limits::PROVIDER_ANSWER_MAX_BYTES).collect().await.map_err(|_| HttpError::Body { host: host.clone() })?;
        Ok(Response::from_parts(head, body.to_bytes().to_vec()))
    };
    let answer = answer.await;
    driver.abort();
    answer
}

/// The path alone on the request line, the authority in Host (RFC 9112 section 3.2.1).
fn origin_form(request: Request<Vec<u8>>) -> Result<Request<Full<Bytes>>, HttpError> {
    let (mut head, body) = request.into_parts();
    let bad = |uri: &Uri| HttpError::Address(uri.clone());
    let authority = head.uri.authority().ok_or_else(|| bad(&head.uri))?.as_str().to_owned();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    head.headers.insert(header::HOST, authority.parse().map_err(|_| bad(&head.uri))?);
    head.uri = path.parse().map_err(|_| bad(&head.uri))?;
    Ok(Request::from_parts(head, Full::new(Bytes::from(body))))
}
