//! One entry of `dependsOn`.

use serde_saphyr::Spanned;
use weft_types::ServiceRef;

use super::read::Reader;
use crate::{Position, raw};

#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) declared: crate::Dependency,
    pub(crate) target_at: Position,
    pub(crate) port_at: Option<Position>,
}

pub(crate) fn dependency(read: &mut Reader<'_, '_>, entry: Spanned<raw::Dependency>, name: &ServiceRef) -> Option<Dependency> {
    let at = read.document.position(entry.referenced);
    let d = entry.value;
    let Some(service) = &d.service else {
        read.refuse(&at, "dependency names no service", Some("write `{ service: NAME }` or `{ service: NAMESPACE/NAME }`"));
        return None;
    };
    let target_at = read.at(service);
    let target = match ServiceRef::parse_in(&service.value, &name.namespace) {
        Ok(target) => target,
        Err(e) => {
            let help = service.value.contains(':').then_some("a port stands in a field of its own: `{ service: …, port: … }`");
            read.refuse(&target_at, e.to_string(), help);
            return None;
        }
    };
    // A port that cannot be read must not become "every port".
    let port = match &d.port {
        Some(port) => Some(read.port_ref(port)?),
        None => None,
    };
    let port_at = d.port.as_ref().map(|p| read.at(p));
    if let Some(http) = &d.http {
        http_rules(read, http);
    }
    Some(Dependency { declared: crate::Dependency { target, port, http: d.http.is_some(), at }, target_at, port_at })
}

fn http_rules(read: &mut Reader<'_, '_>, http: &Spanned<Vec<raw::HttpRule>>) {
    let at = read.document.position(http.referenced);
    if http.value.is_empty() {
        return read.refuse(&at, "http is empty, which would allow no request", Some("remove it, or say which requests"));
    }
    for rule in &http.value {
        for method in rule.methods.iter().flatten() {
            if method.value.is_empty() || !method.value.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
                read.refuse(&read.at(method), format!("method {:?} is no HTTP method in capitals", method.value), None);
            }
        }
        if rule.path.is_some() && rule.path_prefix.is_some() {
            read.refuse(&at, "an http rule has both path and pathPrefix", Some("give two rules"));
        }
        for path in [&rule.path, &rule.path_prefix].into_iter().flatten() {
            if !path.value.starts_with('/') {
                read.refuse(&read.at(path), format!("path {:?} does not begin with /", path.value), None);
            }
        }
    }
    let message = "this version cannot judge HTTP: the whole dependency is denied";
    read.report.warning(&at, message).help("without `http:` the dependency allows every request to that port");
}
