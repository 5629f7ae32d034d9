//! The Mesh document: what belongs to no team, and how the portal looks.

use serde_saphyr::Spanned;
use weft_types::{
    HostName, builtin,
    colour::{self, Colour, TEXT_CONTRAST_MIN},
};

use super::{
    expose::groups,
    provider::{self, Provider},
    read::Reader,
};
use crate::{
    Bookmark, Branding, Position,
    document::Document,
    limits,
    raw::{self, MeshSpec, Object},
    report::Report,
};

/// Virtual IPs come from here unless the Mesh says otherwise (RFC 6598: shared address space).
const DEFAULT_SERVICE_RANGE: &str = "100.64.0.0/16";
/// Where browsers look for https.
const DEFAULT_PUBLIC_PORT: u16 = 443;

/// The Mesh with the places that later checks point at.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// Without providers and logo, which are made of the next ones.
    pub(crate) declared: crate::Mesh,
    /// It was given, but cannot be read.
    pub(crate) base_domain_broken: bool,
    pub(crate) providers: Vec<Provider>,
    /// Groups that bookmarks name.
    pub(crate) groups_at: Vec<(String, Position)>,
    /// A file beside the document.
    pub(crate) logo: Option<(String, Position)>,
}

pub(crate) fn mesh(document: &Document<'_>, object: Object<MeshSpec>, report: &mut Report<'_>) -> Option<Mesh> {
    let mut read = Reader::new(document, report, "mesh");
    let metadata = object.metadata.unwrap_or_default();
    let (name, at) = read.name(&metadata)?;
    read.no_namespace(&metadata);
    let spec = object.spec.unwrap_or_default();
    if spec.trust_domain.is_none() {
        read.report.error(&at, format!("mesh {name} has no spec.trustDomain")).help("name the trust domain of its identities, such as corp.example");
    }
    let trust_domain = spec.trust_domain.and_then(|t| read.parse(&t));
    let base_domain_given = spec.base_domain.is_some();
    let base_domain = spec.base_domain.and_then(|t| base_domain(&mut read, &t));
    let service_range = match spec.service_range {
        Some(range) => read.ipv4_range(&range),
        None => DEFAULT_SERVICE_RANGE.parse().ok(),
    };
    let Ports { public_port, listen_port, redirect_port } = ports(&mut read, spec.public_port, spec.listen_port, spec.redirect_port);
    let (portal, logo) = branding(&mut read, spec.portal.unwrap_or_default());
    let list = read.list("identityProviders", spec.identity_providers, limits::PROVIDERS_MAX, &at);
    let providers = list.into_iter().filter_map(|p| provider::provider(&mut read, p)).collect();
    let list = read.list("bookmarks", spec.bookmarks, limits::BOOKMARKS_MAX, &at);
    let mut groups_at = vec![];
    let bookmarks = list.into_iter().filter_map(|b| bookmark(&mut read, b, &mut groups_at)).collect();
    let base_domain_broken = base_domain_given && base_domain.is_none();
    let declared = crate::Mesh {
        name,
        trust_domain: trust_domain?,
        base_domain,
        public_port,
        listen_port,
        redirect_port,
        service_range: service_range?,
        portal,
        identity_providers: vec![],
        bookmarks,
        at,
    };
    Some(Mesh { declared, base_domain_broken, providers, groups_at, logo })
}

struct Ports {
    public_port: u16,
    listen_port: u16,
    redirect_port: Option<u16>,
}

