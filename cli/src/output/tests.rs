//! Fixed records in, text out.

use super::*;
use crate::{
    explain::WhyView,
    health::StatusView,
    view::{AnswerView, BridgeView, CertView, FlowView, NodeView, PartyView, PolicyView, PortView, ProgramView, ServiceView, Stamp, WorkloadView},
};

const NOW: i64 = 1_764_000_000;

fn now() -> Stamp {
    Stamp::seconds(NOW).unwrap()
}

#[track_caller]
fn check(got: String, expect: &str) {
    assert_eq!(got.trim_end(), expect.trim_matches('\n'), "\n{got}");
}

fn node() -> NodeView {
    NodeView {
        name: "a".into(),
        agent: Some("/run/weft/agent.sock".into()),
        version: "0.1.0".into(),
        revision: 7,
        kernel_revision: Some(7),
        bridge_connected: true,
        holder_connected: Some(true),
        fail_static_until: Stamp::seconds(NOW + 86_000),
        may_run: vec!["shop/*".into()],
        programs: vec![ProgramView { name: "weft_connect4".into(), attached_to: "/sys/fs/cgroup".into(), attached: true }],
        workloads: vec![WorkloadView {
            node: "a".into(),
            uid: "orders-1".into(),
            service: Some("shop/orders".into()),
            class: "enrolled".into(),
            mode: "enforce".into(),
            addresses: vec!["10.1.0.2".into()],
            enrolled_in_kernel: Some(true),
            svid_not_after: Stamp::seconds(NOW + 86_000),
            enforced: Some("packets and sockets".into()),
            public_ports: vec![8080, 8443],
            ..WorkloadView::default()
        }],
        ..NodeView::default()
    }
}

fn denied() -> FlowView {
    FlowView {
        id: "00000000000000ff".into(),
        node: "a".into(),
        at: Stamp::millis(NOW * 1000 + 123),
        point: "kernel-out".into(),
        verdict: "deny".into(),
        reason: "no-grant".into(),
        revision: 7,
        source: Some("shop/stock".into()),
        source_identity: Some("spiffe://corp.example/ns/shop/sa/stock".into()),
        destination: Some("shop/orders-db".into()),
        destination_identity: Some("spiffe://corp.example/ns/shop/sa/orders-db".into()),
        destination_owner: Some("team-orders".into()),
        address: "100.64.0.5".into(),
        port: 5432,
        service_port: Some(5432),
        protocol: "TCP".into(),
        pid: Some(41),
        command: Some("psql".into()),
        workload: Some("stock-1".into()),
        ..FlowView::default()
    }
}

fn answer() -> AnswerView {
    let party = |name: &str, owner: &str| PartyView {
        service: format!("shop/{name}"),
        identity: format!("spiffe://corp.example/ns/shop/sa/{name}"),
        owner: owner.into(),
        declared_at: "shop.yaml:1".into(),
    };
    AnswerView {
        verdict: "allow".into(),
        reason: "grant".into(),
        explanation: "a declared dependency, with the provider's consent, allows it".into(),
        revision: Some(7),
        rule: Some(3),
        rule_declared_at: Some("shop.yaml:14".into()),
        builtin: false,
        source: Some(party("orders", "team-orders")),
        destination: Some(party("stock", "team-stock")),
        address: None,
        port: 80,
        port_name: Some("web".into()),
        protocol: "TCP".into(),
        nearest_miss: None,
        patch: None,
    }
}

