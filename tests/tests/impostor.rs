//! Between nodes only the certificate speaks: whoever holds a workload's SVID is judged as that workload, wherever it dials from.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use weft_identity::{Ca, KeyAndCsr, Svid, client_config, sni_for};
use weft_kernel::netns::Netns;
use weft_lab::Place;
use weft_tests::{Mesh, MeshOptions, Server};
use weft_tunnel::{Answer, AnswerDecoder, Header};
use weft_types::{FlowId, Reason, SpiffeId};

const PORT: u16 = 8080;
const TUNNEL: u16 = 15008;

#[test]
fn the_holder_of_an_svid_is_judged_as_its_workload_whatever_its_address() -> Result<()> {
    let mesh = Mesh::start("impostor", &MeshOptions::default())?;
    let far = mesh.pod("far");
    let _server = Server::start(far.place(), "far", PORT)?;
    let ca = mesh_ca(&mesh)?;
    let (client, stranger) = (ca.svid("spiffe://corp.example/ns/shop/sa/client")?, ca.svid("spiffe://corp.example/ns/shop/sa/stranger")?);
    let (node, client_pod, stranger_pod) = (mesh.nodes[0].place(), mesh.pod("client").place(), mesh.pod("stranger").place());
    let dial = |from: &Place, svid: &Svid| ca.dial(from, svid, SocketAddr::new(far.v4().into(), TUNNEL), SocketAddr::new(far.v4().into(), PORT));

    for from in [node, client_pod, stranger_pod] {
        let answer = dial(from, &client).with_context(|| format!("as client from {}", from.name()))?;
        assert_eq!(answer, Some(Answer::Accepted), "as client from {}", from.name());
        let answer = dial(from, &stranger).with_context(|| format!("as stranger from {}", from.name()))?;
        assert!(matches!(answer, Some(Answer::Refused { reason: Reason::NoGrant, .. })), "as stranger from {}: {answer:?}", from.name());
    }
    // A node is no workload, and a workload of nobody's catalog is unknown.
    let as_node = dial(node, &ca.svid("spiffe://corp.example/node/a")?);
    assert!(!matches!(as_node, Ok(Some(Answer::Accepted))), "{as_node:?}");
    let unknown = dial(node, &ca.svid("spiffe://corp.example/ns/shop/sa/nobody")?)?;
    assert!(matches!(unknown, Some(Answer::Refused { reason: Reason::UnknownPeer, .. })), "{unknown:?}");
    Ok(())
}

struct MeshCa {
    ca: Ca,
}

fn mesh_ca(mesh: &Mesh) -> Result<MeshCa> {
    let pem = fs::read(mesh.bridge.machine().place().dir().join("state/ca.pem"))?;
    let certificate = CertificateDer::from_pem_slice(&pem)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)?;
    Ok(MeshCa { ca: Ca::load(&"corp.example".parse()?, certificate, key.secret_pkcs8_der())? })
}

impl MeshCa {
    fn svid(&self, id: &str) -> Result<Svid> {
        let key = KeyAndCsr::generate()?;
        let signed = self.ca.sign(key.csr(), &id.parse()?, SystemTime::now(), Duration::from_secs(600))?;
        Ok(key.into_svid(signed.chain)?)
    }

    /// One tunnel from a namespace, as an agent would open it. `None`: the other side closed without an answer.
    fn dial(&self, from: &Place, svid: &Svid, tunnel: SocketAddr, destination: SocketAddr) -> Result<Option<Answer>> {
        let expected: SpiffeId = "spiffe://corp.example/ns/shop/sa/far".parse()?;
        let config = client_config(svid, &self.ca.bundle()?, &expected, &[weft_tunnel::ALPN]);
        let name = sni_for(&expected).context("no server name")?;
        let socket = Netns::open(from.netns())?.run(|| TcpStream::connect_timeout(&tunnel, Duration::from_secs(5)))??;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let caller = socket.local_addr()?;
        let mut stream = rustls::StreamOwned::new(rustls::ClientConnection::new(config, name)?, socket);
        stream.write_all(&Header { destination, caller, flow: FlowId(1), service_port: 80 }.encode())?;
        let (mut decoder, mut buffer) = (AnswerDecoder::default(), [0; 512]);
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                return Ok(None);
            }
            if let Some(answer) = decoder.decode(&mut &buffer[..n])? {
                return Ok(Some(answer));
            }
        }
    }
}
