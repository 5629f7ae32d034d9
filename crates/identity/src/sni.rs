//! The destination's identity in the TLS server name, so that the accepting end knows which SVID to present. The name proves nothing.

use rustls_pki_types::{DnsName, ServerName};
use weft_types::{Label, SpiffeId, TrustDomain};

/// What every server name of the mesh ends with.
pub const SNI_SUFFIX: &str = "weft.internal";

/// `<service account>.<namespace>.weft.internal`; `None` for a node, which nobody dials.
pub fn sni_for(id: &SpiffeId) -> Option<ServerName<'static>> {
    let SpiffeId::Workload { namespace, service_account, .. } = id else { return None };
    let name = DnsName::try_from(format!("{service_account}.{namespace}.{SNI_SUFFIX}")).ok()?;
    Some(ServerName::DnsName(name))
}

/// The identity that a server name asks for; `None` when it is no name of the mesh. DNS names are case-insensitive.
pub fn identity_from_sni(name: &str, trust_domain: &TrustDomain) -> Option<SpiffeId> {
    let name = name.to_ascii_lowercase();
    let (account, namespace) = name.strip_suffix(SNI_SUFFIX)?.strip_suffix('.')?.split_once('.')?;
    let label = |part: &str| part.parse::<Label>().ok();
    Some(SpiffeId::Workload { trust_domain: trust_domain.clone(), namespace: label(namespace)?, service_account: label(account)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_identities_correspond() {
        let domain: TrustDomain = "corp.example".parse().unwrap();
        let longest = "a".repeat(63);
        for id in ["spiffe://corp.example/ns/shop/sa/orders".to_owned(), format!("spiffe://corp.example/ns/{longest}/sa/{longest}")] {
            let id: SpiffeId = id.parse().unwrap();
            let name = sni_for(&id).unwrap();
            assert_eq!(identity_from_sni(&name.to_str(), &domain), Some(id));
        }
        assert_eq!(sni_for(&"spiffe://corp.example/node/a".parse().unwrap()), None);
        let orders = "spiffe://corp.example/ns/shop/sa/orders".parse().ok();
        assert_eq!(identity_from_sni("Orders.Shop.WEFT.internal", &domain), orders);
        for bad in
            ["", "weft.internal", "shop.weft.internal", "a.b.c.weft.internal", "orders.shop.weft.internal.", "orders.shopweft.internal", "orders.shop.example"]
        {
            assert_eq!(identity_from_sni(bad, &domain), None, "{bad}");
        }
    }
}
