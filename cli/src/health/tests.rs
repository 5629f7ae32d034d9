//! Each way to be unwell, and its words. One healthy node is the control: every case differs from it in one thing.

use super::*;
use crate::view::ProgramView;

const NOW: i64 = 1_764_000_000;

fn healthy() -> NodeView {
    NodeView {
        name: "a".into(),
        agent: Some("/run/weft/agent.sock".into()),
        revision: 7,
        kernel_revision: Some(7),
        bridge_connected: true,
        holder_connected: Some(true),
        fail_static_until: Stamp::seconds(NOW + 86_400),
        programs: vec![ProgramView { name: "weft_connect4".into(), attached_to: "/sys/fs/cgroup".into(), attached: true }],
        workloads: vec![WorkloadView {
            uid: "orders-1".into(),
            service: Some("shop/orders".into()),
            class: "enrolled".into(),
            enrolled_in_kernel: Some(true),
            svid_not_after: Stamp::seconds(NOW + 86_400),
            ..WorkloadView::default()
        }],
        ..NodeView::default()
    }
}

fn bridge(revision: u64) -> BridgeView {
    BridgeView { revision, ..BridgeView::default() }
}

fn words(s: &StatusView) -> String {
    s.problems.iter().map(|p| format!("{:?} [{}] {}", p.severity, p.node, p.text)).collect::<Vec<_>>().join("\n")
}

/// `expect` empty: all is well.
fn check(change: impl FnOnce(&mut NodeView), expect: &str) {
    let mut node = healthy();
    change(&mut node);
    let status = StatusView::new(vec![node], Some(bridge(7)), Vec::new(), Stamp::seconds(NOW).unwrap());
    assert_eq!(words(&status), expect);
    assert_eq!(status.healthy(), !expect.contains("Problem"));
}

#[test]
fn a_healthy_node_has_nothing_to_say() {
    check(|_| {}, "");
    check(|n| n.workloads[0].class = "exempt".into(), "");
}

#[test]
fn what_the_kernel_does_not_show_is_a_problem() {
    check(|n| n.kernel_revision = Some(6), "Problem [a] the agent holds revision 7, but the kernel enforces 6");
    check(|n| n.programs[0].attached = false, "Problem [a] kernel program weft_connect4 is not attached to /sys/fs/cgroup");
    check(|n| n.programs.clear(), "Problem [a] no kernel program is loaded: nothing is enforced");
    check(
        |n| {
            n.workloads[0].enrolled_in_kernel = Some(false);
            n.workloads[0].problem = "sk_lookup is not attached in its namespace".into();
        },
        "Problem [a] workload shop/orders (orders-1) is not enrolled in the kernel: sk_lookup is not attached in its namespace",
    );
    check(
        |n| {
            n.workloads[0].class = "unidentified".into();
            n.workloads[0].service = None;
        },
        "Problem [a] workload orders-1 is unidentified, so everything it tries is denied",
    );
}

#[test]
fn revisions_that_lag_are_told_apart() {
    check(
        |n| {
            n.revision = 0;
            n.kernel_revision = Some(0);
        },
        "Problem [a] has no snapshot yet: every enrolled workload is denied",
    );
    check(
        |n| {
            n.revision = 6;
            n.kernel_revision = Some(6);
        },
        "Warning [a] is at revision 6, the bridge at 7",
    );
}

#[test]
fn without_the_bridge_the_rest_of_the_time_is_said() {
    let gone = |until: i64| {
        move |n: &mut NodeView| {
            n.bridge_connected = false;
            n.bridge_error = "connection refused".into();
            n.fail_static_until = Stamp::seconds(until);
        }
    };
    check(
        gone(NOW + 7200),
        "Warning [a] no connection to the bridge: connection refused; it works on its last snapshot until 2025-11-24T18:00:00Z, 2h 0m more",
    );
    check(gone(NOW + 60), "Problem [a] no connection to the bridge: connection refused; it works on its last snapshot until 2025-11-24T16:01:00Z, 1m 0s more");
    check(gone(NOW - 60), "Problem [a] no connection to the bridge: connection refused; its certificates ended 1m 0s ago: new remote connections fail");
    check(gone(0), "Problem [a] no connection to the bridge: connection refused; it holds no certificate to go on with");
}

#[test]
fn identities_that_end_are_told() {
    check(
        |n| n.workloads[0].enforced_why = Some("interface tap0 (tun) sends through whoever holds it".into()),
        "Warning [a] workload shop/orders (orders-1) is enforced at its sockets only: interface tap0 (tun) sends through whoever holds it",
    );
    check(|n| n.workloads[0].svid_not_after = None, "Warning [a] workload shop/orders (orders-1) has no SVID: it reaches nothing on other nodes");
    check(
        |n| n.workloads[0].svid_not_after = Stamp::seconds(NOW - 5),
        "Problem [a] the SVID of shop/orders (orders-1) ended 5s ago: it reaches nothing on other nodes",
    );
    check(|n| n.holder_connected = Some(false), "Problem [a] the holder process does not answer: an agent restart would reset connections");
}

#[test]
fn the_worst_comes_first_and_silence_is_a_problem() {
    let mut node = healthy();
    node.host_warnings = vec!["bpffs is not mounted at boot".into()];
    let mut b = bridge(7);
    b.catalog_errors = vec!["shop.yaml:3: unknown field `onwer`".into()];
    b.refused_by.insert("a".into(), "no space for the state file".into());
    let lost = NodeView { name: "b".into(), bridge_last_seen: Stamp::seconds(NOW - 90), ..NodeView::default() };
    let status = StatusView::new(vec![node, lost], Some(b), vec!["no agent at /x".into()], Stamp::seconds(NOW).unwrap());
    assert_eq!(
        words(&status),
        "\
Problem [] no agent at /x
Problem [] the catalog is broken, revision 7 stays in force: shop.yaml:3: unknown field `onwer`
Problem [a] refused the last snapshot and keeps revision 7: no space for the state file
Problem [b] not connected to the bridge (last seen 1m 30s ago); what its kernel enforces cannot be seen from here
Warning [a] bpffs is not mounted at boot"
    );
    assert!(!status.healthy());
}
