//! What is typed, and what it is read as.

use super::*;

/// The command as read, or the first line of clap's complaint.
fn check(line: &str, expect: &str) {
    let words = std::iter::once("weft").chain(line.split(' '));
    let got = match Args::try_parse_from(words) {
        Ok(args) => format!("{:?}", args.command),
        Err(e) => e.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    assert!(got.contains(expect), "{line}: {got}");
}

#[test]
fn clap_finds_nothing_wrong_with_the_definition() {
    <Args as clap::CommandFactory>::command().debug_assert();
}

#[test]
fn can_reads_references_and_says_what_is_wrong_with_others() {
    check("can shop/orders shop/stock:web", "destination: Service { service: ServiceRef");
    check("can shop/orders ip:10.0.0.1:80", "destination: Ip { addr: 10.0.0.1, port: Some(80) }");
    check("can shop/orders ip:[fd00::1]:80", "addr: fd00::1, port: Some(80)");
    check("can orders shop/stock", "invalid value 'orders' for '<SRC>': reference \"orders\" needs a namespace: write NAMESPACE/NAME");
    check("can shop/orders shop/stock:0", "port that is neither a number from 1 to 65535 nor a port name");
    check("can user:alice@sales https://shop.example/a --method POST", "source: User { name: \"alice\", groups: [\"sales\"] }");
    check("can anonymous https://shop.example", "source: Anonymous, destination: Url(WebUrl { host: HostName(\"shop.example\"), port: None, path: \"/\" })");
    check("can group:sales http://shop.example/", "does not begin with https://");
    check("can group:sales https://shop.example/ --method get", "no HTTP method in capitals");
    check("can host:alice shop/stock", "reference kind \"host\" is not known here");
    check("can shop/orders", "required arguments were not provided");
    check("can shop/orders shop/stock --protocol sctp", "neither TCP nor UDP");
}

#[test]
fn flows_reads_filters() {
    check("flows -f --from shop/orders --verdict deny --since 5m --last 7", "since: Some(300s), last: Some(7)");
    check("flows --verdict maybe", "a verdict is allow or deny");
    check("flows --since 5", "a time is a whole number with its unit");
    check("flows --since 99999999999d", "a time is a whole number with its unit");
}

#[test]
fn why_wants_exactly_one_of_flow_and_last() {
    check("why 00000000000000ff", "flow: Some(FlowId(255)), last: false");
    check("why --last", "flow: None, last: true");
    check("why", "required arguments were not provided");
    check("why --last 00000000000000ff", "cannot be used with");
    check("why ff", "flow id \"ff\" is not 16 hex digits");
}

#[test]
fn programs_stand_behind_two_dashes_and_keep_their_own_flags() {
    check("run --service shop/orders --netns /run/netns/x -- psql -h db --agent=x", r#"command: ["psql", "-h", "db", "--agent=x"]"#);
    check("exec shop/stock -- psql -o json", r#"command: ["psql", "-o", "json"]"#);
    check("exec shop/stock psql", "unexpected argument 'psql' found");
    check("run -- psql", "required arguments were not provided");
    check("check -- --config /etc/weft/agent.toml", r#"args: ["--config", "/etc/weft/agent.toml"]"#);
}

#[test]
fn global_flags_may_stand_before_and_behind_the_command() {
    for line in ["weft -o json --agent /a --agent /b status", "weft status -o json --agent /a --agent /b"] {
        let args = Args::try_parse_from(line.split(' ')).unwrap();
        assert_eq!((args.global.output, args.global.agent.len()), (Format::Json, 2), "{line}");
    }
}

#[test]
fn lists_are_known_in_singular_too() {
    check("get service", "what: Services");
    check("get policies --catalog examples", "what: Policies, catalog: Some(\"examples\")");
    check("get routes -o wide", "what: Routes");
    check("get pods", "invalid value 'pods' for '<WHAT>'");
}

#[test]
fn the_bridge_is_told_in_full() {
    check("token create --node a --may-run shop/*,billing/ledger --ttl 2h", r#"may_run: ["shop/*", "billing/ledger"], ttl: 7200s"#);
    check("token create --node A --may-run shop/*", "may hold only lower-case letters");
    check("nodes rm a", "Rm { node: NodeName(\"a\") }");
}

#[test]
fn a_password_is_never_an_argument_and_groups_change_in_one_way() {
    check("user add alice --groups sales,support", r#"groups: ["sales", "support"], generate: false"#);
    check("user add alice secret", "unexpected argument 'secret' found");
    check("user add alice --password secret", "unexpected argument '--password' found");
    check("user groups alice a b", r#"groups: ["a", "b"], add: []"#);
    check("user groups alice a --add b", "cannot be used with");
    check("user groups alice --none --remove b", "cannot be used with");
    check("user rm", "required arguments were not provided");
}

#[test]
fn durations_have_units() {
    for (text, expect) in [("250ms", Some(250)), ("30s", Some(30_000)), ("5m", Some(300_000)), ("2h", Some(7_200_000)), ("1d", Some(86_400_000))] {
        assert_eq!(parse_duration(text).ok().map(|d| d.as_millis()), expect, "{text}");
    }
    for bad in ["", "5", "m", "5 m", "-5m", "5w", "18446744073709551615d"] {
        assert!(parse_duration(bad).is_err(), "{bad}");
    }
}
