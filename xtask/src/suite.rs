//! `cargo xtask test`: everything that CI runs, cheapest first, each suite also by its name.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use weft_host::{Need, Package, Unmet};

use crate::{boot, codegen, demo, ebpf, host, kernels, layers, mutations, npm, process, tidy, upgrade, vm};

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TestArgs {
    /// Suites by name; without one, all that CI runs
    #[arg(value_parser = names())]
    suites: Vec<String>,
    /// Run the suites after a failed one too
    #[arg(long)]
    keep_going: bool,
    /// Run the privileged tests under Debian's kernel of this line, in a virtual machine, instead
    #[arg(long, value_name = "LINE", value_parser = vm::lines(), conflicts_with = "suites")]
    kernel: Option<String>,
    /// How long the suite model begins sequences
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The first sequence of the suite model, as an earlier run has told it
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The program h2spec, for the suite conformance-http
    #[arg(long, value_name = "PATH")]
    h2spec: Option<PathBuf>,
    /// Autobahn's program wstest, for the same
    #[arg(long, value_name = "PATH")]
    autobahn: Option<PathBuf>,
    /// The suite browser brings the pictures of its pages that the documentation shows into docs/images
    #[arg(long)]
    pictures: bool,
    /// Handed to `cargo test` by the unit and privileged suites; names of patches for mutations, of boots for boot
    #[arg(last = true)]
    args: Vec<String>,
}

struct Suite {
    name: &'static str,
    what: &'static str,
    needs: &'static [Need],
    run: fn(&mut Run<'_>) -> Result<()>,
    /// Part of a run without names.
    default: bool,
}

/// What suites of one run tell each other.
struct Run<'a> {
    args: &'a [String],
    seconds: Option<u64>,
    seed: Option<u64>,
    pictures: bool,
    h2spec: Option<&'a Path>,
    autobahn: Option<&'a Path>,
    /// An object of the kernel programs that a newer toolchain built: its bytes say nothing, so the privileged tests run on it.
    rebuilt: Option<PathBuf>,
}

const PRIVILEGED: &[Need] = &[Need::Root, Need::Capabilities, Need::Cgroup2];

const DEMO: &[Need] = &[Need::Root, Need::Capabilities, Need::Cgroup2, Need::DemoWindow];

/// Cheapest first.
const SUITES: &[Suite] = &[
    Suite { name: "fmt", what: "every file is as rustfmt would write it", needs: &[], run: fmt, default: true },
    Suite { name: "tidy", what: "what no compiler checks", needs: &[], run: |_| tidy::run(), default: true },
    Suite { name: "layers", what: "dependencies point down", needs: &[], run: |_| layers::run(), default: true },
    Suite { name: "codegen", what: "generated code is what the protocol buffers say", needs: &[], run: |_| codegen::run(true), default: true },
    Suite { name: "clippy", what: "no warning in any target", needs: &[], run: clippy, default: true },
    Suite { name: "docs", what: "every page of documentation builds, every link in it leads somewhere", needs: &[], run: docs, default: true },
    Suite { name: "unit", what: "default members and the kernel ABI, without root", needs: &[], run: unit, default: true },
    Suite { name: "ebpf", what: "the kept object is what its sources make", needs: &[Need::Root], run: kernel_object, default: true },
    Suite { name: "privileged", what: "nodes and pods as network namespaces, real programs inside", needs: PRIVILEGED, run: privileged, default: true },
    Suite {
        name: "conformance",
        what: "sockets over no mesh, one node, two nodes, compared",
        needs: PRIVILEGED,
        run: |run| one_test("conformance", run.args),
        default: true,
    },
    Suite {
        name: "upgrade",
        what: "an agent of another ABI version takes over and gives back under load",
        needs: PRIVILEGED,
        run: |run| upgrade::run(run.args),
        default: true,
    },
    Suite {
        name: "faults",
        what: "a thousand live connections while something happens to the agent",
        needs: PRIVILEGED,
        run: |run| one_test("faults", run.args),
        default: true,
    },
    Suite {
        name: "model",
        what: "generated sequences on real nodes, compared with a model; a minute of them, or --seconds",
        needs: PRIVILEGED,
        run: model,
        default: true,
    },
    Suite { name: "gateway", what: "signing in and out against providers that nobody here wrote", needs: &[], run: gateway, default: true },
    Suite {
        name: "browser",
        what: "people at the door in headless Chromium: scenes, accessibility of every page",
        needs: PRIVILEGED,
        run: browser,
        default: true,
    },
    Suite { name: "e2e", what: "the tour of the demo", needs: DEMO, run: e2e, default: true },
    Suite {
        name: "boot",
        what: "a real systemd in a virtual machine: nothing of a managed unit leaves before it is identified; three boots, a minute and a half",
        needs: &[Need::Root],
        run: |run| boot::run(run.args),
        default: false,
    },
    Suite {
        name: "conformance-http",
        what: "the gateway held against h2spec and Autobahn, which --h2spec and --autobahn name",
        needs: PRIVILEGED,
        run: conformance_http,
        default: false,
    },
    Suite {
        name: "mutations",
        what: "each broken promise turns the suite that guards it red",
        needs: PRIVILEGED,
        run: |run| mutations::run(run.args),
        default: false,
    },
];

