//! TLS: versions, certificates by name, protocols by ALPN.

use http::{Method, Version};
use x509_parser::prelude::FromDer as _;

use crate::{
    apps::App,
    browser::at,
    client::{Answer, H1, H2, Hello, Tls, empty, request2},
    world::World,
};

/// Names of the certificate that was shown.
fn names(stream: &Tls) -> Vec<String> {
    let chain = stream.get_ref().1.peer_certificates().unwrap();
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.iter().map(ToString::to_string).collect::<Vec<_>>();
    names.iter().map(|name| name.trim_start_matches("DNSName(").trim_end_matches(')').to_owned()).collect()
}

#[tokio::test]
async fn versions_names_and_protocols() {
    let app = App::start().await;
    let world = World::with(|plan| {
        plan.expose("shop/orders", &["{ port: web, host: shop, access: { public: true } }"]);
        plan.workload("shop/orders", app.address);
    })
    .await;
    // A second certificate, of a host of its own.
    let own = world.authority.issue(world.dir.path(), "own", &["stock.corp.example"]);
    world.running().stop().await;
    world.plan.lock().unwrap().config.certificates.push(own);
    world.start().await;

    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let versions: &'static [&'static rustls::SupportedProtocolVersion] = Box::leak(Box::new([version]));
        let stream = world.tls("shop.corp.example", Hello { versions, ..H1 }).await;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
    }
    assert_eq!(names(&world.tls("shop.corp.example", H1).await), ["*.corp.example"]);
    assert_eq!(names(&world.tls("portal.corp.example", H1).await), ["*.corp.example"]);
    assert_eq!(names(&world.tls("stock.corp.example", H1).await), ["stock.corp.example"]);
    // Names of nobody get no certificate, and nothing else either.
    for unknown in ["corp.example", "a.b.corp.example", "shop.other.example"] {
        let failed = world.authority.connect(world.public(), unknown, H1).await.unwrap_err().to_string();
        assert!(failed.contains("UnrecognisedName") || failed.contains("AccessDenied") || failed.contains("HandshakeFailure"), "{unknown}: {failed}");
    }
    assert_eq!(world.metric("weft_gateway_handshakes_failed_total").await, 3.0);

    assert_eq!(world.tls("shop.corp.example", H2).await.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(
        world.tls("shop.corp.example", Hello { alpn: &[b"http/1.1", b"h2"], ..H1 }).await.get_ref().1.alpn_protocol(),
        Some(&b"h2"[..]),
        "the dearest is h2"
    );
    assert_eq!(world.tls("shop.corp.example", Hello { alpn: &[], ..H1 }).await.get_ref().1.alpn_protocol(), None);
    assert!(world.authority.connect(world.public(), "shop.corp.example", Hello { alpn: &[b"spdy/3"], ..H1 }).await.is_err());

    assert_eq!(world.get(&at("shop", "/one")).await.version, Version::HTTP_11);
    let two = world.h2("shop.corp.example").await.send_request(request2(Method::GET, &at("shop", "/two"), &[], empty())).await.unwrap();
    let two = Answer::of(two).await;
    assert_eq!((two.version, two.json()["target"].as_str()), (Version::HTTP_2, Some("/two")));
}
