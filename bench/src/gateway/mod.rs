//! The gateway beside nginx and HAProxy: requests, new connections, and connections that are silent; alternating rounds, medians, ratios. It judges nothing.

mod stage;

use std::{collections::BTreeMap, fmt::Write as _, fs, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use weft_tests::door::PORT;

use crate::report::median;
use stage::{Proxy, Stage};

/// Connections of h2load, and handshakes at a time.
const CONNECTIONS: usize = 64;
const HANDSHAKES_AT_ONCE: usize = 16;
/// Silent connections whose memory is looked at.
const SILENT: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Http1,
    Http2,
    NewConnections,
}

impl Load {
    const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::NewConnections];

    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, 64 connections",
            Self::Http2 => "HTTP/2, 64 × 1",
            Self::NewConnections => "a new connection each",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    per_second: f64,
    p99_ms: f64,
    cpu_us: f64,
}

/// Everything, `rounds` times, as a table in Markdown.
pub fn run(rounds: usize, duration: Duration) -> Result<String> {
    let stage = Stage::set()?;
    stage.ready(|proxy| measure(&stage, proxy, Load::Http1, Duration::from_secs(1)).map(drop))?;
    let mut memory = BTreeMap::new();
    for proxy in Proxy::ALL.into_iter().filter(|proxy| *proxy != Proxy::WeftSignedIn) {
        eprintln!("{SILENT} silent connections: {}", proxy.name());
        memory.insert(proxy, silent(&stage, proxy)?);
    }
    let mut seen: BTreeMap<(Load, Proxy), Vec<Seen>> = BTreeMap::new();
    for round in 0..rounds {
        for load in Load::ALL {
            // Who comes first is another one each time.
            for turn in 0..Proxy::ALL.len() {
                let proxy = Proxy::ALL[(turn + round) % Proxy::ALL.len()];
                if load == Load::NewConnections && proxy == Proxy::WeftSignedIn {
                    continue;
                }
                eprintln!("round {}/{rounds}: {}, {}", round + 1, load.name(), proxy.name());
                seen.entry((load, proxy)).or_default().push(measure(&stage, proxy, load, duration)?);
            }
        }
    }
    table(&seen, &memory)
}

fn measure(stage: &Stage, proxy: Proxy, load: Load, duration: Duration) -> Result<Seen> {
    let before = stage.cpu_us(proxy)?;
    let (operations, seconds, p99_ms) = match load {
        Load::Http1 => h2load(stage, proxy, &["--h1"], duration)?,
        Load::Http2 => h2load(stage, proxy, &[], duration)?,
        Load::NewConnections => handshakes(stage, proxy, duration)?,
    };
    let cpu = stage.cpu_us(proxy)? - before;
    Ok(Seen { per_second: operations / seconds, p99_ms, cpu_us: cpu as f64 / operations })
}

/// Requests done, seconds, p99 in milliseconds.
fn h2load(stage: &Stage, proxy: Proxy, flags: &[&str], duration: Duration) -> Result<(f64, f64, f64)> {
    let outside = stage.outside(proxy)?;
    let log = outside.dir().join("h2load.log");
    let (seconds, connections, to) = (duration.as_secs().max(1).to_string(), CONNECTIONS.to_string(), format!("https://{}:{PORT}/", proxy.host()));
    let (log_flag, cookie) = (format!("--log-file={}", log.display()), format!("cookie: {}", stage.cookie));
    let mut argv = vec!["h2load", "-c", &connections, "-m", "1", "-t", "1", "-D", &seconds, "--tls13-ciphers=TLS_AES_128_GCM_SHA256", &log_flag];
    argv.extend(flags);
    if proxy == Proxy::WeftSignedIn {
        argv.extend(["-H", &cookie]);
    }
    argv.push(&to);
    let said = outside.check(&argv, duration + Duration::from_secs(60))?;
    let lines = fs::read_to_string(&log).with_context(|| format!("{} said {said}", argv.join(" ")))?;
    let _ = fs::remove_file(&log);
    let mut times = Vec::new();
    for line in lines.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [_, status, time, ..] = fields[..] else { bail!("h2load wrote {line:?}") };
        ensure!(status == "200", "{} answered {status}; {}", proxy.name(), stage.door.logs());
        times.push(time.parse::<u64>()?);
    }
    ensure!(!times.is_empty(), "{} answered nothing: {said}", proxy.name());
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100] as f64 / 1000.0;
    Ok((times.len() as f64, duration.as_secs_f64().max(1.0), p99))
}