/// What the privileged suite itself starts; the demo installs its own.
pub(crate) const PACKAGES: &[Package] = &[
    Package { name: "iproute2", probe: "/usr/sbin/ip" },
    Package { name: "tcpdump", probe: "/usr/bin/tcpdump" },
    Package { name: "python3", probe: "/usr/bin/python3" },
    Package { name: "openssl", probe: "/usr/bin/openssl" },
    Package { name: "nftables", probe: "nft" },
    Package { name: "runc", probe: "/usr/sbin/runc" },
    Package { name: "systemd", probe: "/lib/systemd/systemd" },
];

/// What it starts beside them, here only: a guest that boots has no daemon of a runtime.
const RUNTIMES: &[Package] = &[Package { name: "containerd", probe: "/usr/bin/containerd" }];

/// What the suite gateway starts: a provider of Debian's, beside the one from npm.
const PROVIDERS: &[Package] = &[
    Package { name: "glewlwyd", probe: "glewlwyd" },
    // Without it Debian takes another database's, and its configuration fails without any.
    Package { name: "dbconfig-sqlite3", probe: "/usr/share/doc/dbconfig-sqlite3" },
    Package { name: "sqlite3", probe: "sqlite3" },
    Package { name: "openssl", probe: "openssl" },
];

/// What the suite browser starts; without a font a page has no letters.
const BROWSER: &[Package] = &[
    Package { name: "chromium", probe: "/usr/bin/chromium" },
    Package { name: "fonts-dejavu-core", probe: "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf" },
];

/// Pictures that the documentation shows.
const PICTURES: &[&str] = &["portal-light", "portal-dark", "refused-light", "sessions-light", "sign-in-light"];

/// Test programs of the suite gateway.
const GATEWAY: &[&str] = &["foreign"];

pub(crate) fn run(args: &TestArgs) -> Result<()> {
    if let Some(line) = &args.kernel {
        return kernels::run(line, &args.args);
    }
    let chosen: Vec<&Suite> =
        SUITES.iter().filter(|suite| if args.suites.is_empty() { suite.default } else { args.suites.iter().any(|name| name == suite.name) }).collect();
    let needs: BTreeSet<Need> = chosen.iter().flat_map(|suite| suite.needs).copied().collect();
    weft_host::require(&needs.into_iter().collect::<Vec<_>>())?;
    host::space()?;
    if chosen.iter().any(|suite| suite.name == "conformance-http") {
        given(&args.h2spec, "h2spec", "h2spec")?;
        given(&args.autobahn, "autobahn", "Autobahn's wstest")?;
    }
    if args.pictures && !chosen.iter().any(|suite| suite.name == "browser") {
        bail!("--pictures is for the suite browser, which is not among those named");
    }
    if (args.seconds.is_some() || args.seed.is_some()) && !chosen.iter().any(|suite| suite.name == "model") {
        bail!("--seconds and --seed are for the suite model, which is not among those named");
    }
    let mut run = Run {
        args: &args.args,
        seconds: args.seconds,
        seed: args.seed,
        pictures: args.pictures,
        h2spec: args.h2spec.as_deref(),
        autobahn: args.autobahn.as_deref(),
        rebuilt: None,
    };
    let mut report = Vec::new();
    for (number, suite) in chosen.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", number + 1, chosen.len(), suite.name, suite.what);
        let begun = Instant::now();
        let outcome = (suite.run)(&mut run);
        if let Err(error) = &outcome {
            eprintln!("error: {}: {error:#}", suite.name);
        }
        let failed = outcome.is_err();
        report.push((suite.name, outcome.map_err(drop), begun.elapsed()));
        if failed && !args.keep_going {
            break;
        }
    }
    let skipped: Vec<&str> = chosen.iter().skip(report.len()).map(|suite| suite.name).collect();
    let red = report.iter().filter(|(_, outcome, _)| outcome.is_err()).count();
    println!("\n{}\n\nsuites: {} passed, {red} failed", summary(&report, &skipped), report.len() - red);
    if red > 0 {
        bail!("{red} of {} suites failed", chosen.len());
    }
    Ok(())
}

