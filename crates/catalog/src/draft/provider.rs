//! One entry of the Mesh's `identityProviders`.

use serde_saphyr::Spanned;
use weft_types::{ClaimPath, HostName, Label, ServiceRef};

use super::read::{DEFAULT_NAMESPACE, Reader};
use crate::{Claims, Client, IdentityProvider, Position, Via, limits, raw};

/// OpenID Connect Core 1.0 §3.1.2.1: without it a provider speaks OAuth only.
const OPENID: &str = "openid";
const DEFAULT_SCOPES: [&str; 3] = [OPENID, "profile", "email"];

#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) declared: IdentityProvider,
    pub(crate) name_at: Position,
    pub(crate) via_at: Position,
}

pub(super) fn provider(read: &mut Reader<'_, '_>, entry: Spanned<raw::IdentityProvider>) -> Option<Provider> {
    let at = read.document.position(entry.referenced);
    let mut p = entry.value;
    if let Some(secret) = &p.client_secret {
        let help =
            "name a file on the gateway's host that holds it: `clientSecretFile: /etc/weft/oidc-secret`; what stood here is known by now, so make a new one";
        read.broken = true;
        read.report.error(&read.document.position(secret.referenced), "a client's secret stands in the catalog, which everybody reads").secret(help);
    }
    let Some(text) = &p.name else {
        read.refuse(&at, "identity provider has no name", Some("give it one, such as `name: corp`"));
        return None;
    };
    let (name, name_at) = (read.parse::<Label>(text), read.at(text));
    let title = read.text(p.title.take());
    let before = std::mem::take(&mut read.broken);
    let via_at = p.via.as_ref().map_or(at.clone(), |v| read.document.position(v.referenced));
    let claims = claims(read, p.claims.take().unwrap_or_default(), &at);
    let list = read.list("groups", p.groups.take(), limits::PROVIDER_GROUPS_MAX, &at);
    let groups: Vec<String> = list.into_iter().filter_map(|g| read.text(Some(g))).collect();
    let list = read.list("apiAudiences", p.api_audiences.take(), limits::AUDIENCES_MAX, &at);
    let api_audiences: Vec<String> = list.into_iter().filter_map(|a| read.text(Some(a))).collect();
    let client = if p.builtin == Some(true) {
        only_a_client_has(read, &p, &at);
        None
    } else {
        client(read, p, &at)
    };
    let fine = !read.broken;
    read.broken |= before;
    let name = name.filter(|_| fine)?;
    let title = title.unwrap_or_else(|| name.to_string());
    Some(Provider { declared: IdentityProvider { name, title, client, claims, groups, api_audiences, at }, name_at, via_at })
}

