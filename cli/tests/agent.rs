//! The program `weft` against agents and a bridge that answer on real sockets with fixed records: exit codes, words, JSON.
//!
//! The other ends are stand-ins that hold the wire's contract; `weft` is the real program. The real agents are met in the end-to-end suite.

mod stand;

use std::process::Output;

use stand::{Stand, answering_agent, flow, plain_agent, request};
use weft_api::agent::v1 as wire;

/// Exit code, then stdout, then stderr; sockets shown by their file name.
fn weft(stand: &Stand, args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = stand.weft(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&format!("{}/", stand.dir.path().display()), "");
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_of_two_agents_come_in_order_of_time() {
    let a = answering_agent("a", vec![flow(1, "a", 1_000, "allow"), flow(3, "a", 3_000, "deny")]);
    let b = answering_agent("b", vec![flow(2, "b", 2_000, "allow")]);
    let stand = Stand::new(vec![("a.sock", a), ("b.sock", b)], None).await;
    let (code, out, err) = weft(&stand, &["flows"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let ids: Vec<&str> = out.lines().skip(1).map(|l| l.split_whitespace().last().unwrap()).collect();
    assert_eq!(ids, ["0000000000000001", "0000000000000002", "0000000000000003"], "{out}");
    let (_, out, _) = weft(&stand, &["flows", "--last", "1", "-o", "json"]);
    assert_eq!(out.lines().count(), 1);
    assert!(out.contains(r#""id":"0000000000000003","node":"a","at":"1970-01-01T00:00:03.000Z""#), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_silent_agent_is_named_and_the_other_still_answers() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", vec![flow(1, "a", 1_000, "allow")]))], None).await.with_agent("absent.sock");
    let (code, out, err) = weft(&stand, &["flows"]);
    assert_eq!((code, out.lines().count()), (0, 2));
    assert_eq!(
        err,
        "weft: no agent at absent.sock: there is no such socket; is weft-agent running, and is this the path in its configuration?; its flows are missing\n"
    );
    let (code, out, _) = weft(&stand, &["status"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("problem: no agent at absent.sock: "), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_home_is_an_error_with_the_way_out() {
    let stand = Stand::new(Vec::new(), None).await.with_agent("absent.sock");
    for args in [&["status"][..], &["flows"], &["why", "--last"], &["certs"], &["get", "nodes"], &["can", "shop/a", "shop/b"]] {
        let (code, out, err) = weft(&stand, args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains("no agent at absent.sock: there is no such socket; is weft-agent running"), "{args:?}: {err}");
    }
    std::os::unix::net::UnixListener::bind(stand.dir.path().join("absent.sock")).unwrap();
    let (code, _, err) = weft(&stand, &["status"]);
    assert_eq!((code, err.as_str()), (2, "weft: nobody listens at the agent's socket absent.sock: weft-agent has ended; start it again\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_joins_what_both_nodes_know_and_says_what_would_allow_it() {
    let denied = wire::Flow { source: "shop/stock".into(), destination: "shop/orders".into(), service_port: 80, ..flow(7, "a", 5_000, "deny") };
    let seen = wire::Flow { point: "proxy-in".into(), ..flow(7, "b", 5_001, "allow") };
    let other = flow(8, "b", 4_000, "deny");
    let stand = Stand::new(vec![("a.sock", answering_agent("a", vec![denied])), ("b.sock", answering_agent("b", vec![other, seen]))], None).await;
    for args in [&["why", "--last"][..], &["why", "0000000000000007"]] {
        let (code, out, err) = weft(&stand, args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.starts_with("flow 0000000000000007: deny, no-grant: no declared dependency covers this source, destination and port\n"), "{out}");
        assert!(out.contains("  source        shop/stock, owner team-shop\n"), "{out}");
        assert!(out.contains("00:00:05.001  b     proxy-in    allow"), "{out}");
        assert!(out.contains("    - { service: orders, port: web }\n"), "{out}");
    }
    let (code, _, err) = weft(&stand, &["why", "00000000000000aa"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("weft: no agent knows flow 00000000000000aa: agents keep the newest only"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_flows_of_people_and_explained_like_a_question_about_them() {
    let nobody = wire::Flow {
        source: String::new(),
        reason: "sign-in".into(),
        request: Some(wire::Request { user: String::new(), groups: vec![], status: 302, missing: vec![], ..request(2, "a", 0).request.unwrap() }),
        ..request(2, "a", 2_000)
    };
    let before = wire::Flow { revision: 6, ..request(4, "a", 4_000) };
    let stand = Stand::new(vec![("a.sock", answering_agent("a", vec![request(1, "a", 1_000), nobody, flow(3, "a", 3_000, "allow"), before]))], None).await;
    let (code, out, _) = weft(&stand, &["flows", "--last", "3"]);
    assert_eq!((code, out.lines().count()), (0, 4), "{out}");
    let line: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line, ["00:00:02.000", "deny", "anonymous", "GET", "shop.corp.example/orders/7", "sign-in", "302", "a", "gateway", "0000000000000002"]);
    let (_, out, _) = weft(&stand, &["flows", "--from", "user:alice", "-o", "json"]);
    let said: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((said.len(), &said[0]["id"], &said[1]["id"]), (2, &"0000000000000001".into(), &"0000000000000004".into()));
    assert_eq!(
        (&said[0]["request"]["user"], &said[0]["request"]["status"], &said[0]["request"]["missing"][0]),
        (&"alice".into(), &403.into(), &"sales".into())
    );
    for (from, words) in [("user:", "user: is followed by a name"), ("alice", "a person is user:NAME")] {
        let (code, _, err) = weft(&stand, &["flows", "--from", from]);
        assert!(code == 2 && err.contains(words), "{err}");
    }

    let (code, out, err) = weft(&stand, &["why", "0000000000000001"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for part in [
        "flow 0000000000000001: deny, missing-group: ",
        "  who           user:alice, in support\n  asked         GET https://shop.corp.example/orders/7\n  from          192.0.2.7\n",
        "  application   shop/orders (orders), owner team-shop\n  answered      403\n  rule          2, declared at shop.yaml:12\n",
        "  missing       any one of sales\n  ask           team-shop: #shop, alice\n  revision      7\n",
        "  gateway       workload gateway-1 on node a\n",
        "nearest miss: alice is in support; the exposure at shop.yaml:12 is open to sales\n",
        "smallest change: put alice into sales (ask team-shop: #shop, alice)\n",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
    let (_, out, _) = weft(&stand, &["why", "0000000000000001", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&said["flow"]["request"]["path"], &said["request"]["app"]["service"]), (&"/orders/7".into(), &"shop/orders".into()));
    assert_eq!((&said["request"]["url"], &said["request"]["ask"][0]["team"]), (&"https://shop.corp.example:8443/orders/7".into(), &"team-shop".into()));

    let (_, out, _) = weft(&stand, &["why", "0000000000000004"]);
    assert!(out.contains("note: judged at revision 6; now in force is 7, with the same verdict: deny (missing-group)\n"), "{out}");
    assert!(out.contains("any one of sales") && !out.contains("smallest change") && !out.contains("ask "), "{out}");
    let (_, out, _) = weft(&stand, &["why", "0000000000000002", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&said["request"]["change"], &said["request"]["person"]["user"]), (&"sign in".into(), &serde_json::Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_agents_hold_no_routes_the_bridge_explains_requests() {
    let plain = stand::StandInAgent::with_flows(plain_agent("a"), vec![request(1, "a", 1_000)]);
    let stand = Stand::new(vec![("a.sock", plain)], Some("bridge.sock")).await;
    let (code, out, err) = weft(&stand, &["why", "--last"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("smallest change: put alice into sales"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_denied_flow_last_has_nothing_to_explain() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", vec![flow(1, "a", 1_000, "allow")]))], None).await;
    let (code, _, err) = weft(&stand, &["why", "--last"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("weft: no denied flow is recorded on any configured agent"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn can_decides_on_the_snapshot_in_force() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", Vec::new()))], None).await;
    let (code, out, err) = weft(&stand, &["can", "shop/storefront", "shop/orders:web"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "allow  shop/storefront → shop/orders:80/TCP (web)  rule 1 at shop.yaml:9, revision 7, owner team-shop\n");
    let (code, out, _) = weft(&stand, &["can", "shop/stock", "ip:100.64.0.2:80"]);
    assert_eq!(code, 1);
    assert!(out.starts_with("deny   shop/stock → shop/orders:80/TCP  no-grant: "), "{out}");
    let (code, out, _) = weft(&stand, &["can", "ip:10.1.0.2", "ip:100.64.0.2", "-o", "json"]);
    assert_eq!(code, 1);
    assert!(out.contains("\"revision\": 7"), "{out}");
    let (code, _, err) = weft(&stand, &["can", "shop/stock", "shop/ordrs"]);
    assert_eq!((code, err.as_str()), (2, "weft: no service shop/ordrs in revision 7; did you mean shop/orders?\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_rules_are_shown_as_its_own() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", Vec::new()))], None).await;
    let (code, out, err) = weft(&stand, &["can", "weft/gateway", "shop/orders:web"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, "allow  weft/gateway → shop/orders:80/TCP (web)  built-in rule 3, by what is declared at shop.yaml:12, revision 7, owner team-shop\n");
    let (code, out, _) = weft(&stand, &["get", "policies"]);
    assert_eq!(code, 0);
    assert!(out.lines().any(|l| l.starts_with("3     weft/gateway") && l.contains("allow: built in")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_are_listed_and_people_asked_about() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", Vec::new()))], None).await;
    let (code, out, err) = weft(&stand, &["get", "routes"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "ADDRESS                                  OPEN TO  METHODS  LEADS TO              OWNER      DECLARED AT\nhttps://shop.corp.example:8443/orders/*  sales    GET      shop/orders:80 (web)  team-shop  shop.yaml:12\n"
    );
    let (_, out, _) = weft(&stand, &["get", "routes", "-o", "wide"]);
    assert!(out.lines().next().unwrap().ends_with("RULE") && out.contains("http    /             -              by default  2"), "{out}");
    let (_, out, _) = weft(&stand, &["get", "routes", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    let route = &said[0];
    assert_eq!(
        (&route["service"], &route["groups"][0], &route["path_kind"], &route["rule"]),
        (&"shop/orders".into(), &"sales".into(), &"prefix".into(), &2.into())
    );

    let url = "https://shop.corp.example:8443/orders/7";
    let (code, out, err) = weft(&stand, &["can", "user:alice@sales", url]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.starts_with("allow  user:alice@sales → GET https://shop.corp.example:8443/orders/7  group sales (rule 2 at shop.yaml:12), revision 7\n"),
        "{out}"
    );
    // Each differs in one thing.
    for (args, reason) in [
        (vec!["can", "user:alice", url], "missing-group"),
        (vec!["can", "anonymous", url], "sign-in"),
        (vec!["can", "group:sales", url, "--method", "POST"], "method"),
        (vec!["can", "group:sales", "https://shop.corp.example/other"], "no-route"),
        (vec!["can", "group:sales", "https://shp.corp.example/orders"], "no-host"),
    ] {
        let (code, out, _) = weft(&stand, &[args.as_slice(), &["-o", "json"]].concat());
        let said: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &said[0]["verdict"], &said[0]["reason"], &said[0]["revision"]), (1, &"deny".into(), &reason.into(), &7.into()), "{args:?}");
    }
    let (_, _, err) = weft(&stand, &["can", "user:alice", url]);
    assert_eq!(err, "weft: which groups alice is in only the identity provider knows: name them as user:alice@GROUP,GROUP\n");
    for (args, said) in [
        (vec!["can", "user:alice", "shop/orders"], "weft: user:alice is a person"),
        (vec!["can", "shop/stock", url], "weft: an address https://… is what people"),
        (vec!["can", "shop/stock", "shop/orders", "--method", "GET"], "weft: --method is of requests"),
        (vec!["can", "user:alice", url, "--protocol", "TCP"], "weft: --protocol is of connections"),
        (vec!["can", "user:alice", "http://shop.corp.example/"], "error: invalid value"),
        (vec!["can", "user:alice", "https://shop.corp.example/a/../b"], "error: invalid value"),
    ] {
        let (code, out, err) = weft(&stand, &args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.starts_with(said), "{args:?}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_agents_know_no_routes_the_bridge_is_asked() {
    let url = "https://shop.corp.example/orders";
    let stand = Stand::new(vec![("a.sock", plain_agent("a"))], Some("bridge.sock")).await;
    let (code, out, err) = weft(&stand, &["can", "group:sales", url]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let alone = Stand::new(vec![("a.sock", plain_agent("a"))], None).await;
    for args in [&["can", "group:sales", url][..], &["get", "routes"]] {
        let (code, out, err) = weft(&alone, args);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("weft: the agents hold no routes, although there is a gateway: they are of an older version"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_whole_and_sound_when_all_is_well() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", Vec::new()))], Some("bridge.sock")).await;
    let (code, out, err) = weft(&stand, &["status"]);
    // The bridge knows a node b that is gone.
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    assert!(out.starts_with("problem: node b: not connected to the bridge (never seen)"), "{out}");
    assert!(out.contains("\nmesh corp (corp.example), revision 7, bridge 0.1.0\n"), "{out}");
    let (code, out, _) = weft(&stand, &["get", "nodes", "-o", "json"]);
    assert_eq!(code, 0);
    let nodes: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&nodes[0]["name"], &nodes[0]["may_run"][0], &nodes[1]["agent"]), (&"a".into(), &"shop/*".into(), &serde_json::Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_go_to_stdout_alone_or_to_a_private_file() {
    let stand = Stand::new(Vec::new(), Some("bridge.sock")).await;
    let (code, out, err) = weft(&stand, &["token", "create", "--node", "c", "--may-run", "shop/*"]);
    assert_eq!((code, out.as_str()), (0, "weft-join-v1.00.c.00\n"), "{err}");
    assert!(err.starts_with("weft: join token for node c: it may run shop/*, until 2100-01-01T00:00:00Z (in "), "{err}");
    let file = stand.dir.path().join("token");
    let (code, out, _) = weft(&stand, &["token", "create", "--node", "c", "--may-run", "shop/*", "--out", &file.display().to_string()]);
    assert_eq!((code, out.as_str(), std::fs::read_to_string(&file).unwrap().as_str()), (0, "", "weft-join-v1.00.c.00\n"));
    let (code, _, err) = weft(&stand, &["token", "create", "--node", "c", "--may-run", "shop"]);
    assert_eq!((code, err.as_str()), (2, "weft: --may-run \"shop\" is neither NAMESPACE/NAME nor NAMESPACE/*\n"));
    let (code, _, err) = weft(&stand, &["nodes", "rm", "zz"]);
    assert_eq!((code, err.as_str()), (2, "weft: the bridge at bridge.sock says: node zz is not known\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let flows = (1..2000).map(|n| flow(n, "a", i64::try_from(n).unwrap(), "allow")).collect();
    let stand = Stand::new(vec![("a.sock", answering_agent("a", flows))], None).await;
    let mut child = stand.command(&["flows", "-o", "json"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8(done.stderr).unwrap().as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn following_prints_recorded_and_new_flows_and_survives_an_agent_that_is_gone() {
    use std::io::{BufRead, BufReader};
    let stand =
        Stand::new(vec![("a.sock", answering_agent("a", vec![flow(2, "a", 2_000, "deny"), flow(1, "a", 1_000, "allow")]))], None).await.with_agent("late.sock");
    let mut child = stand.command(&["flows", "-f"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(err.next().unwrap().unwrap().contains("late.sock"));
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || out.next().unwrap().unwrap();
    assert!(next().ends_with("0000000000000001"));
    assert!(next().ends_with("0000000000000002"));
    stand.serve_agent("late.sock", answering_agent("b", vec![flow(3, "b", 3_000, "allow")])).await;
    assert!(next().ends_with("0000000000000003"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_and_run_say_what_is_missing() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", Vec::new())), ("b.sock", answering_agent("b", Vec::new()))], None).await;
    let (code, _, err) = weft(&stand, &["exec", "shop/ordes", "--", "true"]);
    assert_eq!(
        (code, err.as_str()),
        (2, "weft: no workload of shop/ordes on the configured agents; did you mean shop/orders?; `weft get workloads` lists them\n")
    );
    let (code, _, err) = weft(&stand, &["run", "--service", "shop/orders", "--", "true"]);
    assert_eq!((code, err.as_str()), (2, "weft: the configuration names 2 agents: say with --agent which node this runs on (a.sock, b.sock)\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_fails_is_a_problem_with_its_reason_and_only_asked_for_by_name() {
    let stand = Stand::new(vec![("a.sock", answering_agent("a", Vec::new()))], None).await;
    let (code, out, _) = weft(&stand, &["status"]);
    assert!(code == 0 && !out.contains("OUT IS CAPTURED"), "{out}");
    let (code, out, _) = weft(&stand, &["status", "--prove"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("it is not proven that what nobody attested is refused: somebody came in"), "{out}");
    assert!(out.contains("OUT IS CAPTURED") && out.lines().any(|l| l.contains("orders-1") && l.contains("holds") && l.contains("fails")), "{out}");
    let (_, out, _) = weft(&stand, &["status", "--prove", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    let proof = &said["nodes"][0]["workloads"][0]["proof"];
    assert_eq!((&proof["outbound"]["holds"], &proof["inbound"]["problem"]), (&true.into(), &"somebody came in".into()));
}
