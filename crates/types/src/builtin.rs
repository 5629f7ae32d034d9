//! Weft's own programs as services of the mesh. Nobody declares them: they are there when something is exposed, and what they may reach follows from
//! the catalog by rules of its own.

use std::ops::RangeInclusive;

use crate::{Label, PortName, ServiceRef};

/// Kept for weft's own programs; the catalog may not declare anything in it.
pub const NAMESPACE: &str = "weft";
/// Name, account and team of the services are fixed, as their rules are.
pub const OWNER: &str = "weft";
/// Where a built-in service is said to be declared.
pub const DECLARED_AT: &str = "built in";

/// Service port of the local identity provider. Plain TCP: the mesh carries it.
pub const PROVIDER_PORT: u16 = 80;
/// Where the IAM bridge listens for it, at its own workload's address.
pub const PROVIDER_TARGET_PORT: u16 = 15013;

/// Service port at which the gateway hears from the local identity provider that a person has signed out. Plain HTTP: the mesh carries it.
pub const BACKCHANNEL_PORT: u16 = 80;
/// Where the gateway listens for it.
pub const BACKCHANNEL_TARGET_PORT: u16 = 15014;
/// Kept for weft's own programs: the tunnel's port, the canary's, that of the bridge, and where the gateway and the bridge are spoken to by the mesh. None of
/// them is ever open to the public.
pub const OWN_PORTS: RangeInclusive<u16> = 15008..=15021;

/// First label of the host that holds the portal and the sign-on.
pub const PORTAL_HOST: &str = "portal";
/// First label of the local identity provider's public host.
pub const PROVIDER_HOST: &str = "id";
/// Paths at and below it are the gateway's own, on every host.
pub const OWN_PATHS: &str = "/.weft";

/// `weft/gateway`: lets people in.
pub fn gateway() -> ServiceRef {
    named("gateway")
}

/// `weft/iam-bridge`, as far as workloads may reach it: the local identity provider.
pub fn bridge() -> ServiceRef {
    named("iam-bridge")
}

/// Name of [`PROVIDER_PORT`].
pub fn provider_port() -> PortName {
    "oidc".parse().expect("a port name")
}

/// Name of [`BACKCHANNEL_PORT`].
pub fn backchannel_port() -> PortName {
    "backchannel".parse().expect("a port name")
}

pub fn is_builtin(service: &ServiceRef) -> bool {
    service.namespace.as_str() == NAMESPACE
}

fn named(name: &str) -> ServiceRef {
    let label = |s: &str| s.parse::<Label>().expect("a label");
    ServiceRef { namespace: label(NAMESPACE), name: label(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_names() {
        assert_eq!((gateway().to_string().as_str(), bridge().to_string().as_str()), ("weft/gateway", "weft/iam-bridge"));
        assert!(is_builtin(&gateway()) && !is_builtin(&"shop/gateway".parse().unwrap()));
        assert_eq!((provider_port().as_str(), backchannel_port().as_str()), ("oidc", "backchannel"));
        assert!([PROVIDER_TARGET_PORT, BACKCHANNEL_TARGET_PORT].iter().all(|port| OWN_PORTS.contains(port)));
        assert!(OWNER.parse::<crate::TeamName>().is_ok());
    }
}
