//! `weft-demo probe`: an ordinary TLS client, written without any of weft's own crates, that shows a stranger's certificate. It verifies nothing: it has no identity
//! of its own, so the handshake fails afterwards, but the server has shown its certificate by then.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, Stream,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

#[derive(Debug)]
struct Look {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<CertificateDer<'static>>>,
}

pub fn run(address: SocketAddr, name: &str, alpn: &str) -> Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let look = Arc::new(Look { provider: Arc::clone(&provider), seen: Mutex::new(None) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&look) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?;
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5)).with_context(|| format!("cannot connect to {address}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let outcome = stream.write_all(b"hello").and_then(|()| stream.read(&mut [0; 64]));
    let seen = look.seen.lock().ok().and_then(|s| s.clone());
    let Some(certificate) = seen else { bail!("{address} showed no certificate: {outcome:?}") };
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&certificate)?;
    for entry in parsed.subject_alternative_name()?.map(|e| e.value.general_names.clone()).unwrap_or_default() {
        if let GeneralName::URI(uri) = entry {
            println!("identity {uri}");
        }
    }
    println!("group {:?}", connection.negotiated_key_exchange_group().map(|g| g.name()));
    println!("then {}", outcome.map_or_else(|e| e.to_string(), |n| if n == 0 { "closed".to_owned() } else { format!("answered {n} bytes") }));
    Ok(())
}

impl ServerCertVerifier for Look {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Ok(mut seen) = self.seen.lock() {
            *seen = Some(end_entity.clone().into_owned());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(&self, _: &[u8], _: &CertificateDer<'_>, _: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    /// The key must be the certificate's own, or the name in it would prove nothing.
    fn verify_tls13_signature(&self, message: &[u8], cert: &CertificateDer<'_>, dss: &DigitallySignedStruct) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
