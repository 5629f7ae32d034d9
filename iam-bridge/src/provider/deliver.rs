//! Brings logout tokens to the clients that they are for (OpenID Connect Back-Channel Logout 1.0 section 2.5): over plain HTTP, which the mesh carries.
//!
//! A client that cannot be reached loses nothing but time: what it holds can no longer be refreshed.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Logout, WayOut};
use crate::{config::GATEWAY_HOST, limits::provider as limits};

#[derive(Debug, Error)]
enum DeliverError {
    #[error("its address has no host")]
    Address,
    #[error(transparent)]
    Connect(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("it does not answer in time; for the gateway `weft-iam-bridge front` must run")]
    Slow,
    #[error("it answers {0}")]
    Status(StatusCode),
}

impl DeliverError {
    /// A client that looked at the token and did not like it will not like it better the next time.
    fn may_pass(&self) -> bool {
        !matches!(self, Self::Address | Self::Status(StatusCode::BAD_REQUEST))
    }
}

/// Delivers until told to stop.
pub(crate) async fn deliver(mut logouts: mpsc::Receiver<Logout>, out: Option<WayOut>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(limits::LOGOUTS_AT_ONCE));
    loop {
        let next = async { (slots.clone().acquire_owned().await, logouts.recv().await) };
        let Some((slot, Some(logout))) = stop.run_until_cancelled(next).await else { return };
        let (stop, out) = (stop.clone(), out.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(insist(&logout, out.as_ref())).await;
            drop(slot);
        });
    }
}

async fn insist(logout: &Logout, out: Option<&WayOut>) {
    let mut pause = limits::LOGOUT_PAUSE;
    for attempt in 1..=limits::LOGOUT_TRIES {
        let sent = timeout(limits::LOGOUT_TIMEOUT, post(logout, out)).await.unwrap_or(Err(DeliverError::Slow));
        match sent {
            Ok(()) => return debug!(client = logout.client, "the client knows that a session has ended"),
            Err(error) if !error.may_pass() || attempt == limits::LOGOUT_TRIES => {
                return warn!(client = logout.client, uri = logout.uri, %error, "the client is not told that a session has ended: it learns of it when it refreshes");
            }
            Err(error) => info!(client = logout.client, uri = logout.uri, %error, attempt, "the client cannot be told yet that a session has ended"),
        }
        sleep(pause).await;
        pause *= 2;
    }
}

async fn post(logout: &Logout, out: Option<&WayOut>) -> Result<(), DeliverError> {
    let uri: Uri = logout.uri.parse().map_err(|_| DeliverError::Address)?;
    let authority = uri.authority().ok_or(DeliverError::Address)?;
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(80);
    match out.filter(|_| host == GATEWAY_HOST && port == 80) {
        Some(out) => tell(out.take().await, logout, &uri, authority.as_str()).await,
        None => tell(TcpStream::connect((host, port)).await?, logout, &uri, authority.as_str()).await,
    }
}

async fn tell(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, logout: &Logout, uri: &Uri, authority: &str) -> Result<(), DeliverError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", &logout.token).finish();
    let request = Request::post(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| DeliverError::Address)?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
        // The specification has 200; some clients say it with 204.
        if answer.status().is_success() { Ok(()) } else { Err(DeliverError::Status(answer.status())) }
    };
    tokio::select! {
        answered = exchange => answered,
        ended = connection => Err(ended.map_or_else(DeliverError::Http, |()| DeliverError::Connect(io::ErrorKind::UnexpectedEof.into()))),
    }
}