/// The local provider's client is the bridge's own affair.
fn only_a_client_has(read: &mut Reader<'_, '_>, p: &raw::IdentityProvider, at: &Position) {
    let given = [
        ("issuer", p.issuer.is_some()),
        ("clientId", p.client_id.is_some()),
        ("clientSecretFile", p.client_secret_file.is_some()),
        ("scopes", p.scopes.is_some()),
        ("via", p.via.is_some()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        read.refuse(at, format!("identity provider is builtin and has {field}"), Some("the local provider needs none of it: remove one of the two"));
    }
}

fn client(read: &mut Reader<'_, '_>, p: raw::IdentityProvider, at: &Position) -> Option<Client> {
    if p.issuer.is_none() || p.client_id.is_none() {
        let help = "an OpenID provider has both: `issuer: https://…`, `clientId: weft`; the local one has `builtin: true`";
        read.refuse(at, "identity provider has no issuer or no clientId", Some(help));
    }
    let issuer = p.issuer.and_then(|text| issuer(read, &text));
    let id = read.text(p.client_id);
    let secret_file = p.client_secret_file.and_then(|text| secret_file(read, text)).unwrap_or_default();
    let scopes = scopes(read, p.scopes, at);
    let via = p.via.and_then(|v| via(read, v));
    Some(Client { issuer: issuer?, id: id?, secret_file, scopes, via })
}

/// OpenID Connect Discovery 1.0 §3: https, no query, no fragment. Without TLS only where nothing leaves the machine.
fn issuer(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<String> {
    let url = url(read, "issuer", text, false)?;
    let host = url.split("://").nth(1).unwrap_or_default().split(['/', ':']).next().unwrap_or_default();
    let own = host == "localhost" || host.ends_with(".localhost") || host == "127.0.0.1";
    let fault = if url.contains(['?', '#']) {
        Some(("has a query or fragment", "write it as the provider's own discovery document does"))
    } else if url.starts_with("http://") && !own {
        Some(("is not https", "whoever reads along could sign in as anybody"))
    } else {
        None
    };
    if let Some((fault, help)) = fault {
        read.refuse(&read.at(text), format!("issuer {url} {fault}"), Some(help));
        return None;
    }
    Some(url)
}

/// An absolute URL that a person can be sent to; what else there is could be a script.
pub(super) fn url(read: &mut Reader<'_, '_>, field: &str, text: &raw::Text, any_path: bool) -> Option<String> {
    let value = &text.value;
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let authority = rest.and_then(|r| r.split(['/', '?', '#']).next()).unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let named = host.to_ascii_lowercase().parse::<HostName>().is_ok() || host.parse::<std::net::Ipv4Addr>().is_ok();
    let port = port.is_none_or(|p| p.parse::<u16>().is_ok_and(|n| n != 0));
    let visible = value.len() <= limits::URL_MAX_BYTES && value.bytes().all(|b| (0x21..=0x7e).contains(&b) && !b"\"<>\\^`{|}".contains(&b));
    if rest.is_none() || !named || !port || !visible {
        let example = if any_path { "https://wiki.example/start" } else { "https://login.example/realms/corp" };
        read.refuse(&read.at(text), format!("{field} {value:?} is no https URL"), Some(&format!("write it like {example}")));
        return None;
    }
    Some(value.clone())
}

fn secret_file(read: &mut Reader<'_, '_>, text: raw::Text) -> Option<String> {
    let at = read.at(&text);
    let path = read.text(Some(text))?;
    if !path.starts_with('/') {
        read.refuse(&at, format!("clientSecretFile {path:?} is not absolute"), Some("it names a file on the gateway's host, readable by the gateway only"));
        return None;
    }
    Some(path)
}

fn scopes(read: &mut Reader<'_, '_>, list: Option<Vec<raw::Text>>, at: &Position) -> Vec<String> {
    let Some(list) = list else { return DEFAULT_SCOPES.map(str::to_owned).to_vec() };
    let list = read.list("scopes", Some(list), limits::SCOPES_MAX, at);
    let mut all = vec![];
    for text in list {
        // RFC 6749 §3.3.
        if text.value.is_empty() || text.value.len() > 128 || !text.value.bytes().all(|b| (0x21..=0x7e).contains(&b) && b != b'"' && b != b'\\') {
            read.refuse(&read.at(&text), format!("scope {:?} is none that a provider could know", text.value), Some("name each scope by itself"));
            continue;
        }
        all.push(text.value);
    }
    if !all.iter().any(|s| s == OPENID) && !read.broken {
        read.refuse(at, "scopes leave openid out, so nobody would be vouched for", Some("add openid"));
    }
    all
}

fn claims(read: &mut Reader<'_, '_>, c: raw::Claims, at: &Position) -> Claims {
    let mut one = |text: Option<raw::Text>, default: &str| text.and_then(|t| read.parse::<ClaimPath>(&t)).unwrap_or_else(|| default.parse().expect("a claim"));
    let (username, email, name) = (one(c.username, "preferred_username"), one(c.email, "email"), one(c.name, "name"));
    let groups = match c.groups {
        None => vec!["groups".parse().expect("a claim")],
        Some(all) => {
            let place = read.document.position(all.referenced);
            let texts = read.list("claims.groups", Some(all.value.0), limits::CLAIMS_MAX, at);
            texts.iter().filter_map(|t| t.parse().map_err(|e: weft_types::ClaimError| read.refuse(&place, e.to_string(), None)).ok()).collect()
        }
    };
    Claims { groups, username, email, name }
}

fn via(read: &mut Reader<'_, '_>, entry: Spanned<raw::Via>) -> Option<Via> {
    let at = read.document.position(entry.referenced);
    let v = entry.value;
    let Some(text) = &v.service else {
        read.refuse(&at, "via names no service", Some("write `via: { service: NAMESPACE/NAME, port: web }`"));
        return None;
    };
    let own = DEFAULT_NAMESPACE.parse().expect("a label");
    let service = ServiceRef::parse_in(&text.value, &own).map_err(|e| read.refuse(&read.at(text), e.to_string(), None)).ok();
    let port = match &v.port {
        Some(port) => Some(read.port_ref(port)?),
        None => None,
    };
    Some(Via { service: service?, port })
}