/// Those of the gateway. It listens where people come, unless something in front of it takes them elsewhere.
fn ports(read: &mut Reader<'_, '_>, public: Option<raw::Text>, listen: Option<raw::Text>, redirect: Option<raw::Text>) -> Ports {
    let number = |read: &mut Reader<'_, '_>, text: &Option<raw::Text>| text.as_ref().and_then(|t| read.port_number(t));
    let public_port = number(read, &public).unwrap_or(DEFAULT_PUBLIC_PORT);
    let listen_port = number(read, &listen).unwrap_or(public_port);
    let redirect_port = number(read, &redirect);
    let field = if listen.is_some() { "listenPort" } else { "publicPort" };
    let help = if listen.is_some() { "choose another port" } else { "give the gateway another one as listenPort" };
    for (field, text, port, help) in [(field, listen.or(public), Some(listen_port), help), ("redirectPort", redirect, redirect_port, "choose another port")] {
        let (Some(text), Some(port)) = (text, port) else { continue };
        let at = read.at(&text);
        if builtin::OWN_PORTS.contains(&port) {
            let (first, last) = (builtin::OWN_PORTS.start(), builtin::OWN_PORTS.end());
            read.refuse(&at, format!("{field} {port} is one of weft's own ports, {first} to {last}"), Some(help));
        } else if field == "redirectPort" && port == listen_port {
            read.refuse(&at, format!("redirectPort {port} is where the gateway listens for https"), Some(help));
        }
    }
    Ports { public_port, listen_port, redirect_port }
}

fn base_domain(read: &mut Reader<'_, '_>, text: &raw::Text) -> Option<HostName> {
    let domain = read.parse::<HostName>(text)?;
    if [builtin::PORTAL_HOST, builtin::PROVIDER_HOST].into_iter().any(|host| domain.child(host).is_err()) {
        read.refuse(&read.at(text), format!("baseDomain {domain} leaves no room for a host below it"), None);
        return None;
    }
    Some(domain)
}

fn branding(read: &mut Reader<'_, '_>, b: raw::Branding) -> (Branding, Option<(String, Position)>) {
    let colours = b.colours.unwrap_or_default();
    let branding = Branding {
        title: read.text(b.title).unwrap_or_default(),
        support: read.text(b.support).unwrap_or_default(),
        accent: colour(read, "accent", colours.accent, colour::PAGE_LIGHT, "white"),
        accent_dark: colour(read, "accentDark", colours.accent_dark, colour::PAGE_DARK, "a dark page"),
        logo: None,
    };
    let logo = b.logo.and_then(|text| {
        let at = read.at(&text);
        read.text(Some(text)).map(|path| (path, at))
    });
    (branding, logo)
}

fn colour(read: &mut Reader<'_, '_>, field: &str, text: Option<raw::Text>, behind: Colour, page: &str) -> String {
    let Some(text) = text else { return String::new() };
    let at = read.at(&text);
    let Some(found) = Colour::parse(&text.value) else {
        read.refuse(&at, format!("{field} {:?} is no colour", text.value), Some("write it in quotes as \"#rrggbb\""));
        return String::new();
    };
    let contrast = found.contrast(behind);
    if contrast < TEXT_CONTRAST_MIN {
        let message = format!("{field} {} stands out by {contrast:.1} against {page}, and not everybody reads less than {TEXT_CONTRAST_MIN}", text.value);
        read.report.warning(&at, message).help(if behind == colour::PAGE_LIGHT { "choose a darker one" } else { "choose a lighter one" });
    }
    found.to_string()
}

fn bookmark(read: &mut Reader<'_, '_>, entry: Spanned<raw::Bookmark>, groups_at: &mut Vec<(String, Position)>) -> Option<Bookmark> {
    let at = read.document.position(entry.referenced);
    let b = entry.value;
    if b.title.is_none() || b.url.is_none() {
        read.refuse(&at, "bookmark has no title or no url", Some("write `{ title: Wiki, url: \"https://wiki.example/\" }`"));
    }
    let title = read.text(b.title);
    let url = b.url.and_then(|text| provider::url(read, "url", &text, true));
    let given = b.groups.as_ref().map_or(0, Vec::len);
    let all = groups(read, b.groups, &at);
    // Groups that cannot be read must not become everybody.
    if all.len() != given {
        return None;
    }
    groups_at.extend(all.iter().cloned());
    let groups = all.into_iter().map(|(group, _)| group).collect();
    let (icon, category) = (read.text(b.icon).unwrap_or_default(), read.text(b.category).unwrap_or_default());
    Some(Bookmark { title: title?, url: url?, icon, category, groups, at })
}
