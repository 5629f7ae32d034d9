//! The documents as written: every scalar is text with its place, so that all that is wrong with a document is found together.

use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
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
    pub(crate) public_port: Option<Text>,
    pub(crate) listen_port: Option<Text>,
    pub(crate) redirect_port: Option<Text>,
    pub(crate) portal: Option<Branding>,
    pub(crate) identity_providers: Option<Vec<Spanned<IdentityProvider>>>,
    pub(crate) bookmarks: Option<Vec<Spanned<Bookmark>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Branding {
    pub(crate) title: Option<Text>,
    pub(crate) logo: Option<Text>,
    #[serde(alias = "colors")]
    pub(crate) colours: Option<Colours>,
    pub(crate) support: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Colours {
    pub(crate) accent: Option<Text>,
    pub(crate) accent_dark: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bookmark {
    pub(crate) title: Option<Text>,
    pub(crate) url: Option<Text>,
    pub(crate) icon: Option<Text>,
    pub(crate) category: Option<Text>,
    pub(crate) groups: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct IdentityProvider {
    pub(crate) name: Option<Text>,
    pub(crate) title: Option<Text>,
    pub(crate) builtin: Option<bool>,
    pub(crate) issuer: Option<Text>,
    pub(crate) client_id: Option<Text>,
    pub(crate) client_secret_file: Option<Text>,
    /// Read only to be refused in words of its own.
    #[serde(alias = "secret")]
    pub(crate) client_secret: Option<Text>,
    pub(crate) scopes: Option<Vec<Text>>,
    pub(crate) claims: Option<Claims>,
    pub(crate) groups: Option<Vec<Text>>,
    pub(crate) api_audiences: Option<Vec<Text>>,
    pub(crate) via: Option<Spanned<Via>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claims {
    pub(crate) groups: Option<Spanned<OneOrMany>>,
    pub(crate) username: Option<Text>,
    pub(crate) email: Option<Text>,
    pub(crate) name: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Via {
    pub(crate) service: Option<Text>,
    pub(crate) port: Option<Text>,
}

/// One text or a list of them. By hand, because what serde makes of untagged enums loses every position.
#[derive(Debug)]
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMany;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text or a list of texts")
            }
            fn visit_str<E>(self, text: &str) -> Result<OneOrMany, E> {
                Ok(OneOrMany(vec![text.to_owned()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<OneOrMany, A::Error> {
                let mut all = vec![];
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(OneOrMany(all))
            }
        }
        deserializer.deserialize_any(Texts)
    }
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
    pub(crate) path: Option<Text>,
    pub(crate) path_prefix: Option<Text>,
    pub(crate) rewrite: Option<Text>,
    pub(crate) access: Option<Access>,
    pub(crate) methods: Option<Spanned<Vec<Text>>>,
    pub(crate) cors: Option<Spanned<Cors>>,
    pub(crate) portal: Option<Portal>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Access {
    pub(crate) groups: Option<Spanned<Vec<Text>>>,
    pub(crate) authenticated: Option<bool>,
    pub(crate) public: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Cors {
    pub(crate) origins: Option<Vec<Text>>,
    pub(crate) methods: Option<Vec<Text>>,
    pub(crate) headers: Option<Vec<Text>>,
    pub(crate) credentials: Option<bool>,
    pub(crate) max_age_seconds: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Portal {
    pub(crate) title: Option<Text>,
    pub(crate) icon: Option<Text>,
    pub(crate) category: Option<Text>,
    pub(crate) hidden: Option<bool>,
}
