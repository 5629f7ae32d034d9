//! SPIFFE IDs in the two shapes that exist here.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Label, NameError, NodeName, TrustDomain};

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, or `spiffe://<trust domain>/node/<name>`. The node shape is never accepted by a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SpiffeId {
    Workload { trust_domain: TrustDomain, namespace: Label, service_account: Label },
    Node { trust_domain: TrustDomain, name: NodeName },
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpiffeError {
    #[error("SPIFFE ID {0:?} does not start with spiffe://")]
    Scheme(String),
    #[error("SPIFFE ID {0:?} is neither …/ns/NAMESPACE/sa/ACCOUNT nor …/node/NAME")]
    Shape(String),
    #[error("SPIFFE ID {id:?}: {source}")]
    Name { id: String, source: NameError },
}

impl SpiffeId {
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Workload { trust_domain, .. } | Self::Node { trust_domain, .. } => trust_domain,
        }
    }

    pub fn is_workload(&self) -> bool {
        matches!(self, Self::Workload { .. })
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;
    fn from_str(s: &str) -> Result<Self, SpiffeError> {
        // SPIFFE-ID §2.3: at most 2048 bytes.
        if s.len() > 2048 {
            return Err(SpiffeError::Shape(s.chars().take(80).collect()));
        }
        let rest = s.strip_prefix("spiffe://").ok_or_else(|| SpiffeError::Scheme(s.to_owned()))?;
        let name = |source| SpiffeError::Name { id: s.to_owned(), source };
        match rest.split('/').collect::<Vec<_>>()[..] {
            [td, "ns", ns, "sa", sa] => {
                Ok(Self::Workload { trust_domain: td.parse().map_err(name)?, namespace: ns.parse().map_err(name)?, service_account: sa.parse().map_err(name)? })
            }
            [td, "node", node] => Ok(Self::Node { trust_domain: td.parse().map_err(name)?, name: node.parse().map_err(name)? }),
            _ => Err(SpiffeError::Shape(s.to_owned())),
        }
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeError;
    fn try_from(s: String) -> Result<Self, SpiffeError> {
        s.parse()
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { trust_domain, namespace, service_account } => write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"),
            Self::Node { trust_domain, name } => write!(f, "spiffe://{trust_domain}/node/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_shapes_are_read() {
        for good in ["spiffe://corp.example/ns/shop/sa/orders", "spiffe://corp.example/node/a"] {
            assert_eq!(good.parse::<SpiffeId>().unwrap().to_string(), good);
        }
        for bad in [
            "https://corp.example/ns/shop/sa/orders",
            "spiffe://corp.example/ns/shop/sa/orders/x",
            "spiffe://corp.example/ns/shop/sa/",
            "spiffe://corp.example/ns/shop",
            "spiffe:///ns/shop/sa/orders",
            "spiffe://corp.example/ns/shop/sa/orders?x",
            "spiffe://Corp/node/a",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }
}
