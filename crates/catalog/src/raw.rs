//! The documents as written: every scalar is text with its place, so that all that is wrong with a document is found together.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

pub(crate) type Text = Spanned<String>;

/// Enough of a document to know what it is. Nothing is refused here.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    #[serde(rename = "apiVersion")]
    pub(crate) api_version: Option<Text>,
    pub(crate) kind: Option<Text>,
}

/// The name that a document gives itself, read leniently when the whole cannot be read.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    pub(crate) metadata: Option<NamedMetadata>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NamedMetadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Object<S> {
    #[serde(rename = "apiVersion")]
    _api_version: Text,
    #[serde(rename = "kind")]
    _kind: Text,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) spec: Option<S>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    pub(crate) name: Option<Text>,
    pub(crate) namespace: Option<Text>,
    /// For other tools; weft reads neither.
    #[serde(rename = "labels")]
    _labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "annotations")]
    _annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MeshSpec {
    pub(crate) trust_domain: Option<Text>,
    pub(crate) base_domain: Option<Text>,
    pub(crate) service_range: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TeamSpec {
    pub(crate) lead: Option<Text>,
    pub(crate) contact: Option<Text>,
    pub(crate) groups: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: Option<Text>,
    pub(crate) title: Option<Text>,
    pub(crate) owner: Option<Text>,
    pub(crate) capability: Option<Text>,
    pub(crate) lifecycle: Option<Text>,
    pub(crate) mode: Option<Text>,
    pub(crate) workloads: Option<Vec<Spanned<Workload>>>,
    pub(crate) replicas: Option<Replicas>,
    pub(crate) ports: Option<Vec<Spanned<Port>>>,
    pub(crate) consumers: Option<Vec<Text>>,
    pub(crate) depends_on: Option<Vec<Spanned<Dependency>>>,
    pub(crate) external: Option<Vec<Spanned<External>>>,
    pub(crate) expose: Option<Vec<Spanned<Expose>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Workload {
    pub(crate) service_account: Option<Text>,
    pub(crate) container: Option<Text>,
    pub(crate) compose: Option<Compose>,
    pub(crate) systemd_unit: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Compose {
    pub(crate) project: Option<Text>,
    pub(crate) service: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replicas {
    pub(crate) min: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Port {
    pub(crate) name: Option<Text>,
    pub(crate) port: Option<Text>,
    pub(crate) target_port: Option<Text>,
    pub(crate) protocol: Option<Text>,
    pub(crate) app_protocol: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dependency {
    pub(crate) service: Option<Text>,
    pub(crate) port: Option<Text>,
    pub(crate) http: Option<Spanned<Vec<HttpRule>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct HttpRule {
    pub(crate) methods: Option<Vec<Text>>,
    pub(crate) path: Option<Text>,
    pub(crate) path_prefix: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct External {
    pub(crate) dns: Option<Text>,
    pub(crate) cidr: Option<Text>,
    pub(crate) port: Option<Text>,
    pub(crate) protocol: Option<Text>,
    pub(crate) tls: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Expose {
    pub(crate) port: Option<Text>,
    pub(crate) host: Option<Text>,
    pub(crate) path_prefix: Option<Text>,
    pub(crate) access: Option<Access>,
    pub(crate) portal: Option<Portal>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Access {
    pub(crate) groups: Option<Vec<Text>>,
    pub(crate) authenticated: Option<bool>,
    pub(crate) public: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Portal {
    pub(crate) icon: Option<Text>,
    pub(crate) category: Option<Text>,
}
