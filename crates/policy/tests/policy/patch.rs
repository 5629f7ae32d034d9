//! A patch, added to the catalog as it says, is exactly what was missing.

use crate::common::{document, index};
use weft_policy::{Destination, Index, Query};
use weft_types::{Protocol, Reason};

fn documents() -> Vec<(String, String)> {
    let docs = [
        ("shop/front", "application", ""),
        ("shop/stock", "application", "  ports: [ { name: web, port: 80, targetPort: 8080 }, { name: admin, port: 81 } ]\n"),
        ("shop/asker", "application", "  dependsOn:\n    - { service: finance/ledger, port: web }\n"),
        ("finance/ledger", "application", "  ports: [ { name: web, port: 80 } ]\n"),
        ("finance/open", "application", "  ports: [ { name: web, port: 80 } ]\n  consumers:\n    - shop/*\n"),
        ("finance/cards", "interface", "  external: [ { cidr: 203.0.113.0/24, port: 443 } ]\n"),
    ];
    docs.into_iter().map(|(name, kind, rest)| (format!("{name}.yaml"), document(name, kind, rest))).collect()
}

fn decide(index: &Index, from: &str, destination: Destination) -> weft_policy::Decision {
    let source = index.by_ref(&from.parse().unwrap()).unwrap().id;
    index.decide(&Query { source, destination, protocol: Protocol::Tcp })
}

fn service(index: &Index, name: &str, port: u16) -> Destination {
    Destination::Service { id: index.by_ref(&name.parse().unwrap()).unwrap().id, port }
}

/// Does what the patch says: new documents as they are, the others' lists at the end of the document they name.
fn apply(patch: &str, documents: &mut Vec<(String, String)>) {
    for (i, part) in patch.split("---\n").enumerate() {
        if part.starts_with("# a new document") {
            documents.push((format!("new{i}.yaml"), part.to_owned()));
            continue;
        }
        let name = part.strip_prefix("# add to ").and_then(|rest| rest.split(' ').next()).unwrap();
        let (head, lists) = part.split_once("spec:\n").unwrap();
        let (namespace, short) = name.split_once('/').unwrap();
        assert!(head.contains(&format!("kind: MeshService\nmetadata: {{ name: {short}, namespace: {namespace} }}\n")), "{part}");
        let (_, text) = documents.iter_mut().find(|(file, _)| *file == format!("{name}.yaml")).unwrap();
        text.push_str(lists);
    }
}

#[track_caller]
fn check(from: &str, to: impl Fn(&Index) -> Destination, before: Reason, expect: &str) {
    let mut documents = documents();
    let old = index(&documents, &[]);
    let denied = decide(&old, from, to(&old));
    assert_eq!(denied.reason, before);
    let patch = denied.patch.unwrap();
    assert_eq!(patch, expect);
    apply(&patch, &mut documents);
    let new = index(&documents, &[]);
    assert_eq!(decide(&new, from, to(&new)).reason, Reason::Grant, "{patch}");
    // The smallest: one more grant, no other one, and nothing left pending that was not before.
    let pairs = |i: &Index| i.snapshot().grants.len() + i.snapshot().pending.len();
    assert_eq!(new.snapshot().grants.len(), old.snapshot().grants.len() + 1);
    assert!(pairs(&new) <= pairs(&old) + 1);
}

#[test]
fn within_a_namespace_the_dependency_is_enough() {
    check(
        "shop/front",
        |i| service(i, "shop/stock", 80),
        Reason::NoGrant,
        "# add to shop/front (shop/front.yaml:3), owner team-a\nkind: MeshService\nmetadata: { name: front, namespace: shop }\nspec:\n  dependsOn:\n    - { service: stock, port: web }\n",
    );
}

#[test]
fn consent_is_asked_for_where_it_is_missing() {
    let dependency =
        "# add to shop/front (shop/front.yaml:3), owner team-a\nkind: MeshService\nmetadata: { name: front, namespace: shop }\nspec:\n  dependsOn:\n";
    check("shop/front", |i| service(i, "finance/open", 80), Reason::NoGrant, &format!("{dependency}    - {{ service: finance/open, port: web }}\n"));
    check(
        "shop/front",
        |i| service(i, "finance/ledger", 80),
        Reason::NoGrant,
        &format!(
            "{dependency}    - {{ service: finance/ledger, port: web }}\n---\n# add to finance/ledger (finance/ledger.yaml:3), owner team-a\nkind: MeshService\nmetadata: {{ name: ledger, namespace: finance }}\nspec:\n  consumers:\n    - shop/front\n"
        ),
    );
    check(
        "shop/front",
        |i| service(i, "finance/cards", 443),
        Reason::NoGrant,
        &format!(
            "{dependency}    - {{ service: finance/cards, port: 443 }}\n---\n# add to finance/cards (finance/cards.yaml:3), owner team-a\nkind: MeshService\nmetadata: {{ name: cards, namespace: finance }}\nspec:\n  consumers:\n    - shop/front\n"
        ),
    );
}

#[test]
fn a_pending_dependency_needs_consent_only() {
    check(
        "shop/asker",
        |i| service(i, "finance/ledger", 80),
        Reason::Pending,
        "# add to finance/ledger (finance/ledger.yaml:3), owner team-a\nkind: MeshService\nmetadata: { name: ledger, namespace: finance }\nspec:\n  consumers:\n    - shop/asker\n",
    );
}

#[test]
fn an_unknown_address_needs_an_interface() {
    let patch = |name: &str, cidr: &str| {
        format!(
            "# a new document\napiVersion: weft.mesh/v1alpha1\nkind: MeshService\nmetadata: {{ name: {name}, namespace: shop }}\nspec:\n  type: interface\n  owner: team-a\n  external:\n    - {{ cidr: \"{cidr}\", port: 5000 }}\n---\n# add to shop/front (shop/front.yaml:3), owner team-a\nkind: MeshService\nmetadata: {{ name: front, namespace: shop }}\nspec:\n  dependsOn:\n    - {{ service: {name}, port: 5000 }}\n"
        )
    };
    let address = |a: &str| Destination::Address { addr: a.parse().unwrap(), port: 5000 };
    check("shop/front", |_| address("192.0.2.9"), Reason::UnknownDestination, &patch("external-192-0-2-9", "192.0.2.9/32"));
    check("shop/front", |_| address("2001:db8::9"), Reason::UnknownDestination, &patch("external-2001-db8--9", "2001:db8::9/128"));
}

#[test]
fn what_no_dependency_can_mend_has_no_patch() {
    let index = index(&documents(), &[]);
    for to in [
        service(&index, "shop/stock", 82),
        service(&index, "shop/stock", 15008),
        service(&index, "finance/cards", 80),
        Destination::Address { addr: "192.0.2.9".parse().unwrap(), port: 15008 },
    ] {
        let d = decide(&index, "shop/front", to.clone());
        assert!(d.patch.is_none() && d.nearest_miss.is_some(), "{to:?}: {d:?}");
    }
}
