//! TLS connections of a client that remembers nothing: one request on each, or one and then silence. What h2load cannot do.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{limits::IO_TIMEOUT, load::Outcome};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Whom to ask, and by which name.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    name: ServerName<'static>,
    host: String,
    config: Arc<ClientConfig>,
}

impl Target {
    /// TLS 1.3, AES-128-GCM and X25519 only, and no session of before: every handshake is a whole one.
    pub fn new(address: SocketAddr, host: &str, ca: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).with_context(|| format!("cannot read {}", ca.display()))?)?;
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
        let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).context("no name of a host")?;
        Ok(Self { address, name, host: format!("{host}:{}", address.port()), config: Arc::new(config) })
    }

    fn dial(&self) -> io::Result<Stream> {
        let tcp = TcpStream::connect_timeout(&self.address, IO_TIMEOUT)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(IO_TIMEOUT))?;
        let tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(io::Error::other)?;
        Ok(StreamOwned::new(tls, tcp))
    }

    /// Asks for `/`; the answer must be a 200 with a body.
    fn ask(&self, stream: &mut Stream, connection: &str) -> io::Result<()> {
        write!(stream, "GET / HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n", self.host)?;
        let (mut got, mut part) = (Vec::new(), [0; 4096]);
        while got.len() < 1024 || !got.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut part)? {
                0 => break,
                n => got.extend_from_slice(&part[..n]),
            }
        }
        if got.starts_with(b"HTTP/1.1 200") && got.len() > 1024 { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&got).into_owned())) }
    }
}

/// A new connection for every request, `at_once` at a time.
pub fn handshakes(target: &Target, at_once: usize, duration: Duration) -> Result<Outcome> {
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let workers: Vec<_> = (0..at_once)
        .map(|_| {
            let (target, stop) = (target.clone(), Arc::clone(&stop));
            thread::spawn(move || {
                let (mut times, mut errors) = (Vec::new(), 0);
                while !stop.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    match target.dial().and_then(|mut stream| target.ask(&mut stream, "close")) {
                        Ok(()) => times.push(since.elapsed()),
                        Err(_) => errors += 1,
                    }
                }
                (times, errors)
            })
        })
        .collect();
    thread::sleep(duration);
    stop.store(true, Ordering::Relaxed);
    let (mut times, mut errors) = (Vec::new(), 0);
    for worker in workers {
        let (more, failed) = worker.join().map_err(|_| anyhow::anyhow!("a load thread panicked"))?;
        times.extend(more);
        errors += failed;
    }
    let seconds = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time: &Duration| time.as_secs_f64() * 1e6);
    Ok(Outcome { bytes: 0, operations: times.len() as u64, errors, seconds, p50_us: at(50), p99_us: at(99) })
}

/// Opens so many connections, asks once on each, says so, and holds them until it is ended.
pub fn hold(target: &Target, connections: usize) -> Result<()> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = target.dial()?;
        target.ask(&mut stream, "keep-alive")?;
        held.push(stream);
    }
    println!("holding {}", held.len());
    loop {
        thread::park();
    }
}
