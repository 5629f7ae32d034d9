//! The gateway held against test programs that others wrote: h2spec (HTTP/2, HPACK) and Autobahn (WebSocket). They are no part of what is installed here:
//! `cargo xtask test conformance-http --h2spec PATH --autobahn PATH` names them. What they find must be in `docs/conformance.md`, and what is there
//! must still be found. `WEFT_AUTOBAHN_CASES` chooses among Autobahn's, as in `1.* 7.*`; rows of others are then not looked at.
//!
//! Autobahn asks the application behind the gateway, and a copy of it that nothing is before: a finding is what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use weft_lab::Place;
use weft_tests::door::{App, DOMAIN, Door, DoorOptions, PORT};

const PAGE: &str = "docs/conformance.md";
const H2SPEC: Duration = Duration::from_secs(600);
/// Both ways together; most of it is the compression cases.
const AUTOBAHN: Duration = Duration::from_secs(3600);
const DIRECT_PORT: u16 = 8080;

const CATALOG: &str = r#"apiVersion: weft.mesh/v1alpha1
kind: MeshService
metadata: { name: echo, namespace: shop }
spec:
  type: application
  owner: shop
  ports: [ { name: web, port: 8080, appProtocol: http } ]
  expose: [ { port: web, host: echo, access: { public: true }, portal: { hidden: true } } ]
"#;

/// What a program found: which case, and how it went.
type Findings = BTreeMap<String, String>;

#[test]
fn programs_that_others_wrote_find_what_is_documented() -> Result<()> {
    let h2spec = named("WEFT_H2SPEC")?;
    let autobahn = named("WEFT_AUTOBAHN")?;
    let node = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("node");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/app.mjs").to_owned();
    let app = App {
        name: "echo",
        argv: vec![node.join("node").display().to_string(), script, "Echo".to_owned(), DIRECT_PORT.to_string()],
        ready: "listening",
        envs: vec![("WEFT_NODE".to_owned(), node.display().to_string())],
    };
    let options = DoorOptions { catalog: CATALOG.to_owned(), hosts: vec!["echo"], apps: vec![app.clone()], users: Vec::new(), gateway: toml::Table::new() };
    let door = Door::open("conformance", &options)?;
    let outside = door.outside()?;
    let _direct = outside.spawn_with("direct", &app.argv, |command| {
        command.envs(app.envs.iter().cloned());
    })?;
    let mut seen = asked_by_h2spec(&h2spec, &outside).with_context(|| door.logs())?;
    seen.extend(asked_by_autobahn(&autobahn, &outside).with_context(|| door.logs())?);
    judge(&seen, &documented()?)
}

fn named(variable: &str) -> Result<String> {
    std::env::var(variable)
        .ok()
        .filter(|path| Path::new(path).is_file())
        .with_context(|| format!("{variable} names no program: run `cargo xtask test conformance-http --h2spec PATH --autobahn PATH`"))
}

fn asked_by_h2spec(program: &str, outside: &Place) -> Result<Findings> {
    let report = outside.dir().join("h2spec.xml");
    let (host, port, path) = (format!("echo.{DOMAIN}"), PORT.to_string(), report.display().to_string());
    // Its own verdict is not asked for: it fails by a single case.
    let said = outside.output(&[program, "--tls", "--insecure", "--strict", "-o", "5", "-h", &host, "-p", &port, "-j", &path], H2SPEC)?;
    let xml = fs::read_to_string(&report).with_context(|| String::from_utf8_lossy(&said.stdout).into_owned())?;
    let (mut findings, mut cases) = (Findings::new(), 0);
    for case in xml.split("<testcase ").skip(1) {
        cases += 1;
        let key = format!("{} {}", attribute(case, "package")?, attribute(case, "classname")?);
        let end = case.find("</testcase>").unwrap_or(case.len());
        let failed = ["<failure", "<error"].iter().any(|mark| case[..end].contains(mark));
        if failed {
            findings.insert(key, "fails".to_owned());
        }
    }
    ensure!(cases > 100, "h2spec has run {cases} cases only: {}", String::from_utf8_lossy(&said.stdout));
    println!("h2spec: {cases} cases, {} fail", findings.len());
    Ok(findings)
}

