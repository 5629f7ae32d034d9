//! Whom a provider lets declare a dependency on it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Label, NameError, ServiceRef};

/// `namespace/*` or `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Consumer {
    Namespace(Label),
    Service(ServiceRef),
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConsumerError {
    #[error("consumer {0:?} is neither NAMESPACE/NAME nor NAMESPACE/*")]
    Shape(String),
    #[error("consumer {consumer:?}: {source}")]
    Name { consumer: String, source: NameError },
}

impl Consumer {
    pub fn admits(&self, service: &ServiceRef) -> bool {
        match self {
            Self::Namespace(namespace) => *namespace == service.namespace,
            Self::Service(one) => one == service,
        }
    }

    pub fn namespace(&self) -> &Label {
        match self {
            Self::Namespace(namespace) => namespace,
            Self::Service(service) => &service.namespace,
        }
    }
}

impl FromStr for Consumer {
    type Err = ConsumerError;
    fn from_str(s: &str) -> Result<Self, ConsumerError> {
        let label = |part: &str| part.parse().map_err(|source| ConsumerError::Name { consumer: s.to_owned(), source });
        match s.split_once('/') {
            Some((namespace, "*")) => Ok(Self::Namespace(label(namespace)?)),
            Some((namespace, name)) if !name.contains('/') => Ok(Self::Service(ServiceRef { namespace: label(namespace)?, name: label(name)? })),
            _ => Err(ConsumerError::Shape(s.to_owned())),
        }
    }
}

impl TryFrom<String> for Consumer {
    type Error = ConsumerError;
    fn try_from(s: String) -> Result<Self, ConsumerError> {
        s.parse()
    }
}

impl From<Consumer> for String {
    fn from(c: Consumer) -> Self {
        c.to_string()
    }
}

impl fmt::Display for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(namespace) => f.pad(&format!("{namespace}/*")),
            Self::Service(service) => service.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_a_service_or_a_whole_namespace() {
        let admits = |pattern: &str, service: &str| pattern.parse::<Consumer>().unwrap().admits(&service.parse().unwrap());
        assert!(admits("shop/*", "shop/orders") && admits("shop/orders", "shop/orders"));
        assert!(!admits("shop/*", "shop2/orders") && !admits("shop/orders", "shop/orders2") && !admits("shop/orders", "other/orders"));
        for bad in ["", "*", "*/*", "shop", "shop/", "/x", "shop/o*", "shop/a/b", "Shop/*"] {
            assert!(bad.parse::<Consumer>().is_err(), "{bad}");
        }
    }
}
