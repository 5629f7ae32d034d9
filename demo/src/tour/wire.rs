//! Claims about what is on the wire, and who is at its ends.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use weft_lab::{Capture, Captured};

use super::{
    Tour,
    look::{self, certificate, marker, purchase},
    report::Report,
};

const TUNNEL_PORT: u16 = 15008;
/// draft-ietf-tls-ecdhe-mlkem, "X25519MLKEM768".
const X25519_MLKEM768: u16 = 0x11ec;

pub(super) fn claims(tour: &mut Tour, report: &mut Report) -> Result<()> {
    let name = marker("mesh");
    let wire = Capture::start(tour.stage.lab.wire(), "mesh", "wire", "tcp")?;
    let inside = Capture::start(tour.stage.a.place(), "inside", "pods", "tcp")?;
    report.claim("a purchase crosses both nodes", || {
        let row = purchase(&tour.shop, &name)?;
        let picture = tour.shop.storefront.place().http_get("127.0.0.1:8080", "/media/mug.svg")?;
        ensure!(picture.contains("<svg"), "the picture from nginx is {picture:?}");
        let stock = tour.shop.stock.place().dir().join("log/stock.log");
        let line = log_line(&stock, &name)?;
        ensure!(look::row(&tour.shop, "nobody").is_err(), "there is a row for nobody");
        Ok((
            format!("{row}; stock on node b wrote \"{line}\"; nginx sent the picture"),
            "the same search gives no row for a customer who did not buy".to_owned(),
        ))
    })?;
    let (wire, inside) = (wire.stop()?, inside.stop()?);
    let tunnels = tunnels(&wire);

    report.claim("the wire between the nodes carries TLS and no plaintext", || {
        ensure!(!wire.contains(name.as_bytes()), "marker {name} is in {}", wire.file.display());
        ensure!(!tunnels.is_empty(), "no TLS to port {TUNNEL_PORT} was seen");
        let bare = plain_flows(tour, &wire);
        ensure!(bare.is_empty(), "beside TLS there was {}", bare.join(", "));
        let evidence = format!("marker {name} in none of {} packets, {} TLS connections to port {TUNNEL_PORT}", wire.packets.len(), tunnels.len());
        Ok((evidence, format!("the same search found it among {} packets without the mesh", tour.before.wire_packets)))
    })?;

    report.claim("the key exchange is hybrid, post-quantum", || {
        let groups: Vec<u16> = tunnels.iter().map(|(_, group)| *group).collect();
        ensure!(groups.iter().all(|g| *g == X25519_MLKEM768), "ServerHello chose {groups:x?}");
        Ok((format!("each of {} ServerHellos on the wire chose X25519MLKEM768 ({X25519_MLKEM768:#x})", groups.len()), bank_group(&wire)?))
    })?;

    report.claim("the far end shows the workload's own certificate", || {
        let (bank, shop) = (tour.shop.bank.place(), &tour.shop);
        let seen = |ip: IpAddr, sni: &str| {
            certificate(bank, &SocketAddr::new(ip, TUNNEL_PORT).to_string(), sni).map(|s| s.lines().next().unwrap_or_default().to_owned())
        };
        let stock = seen(shop.stock.v4().into(), "stock.shop.weft.internal")?;
        let media = seen(shop.media[1].v4().into(), "media.shop.weft.internal")?;
        ensure!(stock == "identity spiffe://corner.example/ns/shop/sa/stock", "stock's pod shows {stock:?}");
        ensure!(media == "identity spiffe://corner.example/ns/shop/sa/media", "media's pod shows {media:?}");
        Ok((format!("stock's pod shows {stock}"), format!("the pod beside it, on the same node, shows {media}")))
    })?;

    report.claim("servers see their true caller, on this node and across", || true_caller(tour, &name))?;

    report.claim("on one node nothing stands between two workloads", || {
        let (from, to) = (IpAddr::from(tour.shop.storefront.v4()), SocketAddr::new(tour.shop.orders[0].v4().into(), 8080));
        let direct = inside.packets.iter().filter(|p| p.source.ip() == from && p.destination == to).count();
        ensure!(direct > 0, "no packet went from {from} to {to} itself");
        let tunnelled = inside.packets.iter().filter(|p| p.source.ip() == from && p.destination.port() == TUNNEL_PORT && p.destination.ip() == to.ip()).count();
        ensure!(tunnelled == 0, "{tunnelled} packets went through the tunnel to the own node");
        Ok((format!("{direct} packets from {from} straight to {to}"), "between the nodes all went to port 15008".to_owned()))
    })
}

