//! Medians of interleaved rounds, as a table that people read. It judges nothing.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use anyhow::Result;

use crate::{
    load::{Load, Outcome},
    paths::{Path, Paths},
};

/// What is measured: load, connections.
const LOADS: [(Load, usize); 5] = [(Load::Bulk, 1), (Load::Ping, 1), (Load::Ping, 16), (Load::Connect, 1), (Load::Connect, 16)];

type Key = (Path, usize);

/// Runs all loads over all paths, `rounds` times, and gives the table in Markdown.
pub fn run(rounds: usize, duration: Duration) -> Result<String> {
    let mut paths = Paths::start()?;
    let mut outcomes: BTreeMap<Key, Vec<Outcome>> = BTreeMap::new();
    let mut cpu: BTreeMap<Path, Vec<f64>> = BTreeMap::new();
    for round in 1..=rounds {
        for (at, (load, connections)) in LOADS.into_iter().enumerate() {
            for path in Path::ALL {
                eprintln!("round {round}/{rounds}: {load:?}, {connections} connections, {}", path.name());
                let before = paths.agents_cpu_seconds()?;
                let outcome = paths.measure(path, load, connections, duration)?;
                if load == Load::Bulk && outcome.bytes > 0 {
                    let seconds = paths.agents_cpu_seconds()? - before;
                    cpu.entry(path).or_default().push(seconds * 1e9 / outcome.bytes as f64);
                }
                outcomes.entry((path, at)).or_default().push(outcome);
            }
        }
    }
    table(&outcomes, &cpu)
}

fn table(outcomes: &BTreeMap<Key, Vec<Outcome>>, cpu: &BTreeMap<Path, Vec<f64>>) -> Result<String> {
    let mut text = String::from("| load | path | rate | to none | p50 µs | p99 µs | errors |\n|---|---|---|---|---|---|---|\n");
    for (at, (load, connections)) in LOADS.into_iter().enumerate() {
        for path in Path::ALL {
            let of = |p: Path, f: &dyn Fn(&Outcome) -> f64| median(outcomes.get(&(p, at)).into_iter().flatten().map(f));
            let rate: &dyn Fn(&Outcome) -> f64 = if load == Load::Bulk { &Outcome::gbit_per_second } else { &Outcome::per_second };
            let (own, plain) = (of(path, rate), of(path.baseline(), rate));
            let unit = if load == Load::Bulk { format!("{own:.1} Gbit/s") } else { format!("{own:.0}/s") };
            let latency = |v: f64| if load == Load::Bulk { "–".to_owned() } else { format!("{v:.0}") };
            let errors: u64 = outcomes.get(&(path, at)).into_iter().flatten().map(|o| o.errors).sum();
            writeln!(
                text,
                "| {load:?}, {connections} | {} | {unit} | {:.2} | {} | {} | {errors} |",
                path.name(),
                own / plain,
                latency(of(path, &|o| o.p50_us)),
                latency(of(path, &|o| o.p99_us)),
            )?;
        }
    }
    for (path, seconds) in cpu.iter().filter(|(p, _)| p.baseline() != **p) {
        writeln!(text, "\nAgents' CPU, bulk, {}: {:.2} s per GB.", path.name(), median(seconds.iter().copied()))?;
    }
    Ok(text)
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert!(median(std::iter::empty()).is_nan());
    }
}
