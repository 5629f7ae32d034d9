//! The provider on a socket: HTTP/1.1 without TLS, for the gateway in front of it. It bounds, collects a body, and asks the core.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{Door, Logout, Provider, Step, respond};
use crate::limits::provider as limits;

/// The provider behind its lock, and the way to its clients.
#[derive(Clone)]
pub(crate) struct SharedProvider {
    provider: Arc<Mutex<Provider>>,
    logouts: mpsc::Sender<Logout>,
}

struct Server {
    provider: SharedProvider,
    /// Whose word about a peer's address is taken.
    proxies: Vec<IpNet>,
    passwords: Arc<Semaphore>,
}

impl SharedProvider {
    /// Logout tokens come out at the other end.
    pub(crate) fn new(provider: Provider) -> (Self, mpsc::Receiver<Logout>) {
        let (logouts, taken) = mpsc::channel(limits::LOGOUTS_MAX);
        (Self { provider: Arc::new(Mutex::new(provider)), logouts }, taken)
    }

    /// Runs `f` under the lock on a thread that may block, and sends off what it has to tell clients.
    pub(crate) async fn with<T: Send + 'static>(&self, f: impl FnOnce(&mut Provider) -> T + Send + 'static) -> T {
        let this = self.clone();
        let run = move || {
            let mut provider = this.lock();
            let value = f(&mut provider);
            for logout in provider.take_logouts() {
                if let Err(error) = this.logouts.try_send(logout) {
                    warn!(%error, "a logout token is not sent: the client learns of the end of a session when it refreshes");
                }
            }
            value
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(value) => value,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Provider> {
        // What lasts is in the database, where a change is whole or not there.
        self.provider.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until told to stop.
pub(crate) async fn serve(door: Door, provider: SharedProvider, proxies: Vec<IpNet>, stop: CancellationToken) {
    let server = Arc::new(Server { provider, proxies, passwords: Arc::new(Semaphore::new(limits::PASSWORDS_AT_ONCE)) });
    let (slots, tasks) = (Arc::new(Semaphore::new(limits::CONNECTIONS_MAX)), TaskTracker::new());
    loop {
        let next = async { (slots.clone().acquire_owned().await, door.accept().await) };
        match stop.run_until_cancelled(next).await {
            None => break,
            Some((slot, Ok((stream, peer)))) => {
                let (server, stop) = (server.clone(), stop.clone());
                tasks.spawn(async move {
                    server.serve(stream, peer, stop).await;
                    drop(slot);
                });
            }
            Some((_, Err(error))) => {
                // Out of descriptors, most likely: trying at once would only burn the processor.
                info!(%error, "cannot accept a connection to the provider");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

impl Server {
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin, peer: Option<IpAddr>, stop: CancellationToken) {
        let service = service_fn(move |request: Request<Incoming>| {
            let server = self.clone();
            async move { Ok::<_, Infallible>(server.answer(request, peer).await.map(Full::new)) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEAD_TIMEOUT)
            .max_headers(limits::HEADERS_MAX)
            .max_buf_size(limits::HEAD_MAX_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let lived = timeout(limits::CONNECTION_TTL, async {
            tokio::select! {
                ended = &mut connection => return ended,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            connection.await
        })
        .await;
        if let Ok(Err(error)) = lived {
            debug!(%error, "a connection to the provider failed");
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: Option<IpAddr>) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        let body = match timeout(limits::BODY_TIMEOUT, Limited::new(body, limits::FORM_MAX_BYTES).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return cut_off(StatusCode::PAYLOAD_TOO_LARGE),
            Ok(Err(_)) => return cut_off(StatusCode::BAD_REQUEST),
            Err(_) => return cut_off(StatusCode::REQUEST_TIMEOUT),
        };
        let peer = true_peer(&head.headers, peer, &self.proxies);
        let request = Request::from_parts(head, body);
        match self.provider.with(move |p| p.begin(&request, peer, SystemTime::now())).await {
            Step::Answer(answer) => answer,
            Step::Password(pending) => match timeout(limits::PASSWORD_WAIT, self.passwords.clone().acquire_owned()).await {
                Ok(Ok(slot)) => {
                    let finish = move |provider: &mut Provider, checked| provider.finish(checked, SystemTime::now());
                    let checked = tokio::task::spawn_blocking(move || {
                        let checked = pending.check();
                        drop(slot);
                        checked
                    });
                    match checked.await {
                        Ok(checked) => self.provider.with(move |p| finish(p, checked)).await,
                        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
                    }
                }
                _ => self.provider.with(move |p| p.busy(&pending)).await,
            },
        }
    }
}

/// The body cannot be read to its end, so that nothing can follow it on this connection.
fn cut_off(status: StatusCode) -> Response<Bytes> {
    let mut answer = respond::refused(status, "invalid_request", "the request's body is too long, too slow, or broken");
    answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    answer
}

/// The address that a request is rationed by: the peer's own, or what a proxy that the configuration names says it is, or whoever may open the unix
/// socket: the last entry, which is the proxy's own word, while those before it are anybody's.
fn true_peer(headers: &HeaderMap, peer: Option<IpAddr>, proxies: &[IpNet]) -> IpAddr {
    // Who says nothing there shares one ration.
    let named = peer.map(|p| p.to_canonical());
    let peer = named.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    if named.is_some() && !proxies.iter().any(|net| net.contains(&peer)) {
        return peer;
    }
    let last = headers.get_all("x-forwarded-for").iter().next_back().and_then(|v| v.to_str().ok());
    last.and_then(|v| v.rsplit(',').next()).and_then(|a| a.trim().parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_proxy_says_whose_request_it_is() {
        let said = |values: &[&str], peer: &str, proxies: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let proxies: Vec<IpNet> = proxies.iter().map(|p| p.parse().unwrap()).collect();
            true_peer(&headers, peer.parse().ok(), &proxies).to_string()
        };
        assert_eq!(said(&["192.0.2.1"], "10.0.0.1", &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(said(&["192.0.2.1"], "10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(said(&["192.0.2.1"], "11.0.0.1", &["10.0.0.0/8"]), "11.0.0.1");
        assert_eq!(said(&["192.0.2.9, 192.0.2.1"], "::ffff:10.0.0.1", &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(said(&["192.0.2.9", "192.0.2.1"], "10.0.0.1", &["10.0.0.0/8"]), "192.0.2.1");
        assert_eq!(said(&["someone"], "10.0.0.1", &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(said(&["192.0.2.9, 192.0.2.1"], "a socket", &[]), "192.0.2.1");
        assert_eq!(said(&[], "a socket", &["0.0.0.0/0"]), "0.0.0.0");
    }
}
