//! Applications: each on an address of its own, with HTTP/1.1 at one port and HTTP/2 at another. They write down what they are sent.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    sync::{Semaphore, broadcast, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    client::{Body, empty, full},
    socket,
    world::{RPC_PORT, WEB_PORT, address},
};

pub(crate) struct App {
    pub(crate) address: Ipv4Addr,
    /// Heads of requests, in the order in which they came.
    pub(crate) heads: Mutex<Vec<Head>>,
    /// Requests at `/hang`, bytes of bodies that have come, and bytes that have gone at `/flood`.
    pub(crate) hanging: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) flooded: AtomicUsize,
    /// Event streams and WebSockets that are open.
    pub(crate) open: Arc<AtomicUsize>,
    /// What every event stream and WebSocket is sent.
    pub(crate) events: broadcast::Sender<String>,
    /// Answers at `/gate` wait for a permit.
    pub(crate) gate: Semaphore,
}

#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl App {
    pub(crate) async fn start() -> Arc<Self> {
        Self::at(WEB_PORT).await
    }

    /// With HTTP/1.1 at another port.
    pub(crate) async fn at(web: u16) -> Arc<Self> {
        let app = Arc::new(Self {
            address: address(),
            heads: Mutex::default(),
            hanging: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            flooded: AtomicUsize::new(0),
            open: Arc::default(),
            events: broadcast::channel(64).0,
            gate: Semaphore::new(0),
        });
        for port in [web, RPC_PORT] {
            let listener = TcpListener::bind(SocketAddr::new(app.address.into(), port)).await.unwrap();
            let app = Arc::clone(&app);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let app = Arc::clone(&app);
                    let service = service_fn(move |request| {
                        let app = Arc::clone(&app);
                        async move { Ok::<_, Infallible>(app.answer(request).await) }
                    });
                    tokio::spawn(async move {
                        let io = TokioIo::new(stream);
                        if port == web {
                            let _ = http1::Builder::new().serve_connection(io, service).with_upgrades().await;
                        } else {
                            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                        }
                    });
                }
            });
        }
        app
    }

    pub(crate) fn last(&self) -> Head {
        self.heads.lock().unwrap().last().cloned().expect("a request has come")
    }

    pub(crate) fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn count(&self) -> Counted {
        self.open.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(&self.open))
    }

    async fn answer(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<Body> {
        let target = request.uri().path_and_query().unwrap().to_string();
        let path = request.uri().path().to_owned();
        let head = Head { method: request.method().to_string(), target, headers: request.headers().clone() };
        self.heads.lock().unwrap().push(head.clone());
        match path.rsplit('/').next().unwrap() {
            "hang" => {
                self.hanging.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
            "gate" => {
                self.gate.acquire().await.unwrap().forget();
                Response::new(full("through"))
            }
            "sse" => self.events("text/event-stream"),
            "ws" => self.websocket(&mut request),
            "cookies" => cookies(),
            "duplex" | "Talk" => self.duplex(request),
            "Fail" => grpc_failure(),
            "flood" => self.flood(),
            "big" => Response::new(full(vec![b'x'; 300_000])),
            "break" => self.breaks_off(),
            _ => self.echo(&head, request).await,
        }
    }

    /// What came, as JSON.
    async fn echo(&self, head: &Head, request: Request<Incoming>) -> Response<Body> {
        let mut body = request.into_body();
        let (mut bytes, mut trailers) = (Vec::new(), Value::Null);
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(data) => {
                    self.bytes.fetch_add(data.len(), Ordering::SeqCst);
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => trailers = pairs(frame.trailers_ref().unwrap()),
            }
        }
        let answer = json!({"method": head.method, "target": head.target, "headers": pairs(&head.headers), "body": String::from_utf8_lossy(&bytes), "trailers": trailers,
            "at": self.address.to_string()});
        let mut response = Response::new(full(answer.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().insert("access-control-allow-origin", HeaderValue::from_static("*"));
        response
    }

    fn events(&self, kind: &'static str) -> Response<Body> {
        let (send, body) = channel();
        let (mut events, counted) = (self.events.subscribe(), self.count());
        tokio::spawn(async move {
            let _counted = counted;
            let _ = send.send(Frame::data(Bytes::from("data: hello\n\n"))).await;
            loop {
                tokio::select! {
                    event = events.recv() => {
                        let Ok(event) = event else { return };
                        if send.send(Frame::data(Bytes::from(format!("data: {event}\n\n")))).await.is_err() {
                            return;
                        }
                    }
                    () = send.closed() => return,
                }
            }
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    /// Says everything back, and what is to be said to all.
    fn websocket(self: &Arc<Self>, request: &mut Request<Incoming>) -> Response<Body> {
        let (upgrade, mut events, counted) = (hyper::upgrade::on(request), self.events.subscribe(), self.count());
        tokio::spawn(async move {
            let _counted = counted;
            let Ok(io) = upgrade.await else { return };
            let (mut from, mut to) = tokio::io::split(TokioIo::new(io));
            let talk = async {
                while let Some((opcode, payload)) = socket::read(&mut from).await {
                    if to.write_all(&socket::frame(opcode, &payload, false)).await.is_err() || opcode == socket::CLOSE {
                        return;
                    }
                }
            };
            tokio::select! {
                () = talk => {}
                _ = async { while events.recv().await.is_ok() {} } => {}
            }
        });
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "x")] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Without end, as fast as it is taken.
    fn flood(self: &Arc<Self>) -> Response<Body> {
        let (send, body) = channel();
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let piece = Bytes::from(vec![b'x'; 16 << 10]);
            while send.send(Frame::data(piece.clone())).await.is_ok() {
                app.flooded.fetch_add(piece.len(), Ordering::SeqCst);
            }
        });
        Response::new(body)
    }

    /// Says how much will come, and does not keep it.
    fn breaks_off(self: &Arc<Self>) -> Response<Body> {
        let (send, body) = channel();
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let _ = send.send(Frame::data(Bytes::from("half"))).await;
            app.gate.acquire().await.unwrap().forget();
        });
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("100000"));
        response
    }

    /// Each piece goes back before the next has come; trailers too, with a status of gRPC.
    fn duplex(&self, request: Request<Incoming>) -> Response<Body> {
        let (send, response) = channel();
        let (mut body, counted) = (request.into_body(), self.count());
        tokio::spawn(async move {
            let _counted = counted;
            let mut trailers = HeaderMap::new();
            while let Some(Ok(frame)) = body.frame().await {
                match frame.into_data() {
                    Ok(data) => {
                        if send.send(Frame::data(data)).await.is_err() {
                            return;
                        }
                    }
                    Err(frame) => trailers = frame.into_trailers().unwrap(),
                }
            }
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let _ = send.send(Frame::trailers(trailers)).await;
        });
        let mut response = Response::new(response);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

fn channel() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    use tokio_stream::StreamExt as _;
    let (send, receive) = mpsc::channel(1);
    (send, StreamBody::new(ReceiverStream::new(receive).map(Ok)).boxed())
}

fn cookies() -> Response<Body> {
    let mut response = Response::new(full("cookies"));
    for cookie in [
        "__Host-weft=stolen; Path=/; Secure",
        "__host-weft=stolen; Path=/; Secure",
        "__Host-weft-tx-1=stolen; Path=/; Secure",
        "own=1; Path=/",
        "other=a b; HttpOnly",
    ] {
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(cookie));
    }
    response
}

/// All in the head ("Trailers-Only").
fn grpc_failure() -> Response<Body> {
    let mut response = Response::new(empty());
    for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "no such thing")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn pairs(headers: &HeaderMap) -> Value {
    headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])).collect()
}

/// Values of one header in what [`App::echo`] says.
pub(crate) fn values(echo: &Value, name: &str) -> Vec<String> {
    let all = echo["headers"].as_array().unwrap().iter();
    all.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}