/// By this program itself, in the place where the load comes from.
fn handshakes(stage: &Stage, proxy: Proxy, duration: Duration) -> Result<(f64, f64, f64)> {
    let own = std::env::current_exe()?.display().to_string();
    let (to, ca) = (stage.address(proxy).to_string(), stage.door.certificates.ca.display().to_string());
    let (host, count, millis) = (proxy.host(), HANDSHAKES_AT_ONCE.to_string(), duration.as_millis().to_string());
    let argv = [own.as_str(), "handshakes", "--to", &to, "--host", &host, "--ca", &ca, "--connections", &count, "--duration-ms", &millis];
    let printed = stage.outside(proxy)?.check(&argv, duration + Duration::from_secs(30))?;
    let outcome: crate::load::Outcome = serde_json::from_str(printed.trim()).with_context(|| format!("the load printed {printed:?}"))?;
    ensure!(outcome.errors == 0 && outcome.operations > 0, "{}: {outcome:?}", proxy.name());
    Ok((outcome.operations as f64, outcome.seconds, outcome.p99_us / 1000.0))
}

/// MiB at rest and with silent connections, and KiB for each of those.
fn silent(stage: &Stage, proxy: Proxy) -> Result<(f64, f64, f64)> {
    let own = std::env::current_exe()?.display().to_string();
    let (to, ca) = (stage.address(proxy).to_string(), stage.door.certificates.ca.display().to_string());
    let (host, count) = (proxy.host(), SILENT.to_string());
    let rest = stage.memory_kib(proxy)?;
    let mut held = stage.outside(proxy)?.spawn("hold", &[own.as_str(), "hold", "--to", &to, "--host", &host, "--ca", &ca, "--connections", &count])?;
    held.wait_for_log("holding", Duration::from_secs(60))?;
    let with = stage.memory_kib(proxy)?;
    held.kill9();
    let each = with.saturating_sub(rest) as f64 / SILENT as f64;
    Ok((rest as f64 / 1024.0, with as f64 / 1024.0, each))
}

fn table(seen: &BTreeMap<(Load, Proxy), Vec<Seen>>, memory: &BTreeMap<Proxy, (f64, f64, f64)>) -> Result<String> {
    let mut text = String::from("| load | proxy | requests/s | to HAProxy | p99 ms | CPU µs per request | to HAProxy |\n|---|---|---|---|---|---|---|\n");
    for load in Load::ALL {
        for proxy in Proxy::ALL {
            let of = |proxy: Proxy, f: fn(&Seen) -> f64| median(seen.get(&(load, proxy)).into_iter().flatten().map(f));
            let (rate, cpu) = (of(proxy, |s| s.per_second), of(proxy, |s| s.cpu_us));
            if rate.is_nan() {
                continue;
            }
            let (rate_ratio, cpu_ratio) = (rate / of(Proxy::Haproxy, |s| s.per_second), cpu / of(Proxy::Haproxy, |s| s.cpu_us));
            let p99 = of(proxy, |s| s.p99_ms);
            writeln!(text, "| {} | {} | {rate:.0} | {rate_ratio:.2} | {p99:.1} | {cpu:.0} | {cpu_ratio:.2} |", load.name(), proxy.name())?;
        }
    }
    writeln!(text, "\n| proxy | MiB at rest | with {SILENT} silent connections | KiB each |\n|---|---|---|---|")?;
    for (proxy, (rest, with, each)) in memory {
        writeln!(text, "| {} | {rest:.0} | {with:.0} | {each:.0} |", proxy.name())?;
    }
    Ok(text)
}