fn true_caller(tour: &Tour, name: &str) -> Result<(String, String)> {
    let shop = &tour.shop;
    let (storefront, orders) = (shop.storefront.v4().to_string(), shop.orders[0].v4().to_string());
    let here = log_line(&shop.orders[0].place().dir().join("log/orders.log"), name)?;
    let there = log_line(&shop.stock.place().dir().join("log/stock.log"), name)?;
    ensure!(here.ends_with(&format!("asked by {storefront}")), "orders says {here:?}, the storefront is {storefront}");
    ensure!(there.starts_with(&format!("{orders}:")), "stock says {there:?}, orders is {orders}");
    Ok((
        format!("orders was asked by {storefront}, stock on the other node by {orders}"),
        "two callers, two addresses; neither is a proxy's or a node's".to_owned(),
    ))
}

/// Every connection to the tunnel port that began in the capture: its server's side, with the group its ServerHello chose.
fn tunnels(wire: &Captured) -> Vec<(SocketAddr, u16)> {
    wire.streams()
        .iter()
        .filter(|((from, _), _)| from.port() == TUNNEL_PORT)
        .filter_map(|((from, _), bytes)| Some((*from, server_hello_group(bytes)?)))
        .collect()
}

/// The bank is outside the mesh: its own TLS shows what a server chooses that knows no hybrid.
fn bank_group(wire: &Captured) -> Result<String> {
    let streams = wire.streams();
    let group =
        streams.iter().filter(|((from, _), _)| from.port() == 443).find_map(|(_, bytes)| server_hello_group(bytes)).context("no TLS to the bank was seen")?;
    ensure!(group != X25519_MLKEM768, "the bank, which knows no hybrid, chose {group:#x} as well");
    Ok(format!("the same reading of the bank's ServerHello, outside the mesh, gives {group:#x}"))
}

/// RFC 8446 §4.1.3: the group in the key_share extension of the first ServerHello.
fn server_hello_group(stream: &[u8]) -> Option<u16> {
    // Record header (5), handshake header (4), version (2), random (32).
    let body = stream.get(5..).filter(|_| stream.first() == Some(&22)).filter(|b| b.first() == Some(&2))?;
    let mut at = 4 + 2 + 32;
    // Session id, cipher suite (2), compression (1), length of the extensions (2).
    at += 1 + usize::from(*body.get(at)?) + 2 + 1 + 2;
    loop {
        let word = |i: usize| body.get(i..i + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        let (kind, length) = (word(at)?, word(at + 2)?);
        if kind == 51 {
            return word(at + 4);
        }
        at += 4 + usize::from(length);
    }
}

/// Connections between pods of different nodes that are not to the tunnel port.
fn plain_flows(tour: &Tour, wire: &Captured) -> Vec<String> {
    let pods: Vec<IpAddr> = tour.shop.pods().iter().flat_map(|(_, p)| [IpAddr::from(p.v4()), IpAddr::from(p.v6())]).collect();
    let bare = wire.packets.iter().filter(|p| pods.contains(&p.source.ip()) && pods.contains(&p.destination.ip()));
    let mut flows: Vec<String> =
        bare.filter(|p| p.source.port() != TUNNEL_PORT && p.destination.port() != TUNNEL_PORT).map(|p| format!("{} → {}", p.source, p.destination)).collect();
    flows.sort();
    flows.dedup();
    flows
}

fn log_line(log: &std::path::Path, text: &str) -> Result<String> {
    let all = std::fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    match all.lines().find(|l| l.contains(text)) {
        Some(line) => Ok(line.to_owned()),
        None => bail!("{text} is not in {}", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ServerHello with a session id of `session` bytes, and the extensions supported_versions and key_share.
    fn server_hello(session: u8, group: u16) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(session);
        body.extend(vec![9; usize::from(session)]);
        body.extend([0x13, 0x01, 0, 0, 14, 0, 43, 0, 2, 3, 4, 0, 51, 0, 4]);
        body.extend(group.to_be_bytes());
        body.extend([0, 0]);
        let mut record = vec![22, 3, 3, 0, 0, 2, 0, 0, u8::try_from(body.len()).unwrap()];
        record.extend(body);
        record
    }

    #[test]
    fn the_group_is_read_from_a_server_hello_and_from_nothing_else() {
        assert_eq!(server_hello_group(&server_hello(32, X25519_MLKEM768)), Some(X25519_MLKEM768));
        assert_eq!(server_hello_group(&server_hello(0, 0x1d)), Some(0x1d));
        assert_eq!(server_hello_group(b"HTTP/1.1 200 OK\r\n"), None);
        let whole = server_hello(32, 0x1d);
        for length in 0..whole.len() - 4 {
            assert_eq!(server_hello_group(&whole[..length]), None, "{length} bytes");
        }
    }
}
