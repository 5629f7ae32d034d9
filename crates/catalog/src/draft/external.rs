//! The door of an interface: where it is outside the mesh.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_saphyr::Spanned;
use weft_types::Protocol;

use super::read::Reader;
use crate::{External, Position, limits, raw};

pub(crate) fn externals(read: &mut Reader<'_, '_>, list: Option<Vec<Spanned<raw::External>>>, at: &Position) -> Vec<External> {
    let list = read.list("external", list, limits::EXTERNALS_MAX, at);
    list.into_iter().filter_map(|e| external(read, e)).collect()
}

fn external(read: &mut Reader<'_, '_>, entry: Spanned<raw::External>) -> Option<External> {
    let at = read.document.position(entry.referenced);
    let e = entry.value;
    if let Some(dns) = &e.dns {
        let help = "declare its addresses: `{ cidr: 203.0.113.7/32, port: 443 }`";
        read.refuse(&read.at(dns), "this version cannot declare an interface by DNS name", Some(help));
        return None;
    }
    let protocol = read.protocol(e.protocol.as_ref());
    if protocol == Some(Protocol::Udp) {
        let message = "UDP is not carried to interfaces by this version: datagrams to this range are denied";
        read.report.warning(&at, message).help("the declaration may stay; it starts to work with a later version");
    }
    if let Some(tls) = &e.tls
        && read.word("tls", tls, &[("required", true)]).is_some()
    {
        let message = "this version does not see whether connections to an interface use TLS";
        read.report.warning(&read.at(tls), message).help("`tls: required` is not enforced");
    }
    let port = match &e.port {
        Some(port) => read.port_number(port),
        None => {
            read.refuse(&at, "range has no port", Some("add `port: 443`"));
            None
        }
    };
    let cidr = match &e.cidr {
        Some(text) => cidr(read, text),
        None => {
            read.refuse(&at, "entry has no cidr", Some("write `{ cidr: 203.0.113.0/24, port: 443 }`"));
            None
        }
    };
    Some(External { cidr: cidr?, port: port?, protocol: protocol?, at })
}

fn cidr(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<IpNet> {
    let at = read.at(text);
    let Ok(net) = text.value.parse::<IpNet>() else {
        let help = match text.value.parse::<IpAddr>() {
            Ok(ip) => format!("write {ip}/{} for this one address", if ip.is_ipv4() { 32 } else { 128 }),
            Err(_) => "write it like 203.0.113.0/24 or 2001:db8::/32".to_owned(),
        };
        read.refuse(&at, format!("cidr {:?} is no address prefix", text.value), Some(&help));
        return None;
    };
    let fault = if net.trunc() != net {
        Some(("has bits set behind its prefix", format!("the prefix is {}", net.trunc())))
    } else if net.network().is_loopback() || net.network().is_multicast() {
        Some(("is loopback or multicast, which no interface can have", "declare addresses outside the mesh".to_owned()))
    } else if covers_mapped(&net) {
        Some(("takes in the IPv4-mapped addresses, and so IPv4", "write IPv4 prefixes as such, and 2000::/3 for all of public IPv6".to_owned()))
    } else {
        None
    };
    if let Some((fault, help)) = fault {
        read.refuse(&at, format!("cidr {net} {fault}"), Some(&help));
        return None;
    }
    if net.prefix_len() == 0 {
        let message = format!("cidr {net} is every address outside the mesh");
        read.report.warning(&at, message).help("whoever gets this dependency may reach all of them on that port");
    }
    Some(net)
}

/// Both families are judged alike, IPv4 as `::ffff:0:0/96`: an IPv6 prefix that meets it would allow IPv4 unseen.
fn covers_mapped(net: &IpNet) -> bool {
    let mapped: IpNet = IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96));
    matches!(net, IpNet::V6(_)) && (net.contains(&mapped) || mapped.contains(net))
}