/// Whether the suite is known by this name; for the headers of mutations.
pub(crate) fn exists(name: &str) -> bool {
    SUITES.iter().any(|suite| suite.name == name && suite.name != "mutations")
}

fn names() -> Vec<&'static str> {
    SUITES.iter().map(|suite| suite.name).collect()
}

fn summary(report: &[(&str, Result<(), ()>, Duration)], skipped: &[&str]) -> String {
    let ran =
        report.iter().map(|(name, outcome, time)| format!("  {name:<12} {:<8} {:>7.1} s", if outcome.is_ok() { "green" } else { "RED" }, time.as_secs_f64()));
    let total: Duration = report.iter().map(|(_, _, time)| *time).sum();
    ran.chain(skipped.iter().map(|name| format!("  {name:<12} not run")))
        .chain([format!("  {:<12} {:<8} {:>7.1} s", "together", "", total.as_secs_f64())])
        .collect::<Vec<_>>()
        .join("\n")
}

fn fmt(_: &mut Run<'_>) -> Result<()> {
    process::run(&mut process::cargo(["fmt", "--all", "--check"]))?;
    process::run(&mut process::cargo(["fmt", "--all", "--check", "--manifest-path", "ebpf/Cargo.toml"]))
}

fn clippy(_: &mut Run<'_>) -> Result<()> {
    process::run(&mut process::cargo(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    process::run(&mut process::cargo([
        "clippy",
        "--locked",
        "--manifest-path",
        "ebpf/Cargo.toml",
        "-p",
        "weft-ebpf-common",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn docs(_: &mut Run<'_>) -> Result<()> {
    process::run(process::cargo(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn unit(run: &mut Run<'_>) -> Result<()> {
    if !run.args.is_empty() {
        return process::run(process::cargo(["test", "--locked"]).args(run.args));
    }
    process::run(&mut process::cargo(["test", "--locked"]))?;
    process::run(&mut process::cargo(["test", "--locked", "--manifest-path", "ebpf/Cargo.toml", "-p", "weft-ebpf-common"]))
}

fn kernel_object(run: &mut Run<'_>) -> Result<()> {
    run.rebuilt = ebpf::check()?;
    Ok(())
}

fn privileged(run: &mut Run<'_>) -> Result<()> {
    weft_host::ensure(PACKAGES.iter().chain(RUNTIMES))?;
    let args = privileged_args(&test_names(&process::root().join("tests/tests"))?, run.args);
    if let Some(object) = &run.rebuilt {
        println!("    first on {}", object.display());
        process::run(process::cargo(["build", "--locked"]).env("WEFT_BPF_OBJECT", object))?;
        process::run(process::cargo(&args).env("WEFT_BPF_OBJECT", object))?;
    }
    demo::build()?;
    process::run(&mut process::cargo(&args))
}

/// The whole workspace is selected and the tests by name, because `-p weft-tests` would be another set of features and so another build of
/// half of the dependencies.
pub(crate) fn privileged_args(tests: &[String], args: &[String]) -> Vec<String> {
    let mut all: Vec<String> = ["test", "--locked", "--workspace", "--no-fail-fast"].map(str::to_owned).into();
    if !args.iter().any(|arg| arg == "--test" || arg.starts_with("--test=")) {
        all.extend(tests.iter().map(|name| format!("--test={name}")));
    }
    all.extend(args.iter().cloned());
    all
}

/// A test program that is a suite of its own, with what it prints.
fn one_test(name: &str, args: &[String]) -> Result<()> {
    process::run(&mut one_test_command(name, args)?)
}

fn one_test_command(name: &str, args: &[String]) -> Result<Command> {
    weft_host::ensure(PACKAGES.iter().chain(RUNTIMES))?;
    demo::build()?;
    let mut command = process::cargo(["test", "--locked", "--workspace", &format!("--test={name}")]);
    command.args(args).args(["--", "--nocapture"]);
    Ok(command)
}

fn model(run: &mut Run<'_>) -> Result<()> {
    let mut command = one_test_command("model", run.args)?;
    for (name, value) in [("WEFT_MODEL_SECONDS", run.seconds), ("WEFT_MODEL_SEED", run.seed)] {
        if let Some(value) = value {
            command.env(name, value.to_string());
        }
    }
    process::run(&mut command)
}

/// Test programs of a suite of their own.
const ELSEWHERE: &[&str] = &["browser", "conformance", "conformance_http", "faults", "foreign", "model", "upgrade"];

fn gateway(run: &mut Run<'_>) -> Result<()> {
    weft_host::ensure(PROVIDERS)?;
    npm::install()?;
    let names: Vec<String> = GATEWAY.iter().map(|name| (*name).to_owned()).collect();
    process::run(&mut process::cargo(privileged_args(&names, run.args)))
}

/// Programs that are not installed here: whoever wants them run says where they are.
fn given(path: &Option<PathBuf>, flag: &str, what: &str) -> Result<(), Unmet> {
    match path {
        Some(path) if path.is_file() => Ok(()),
        Some(path) => Err(Unmet(format!("there is no program at {}: --{flag} names {what}", path.display()))),
        None => Err(Unmet(format!("the suite conformance-http needs {what}: give --{flag} PATH (see docs/conformance.md)"))),
    }
}

fn conformance_http(run: &mut Run<'_>) -> Result<()> {
    let absolute = |path: Option<&Path>| path.map(std::path::absolute).transpose().map(Option::unwrap_or_default);
    let (h2spec, autobahn) = (absolute(run.h2spec)?, absolute(run.autobahn)?);
    npm::install()?;
    process::run(one_test_command("conformance_http", run.args)?.env("WEFT_H2SPEC", h2spec).env("WEFT_AUTOBAHN", autobahn))
}

fn browser(run: &mut Run<'_>) -> Result<()> {
    weft_host::ensure(BROWSER)?;
    npm::install()?;
    process::run(&mut one_test_command("browser", run.args)?)?;
    if run.pictures {
        let (from, to) = (process::target_dir().join("browser"), process::root().join("docs/images"));
        fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
        for name in PICTURES.iter().map(|name| format!("{name}.png")) {
            fs::copy(from.join(&name), to.join(&name)).with_context(|| format!("cannot copy {name} from {}", from.display()))?;
        }
        println!("    {} pictures are in {}", PICTURES.len(), to.display());
    }
    Ok(())
}

/// Names of the test programs in a folder, without those of [`ELSEWHERE`].
pub(crate) fn test_names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().filter(|stem| !ELSEWHERE.iter().any(|other| stem == other)).map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn e2e(_: &mut Run<'_>) -> Result<()> {
    demo::build()?;
    process::run(&mut demo::command(demo::Action::Check))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_what_ran_what_failed_and_what_did_not_run() {
        let report = [("fmt", Ok(()), Duration::from_millis(1240)), ("tidy", Err(()), Duration::from_millis(300))];
        assert_eq!(
            summary(&report, &["unit"]),
            "  fmt          green        1.2 s\n  tidy         RED          0.3 s\n  unit         not run\n  together                  1.5 s"
        );
    }

    #[test]
    fn one_test_by_name_or_all() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let check = |args: &str, expect: &str| {
            assert_eq!(privileged_args(&words("states wire"), &words(args)).join(" "), format!("test --locked --workspace --no-fail-fast {expect}"))
        };
        check("", "--test=states --test=wire");
        check("--test wire", "--test wire");
        check("-- group", "--test=states --test=wire -- group");
    }

    #[test]
    fn a_program_that_is_not_there_is_one_line_that_names_the_flag() {
        let check = |path: Option<&str>, expect: Option<&str>| {
            let found = given(&path.map(PathBuf::from), "h2spec", "h2spec").err().map(|unmet| unmet.to_string());
            assert_eq!(found.as_deref().map(|line| line.split(':').next().unwrap()), expect);
        };
        check(None, Some("the suite conformance-http needs h2spec"));
        check(Some("/does/not/exist"), Some("there is no program at /does/not/exist"));
        check(Some("/bin/sh"), None);
    }

    #[test]
    fn mutations_are_run_by_name_only_and_never_by_a_mutation() {
        assert!(SUITES.iter().all(|suite| suite.default != matches!(suite.name, "boot" | "conformance-http" | "mutations")));
        assert!(exists("unit") && !exists("mutations") && !exists("nothing"));
    }
}