#[test]
fn status_tells_what_is_wrong_before_what_there_is() {
    let bridge = BridgeView {
        version: "0.1.0".into(),
        mesh: "corp".into(),
        trust_domain: "corp.example".into(),
        revision: 7,
        ca_not_after: Stamp::seconds(NOW + 86_400 * 365),
        ..BridgeView::default()
    };
    let lost = NodeView { name: "b".into(), ..NodeView::default() };
    let s = StatusView::new(vec![node(), lost], Some(bridge), vec!["no agent at /x: there is no such socket".into()], now());
    check(
        status(Style::default(), &s, now()),
        "
problem: no agent at /x: there is no such socket
problem: node b: not connected to the bridge (never seen); what its kernel enforces cannot be seen from here

mesh corp (corp.example), revision 7, bridge 0.1.0, CA until 2026-11-24

NODE  AGENT        REVISION  IN KERNEL  BRIDGE     FAIL-STATIC UNTIL                  WORKLOADS  PROGRAMS  MAY RUN
a     0.1.0        7         7          connected  2025-11-25T15:53:20Z (in 23h 53m)  1          1/1       shop/*
b     bridge only  none      -          gone       -                                  0          -         -

NODE  WORKLOAD  SERVICE      CLASS     MODE     ENROLLED   ENFORCED             ADDRESSES  OPEN TO ALL  SVID UNTIL
a     orders-1  shop/orders  enrolled  enforce  in kernel  packets and sockets  10.1.0.2   8080, 8443   2025-11-25T15:53:20Z (in 23h 53m)
",
    );
    check(status(Style::default(), &StatusView::new(Vec::new(), None, Vec::new(), now()), now()), "all is well\n\nno nodes\n\nno workloads");
}

#[test]
fn can_answers_in_a_line_and_adds_the_remedy_to_a_denial() {
    check(answers(Style::default(), &[answer()]), "allow  shop/orders → shop/stock:80/TCP (web)  rule 3 at shop.yaml:14, revision 7, owner team-stock");
    let denied = AnswerView {
        verdict: "deny".into(),
        reason: "no-grant".into(),
        explanation: "no declared dependency covers this source, destination and port".into(),
        rule: None,
        rule_declared_at: None,
        port: 443,
        port_name: None,
        nearest_miss: Some("shop/orders may reach shop/stock on port 80".into()),
        patch: Some("# shop.yaml:1\nspec:\n  dependsOn:\n    - { service: stock, port: 443 }\n".into()),
        ..answer()
    };
    check(
        answers(Style::default(), &[answer(), denied.clone(), denied]),
        "
allow  shop/orders → shop/stock:80/TCP (web)  rule 3 at shop.yaml:14, revision 7, owner team-stock
deny   shop/orders → shop/stock:443/TCP       no-grant: no declared dependency covers this source, destination and port, revision 7, owner team-stock
deny   shop/orders → shop/stock:443/TCP       no-grant: no declared dependency covers this source, destination and port, revision 7, owner team-stock

nearest miss: shop/orders may reach shop/stock on port 80

to allow it, put into the catalog:

  # shop.yaml:1
  spec:
    dependsOn:
      - { service: stock, port: 443 }
",
    );
}

#[test]
fn flows_are_a_table_or_lines() {
    let allowed = FlowView {
        verdict: "allow".into(),
        reason: "grant".into(),
        path: Some("captured".into()),
        source: Some("shop/orders".into()),
        destination: None,
        address: "fd00::1".into(),
        port: 53,
        protocol: "UDP".into(),
        rule: Some(3),
        bytes_out: 10,
        bytes_in: 20,
        ..denied()
    };
    check(
        flows(Style::default(), &[denied(), allowed.clone()], false),
        "
TIME          VERDICT  FROM         TO                   HOW       NODE  POINT       FLOW
16:00:00.123  deny     shop/stock   shop/orders-db:5432  no-grant  a     kernel-out  00000000000000ff
16:00:00.123  allow    shop/orders  [fd00::1]:53/UDP     captured  a     kernel-out  00000000000000ff
",
    );
    let wide = flows(Style::default(), &[allowed], true);
    assert!(
        wide.contains("spiffe://corp.example/ns/shop/sa/stock  spiffe://corp.example/ns/shop/sa/orders-db  fd00::1  7         3     psql[41]  10/20"),
        "{wide}"
    );
    check(
        flow_line(Style::default(), &denied(), false),
        "16:00:00.123  deny     shop/stock                shop/orders-db:5432         no-grant            a         kernel-out  00000000000000ff",
    );
    check(flows(Style::default(), &[], false), "no flows");
}

#[test]
fn colours_are_escapes_around_the_same_text_and_only_on_request() {
    let style = Style { colour: true, ..Style::default() };
    let coloured = flow_line(style, &denied(), false);
    assert!(coloured.contains("\x1b[31mdeny\x1b[0m"), "{coloured:?}");
    let table = flows(style, &[denied()], false);
    assert!(table.contains("\x1b["), "{table:?}");
    assert!(!flows(Style::default(), &[denied()], false).contains('\x1b'));
}

#[test]
fn why_tells_the_whole_record_and_the_patch() {
    let w = WhyView {
        flow: denied(),
        explanation: "no declared dependency covers this source, destination and port".into(),
        source_owner: Some("team-stock".into()),
        records: vec![denied()],
        nearest_miss: Some("shop/orders may".into()),
        patch: Some("spec: {}\n".into()),
        request: None,
        notes: vec!["judged at revision 7; now in force is 8".into()],
    };
    check(
        why(Style::default(), &w),
        "
flow 00000000000000ff: deny, no-grant: no declared dependency covers this source, destination and port

  source        shop/stock, owner team-stock
                spiffe://corp.example/ns/shop/sa/stock
  destination   shop/orders-db:5432, owner team-orders
                spiffe://corp.example/ns/shop/sa/orders-db
  dialled       100.64.0.5 port 5432 TCP
  rule          none matched
  revision      7
  at            2025-11-24T16:00:00.123Z
  process       psql (pid 41) of workload stock-1 on node a

AT            NODE  POINT       VERDICT  HOW       REVISION  KEY EXCHANGE  BYTES OUT/IN  TOOK  DETAIL
16:00:00.123  a     kernel-out  deny     no-grant  7         -             -             -     -

note: judged at revision 7; now in force is 8

nearest miss: shop/orders may

to allow it, put into the catalog:

  spec: {}
",
    );
}

#[test]
fn lists_of_services_policies_and_certificates() {
    let service = ServiceView {
        service: "shop/orders".into(),
        kind: "application".into(),
        title: "Orders".into(),
        owner: "team-orders".into(),
        capability: "order-management".into(),
        lifecycle: "production".into(),
        identity: "spiffe://corp.example/ns/shop/sa/orders".into(),
        vip: Some("100.64.0.2".into()),
        ports: vec![PortView { name: "web".into(), port: 80, target_port: 8080, protocol: "TCP".into() }],
        externals: Vec::new(),
        endpoints: vec!["10.1.0.2 on a".into()],
        declared_at: "shop.yaml:1".into(),
    };
    check(
        services(Style::default(), &[service]),
        "
SERVICE      TYPE         OWNER        LIFECYCLE   ADDRESS     PORTS            ENDPOINTS  DECLARED AT
shop/orders  application  team-orders  production  100.64.0.2  web 80→8080/TCP  1          shop.yaml:1
",
    );
    let grant = PolicyView {
        granted: true,
        rule: Some(3),
        source: "shop/orders".into(),
        destination: "shop/stock".into(),
        port: Some(80),
        protocol: Some("TCP".into()),
        needs_l7: false,
        builtin: false,
        declared_at: "shop.yaml:14".into(),
    };
    let pending = PolicyView { granted: false, rule: None, port: None, protocol: None, ..grant.clone() };
    let own = PolicyView { rule: Some(4), source: "weft/gateway".into(), builtin: true, ..grant.clone() };
    check(
        policies(Style::default(), &[grant, pending, own]),
        "
RULE  SOURCE        DESTINATION  PORT            VERDICT                               DECLARED AT
3     shop/orders   shop/stock   80/TCP          allow                                 shop.yaml:14
-     shop/orders   shop/stock   every declared  deny: the provider has not consented  shop.yaml:14
4     weft/gateway  shop/stock   80/TCP          allow: built in                       shop.yaml:14
",
    );
    let cert = CertView {
        node: "a".into(),
        spiffe_id: "spiffe://corp.example/ns/shop/sa/orders".into(),
        serial: "0a0b".into(),
        not_before: Stamp::seconds(NOW - 10),
        not_after: Stamp::seconds(NOW + 50),
        renew_at: Stamp::seconds(NOW + 20),
        pem: String::new(),
    };
    check(
        certs(Style::default(), &[cert], now()),
        "
NODE  IDENTITY                                 SERIAL  NOT BEFORE            NOT AFTER                      RENEWED
a     spiffe://corp.example/ns/shop/sa/orders  0a0b    2025-11-24T15:59:50Z  2025-11-24T16:00:50Z (in 50s)  in 20s
",
    );
}

#[test]
fn json_keeps_its_shape() {
    check(
        json(&answer()),
        r#"
{
  "verdict": "allow",
  "reason": "grant",
  "explanation": "a declared dependency, with the provider's consent, allows it",
  "revision": 7,
  "rule": 3,
  "rule_declared_at": "shop.yaml:14",
  "builtin": false,
  "source": {
    "service": "shop/orders",
    "identity": "spiffe://corp.example/ns/shop/sa/orders",
    "owner": "team-orders",
    "declared_at": "shop.yaml:1"
  },
  "destination": {
    "service": "shop/stock",
    "identity": "spiffe://corp.example/ns/shop/sa/stock",
    "owner": "team-stock",
    "declared_at": "shop.yaml:1"
  },
  "address": null,
  "port": 80,
  "port_name": "web",
  "protocol": "TCP",
  "nearest_miss": null,
  "patch": null
}"#,
    );
    check(
        json_line(&denied()),
        r#"{"id":"00000000000000ff","node":"a","at":"2025-11-24T16:00:00.123Z","point":"kernel-out","verdict":"deny","reason":"no-grant","revision":7,"rule":null,"rule_declared_at":null,"source":"shop/stock","source_identity":"spiffe://corp.example/ns/shop/sa/stock","destination":"shop/orders-db","destination_identity":"spiffe://corp.example/ns/shop/sa/orders-db","destination_owner":"team-orders","address":"100.64.0.5","port":5432,"service_port":5432,"protocol":"TCP","path":null,"pid":41,"command":"psql","workload":"stock-1","bytes_out":0,"bytes_in":0,"duration_us":0,"detail":null,"key_exchange":null,"request":null}"#,
    );
}