fn cases() -> Vec<String> {
    let chosen = std::env::var("WEFT_AUTOBAHN_CASES").unwrap_or_default();
    if chosen.is_empty() { vec!["*".to_owned()] } else { chosen.split_whitespace().map(str::to_owned).collect() }
}

/// Whether the case was among those that were asked for.
fn is_asked(case: &str) -> bool {
    let Some(number) = case.strip_prefix("websocket ") else { return true };
    cases().iter().any(|chosen| chosen.strip_suffix('*').map_or(chosen == number, |start| number.starts_with(start)))
}

fn attribute(element: &str, name: &str) -> Result<String> {
    let text = element.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).with_context(|| format!("no {name} in {element}"))?;
    Ok(["&#34;", "&#39;", "&lt;", "&gt;", "&amp;"].iter().zip(["\"", "'", "<", ">", "&"]).fold(text.to_owned(), |text, (from, to)| text.replace(from, to)))
}

fn asked_by_autobahn(program: &str, outside: &Place) -> Result<Findings> {
    let reports = outside.dir().join("autobahn");
    fs::create_dir_all(&reports)?;
    let spec = json!({
        "outdir": reports, "options": { "failByDrop": false }, "cases": cases(), "exclude-cases": [], "exclude-agent-cases": {},
        "servers": [
            { "agent": "direct", "url": format!("ws://127.0.0.1:{DIRECT_PORT}/socket") },
            { "agent": "gateway", "url": format!("wss://echo.{DOMAIN}:{PORT}/socket") },
        ],
    });
    let file = outside.dir().join("autobahn.json");
    fs::write(&file, spec.to_string())?;
    let mut run = outside.spawn("autobahn", &[program, "-m", "fuzzingclient", "-s", &file.display().to_string()])?;
    run.wait(AUTOBAHN)?;
    let index = fs::read(reports.join("index.json")).with_context(|| run.log_tail(20))?;
    let index: Value = serde_json::from_slice(&index)?;
    let of = |agent: &str| index[agent].as_object().cloned().unwrap_or_default();
    let (direct, gateway) = (of("direct"), of("gateway"));
    ensure!(!gateway.is_empty() && direct.len() == gateway.len(), "Autobahn has run {} and {} cases: {}", direct.len(), gateway.len(), run.log_tail(20));
    let how = |case: &Value| format!("{}, closed {}", case["behavior"].as_str().unwrap_or("?"), case["behaviorClose"].as_str().unwrap_or("?"));
    let mut findings = Findings::new();
    for (case, result) in &gateway {
        let alone = direct.get(case).map_or_else(String::new, how);
        if how(result) != alone {
            findings.insert(format!("websocket {case}"), format!("{} (alone: {alone})", how(result)));
        }
    }
    println!("autobahn: {} cases, {} differ from the application alone", gateway.len(), findings.len());
    Ok(findings)
}

/// Rows of the page: case, what is found, why.
fn documented() -> Result<Findings> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    Ok(rows.map(|(case, rest)| (case.to_owned(), rest.split(" | ").next().unwrap_or_default().to_owned())).collect())
}

fn judge(seen: &Findings, page: &Findings) -> Result<()> {
    let cases: BTreeSet<&String> = seen.keys().chain(page.keys().filter(|case| is_asked(case))).collect();
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|case| match (seen.get(case), page.get(case)) {
            (Some(seen), Some(said)) if seen == said => None,
            (Some(seen), None) => Some(format!("| `{case}` | {seen} | … |")),
            (Some(seen), Some(said)) => Some(format!("`{case}`: {seen}, and the page has {said}")),
            (None, _) => Some(format!("`{case}`: is on the page, and is not found any more")),
        })
        .collect();
    ensure!(wrong.is_empty(), "{PAGE} and what was found disagree:\n{}", wrong.join("\n"));
    Ok(())
}
