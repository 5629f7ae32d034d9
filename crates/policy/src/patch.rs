//! Catalog changes as YAML: each document names the one it adds to, and holds only what is to be added.

use std::net::IpAddr;

use weft_snapshot::{Route, Service};
use weft_types::{Label, Protocol, ServiceRef};

use crate::{Index, Who};

/// Lets `source` reach one port of `to`: the dependency, and the provider's consent where it is missing.
pub(crate) fn dependency(source: &Service, to: &Service, port: u16, protocol: Protocol) -> String {
    let named = to.ports.iter().find(|p| p.port == port && p.protocol == protocol);
    let port = named.map_or_else(|| port.to_string(), |p| p.name.to_string());
    let entry = format!("spec:\n  dependsOn:\n    - {{ service: {}, port: {port} }}\n", seen_from(&to.name, &source.name.namespace));
    let mut patch = addition(source, &entry);
    if !consents(to, &source.name) {
        patch.push_str("---\n");
        patch.push_str(&consent(source, to));
    }
    patch
}

/// The provider's consent alone.
pub(crate) fn consent(source: &Service, to: &Service) -> String {
    addition(to, &format!("spec:\n  consumers:\n    - {}\n", source.name))
}

/// A new interface for an address that nobody knows, in the source's own namespace and ownership, and the dependency on it.
pub(crate) fn interface(index: &Index, source: &Service, addr: IpAddr, port: u16) -> String {
    let name = free_name(index, &source.name.namespace, addr);
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    let namespace = &source.name.namespace;
    let document = format!(
        "# a new document\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: {namespace} }}\nspec:\n  type: interface\n  owner: {}\n  external:\n    - {{ cidr: \"{addr}/{bits}\", port: {port} }}\n",
        source.owner
    );
    let entry = format!("spec:\n  dependsOn:\n    - {{ service: {name}, port: {port} }}\n");
    format!("{document}---\n{}", addition(source, &entry))
}

/// One port opened to whoever has signed in.
pub(crate) fn exposure(to: &Service, port: u16) -> String {
    let named = to.ports.iter().find(|p| p.port == port && p.protocol == Protocol::Tcp);
    let port = named.map_or_else(|| port.to_string(), |p| p.name.to_string());
    addition(to, &format!("spec:\n  expose:\n    - {{ port: {port}, access: {{ authenticated: true }} }}\n"))
}

/// The exposure opened to one more group, which the person has. `None`: they have none.
pub(crate) fn groups(service: &Service, route: &Route, any_of: &[String], who: Who<'_>) -> Option<String> {
    let Who::Person { groups: [first, ..], .. } = who else { return None };
    let all: Vec<String> = any_of.iter().chain([first]).map(|g| quoted(g)).collect();
    Some(instead(service, route, &format!("access: {{ groups: [ {} ] }}\n", all.join(", "))))
}

/// The exposure taking one more method. `None`: it is no method.
pub(crate) fn methods(service: &Service, route: &Route, method: &str) -> Option<String> {
    let method: weft_types::Method = method.parse().ok().filter(|m: &weft_types::Method| !matches!(m.as_str(), "CONNECT" | "TRACE"))?;
    let all: Vec<String> = route.methods.iter().chain([&method]).map(ToString::to_string).collect();
    Some(instead(service, route, &format!("methods: [ {} ]\n", all.join(", "))))
}

fn instead(service: &Service, route: &Route, body: &str) -> String {
    format!("# in {}, in the exposure at {}, owner {}\n{body}", service.name, route.declared_at, service.owner)
}

/// A YAML text: plain where it cannot be taken for anything else (YAML 1.2 §7.3).
fn quoted(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'/')) && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let word = matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain && !word { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

fn addition(to: &Service, body: &str) -> String {
    let ServiceRef { namespace, name } = &to.name;
    format!("# add to {} ({}), owner {}\nkind: MeshService\nmetadata: {{ name: {name}, namespace: {namespace} }}\n{body}", to.name, to.declared_at, to.owner)
}

fn consents(provider: &Service, consumer: &ServiceRef) -> bool {
    consumer.namespace == provider.name.namespace || provider.consumers.iter().any(|c| c.admits(consumer))
}

fn seen_from(service: &ServiceRef, namespace: &Label) -> String {
    if service.namespace == *namespace { service.name.to_string() } else { service.to_string() }
}

fn free_name(index: &Index, namespace: &Label, addr: IpAddr) -> String {
    let flat: String = addr.to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let base = format!("external-{}", flat.trim_matches('-'));
    let taken = |name: &str| name.parse().is_ok_and(|name| index.by_ref(&ServiceRef { namespace: namespace.clone(), name }).is_some());
    (1..).map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") }).find(|name| !taken(name)).unwrap_or(base)
}
