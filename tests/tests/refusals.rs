//! Where a prerequisite is missing, every program says so in one line and ends with 2 before it has changed anything.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use weft_host::DEMO_WINDOW;
use weft_lab::{Inventory, Lab, METRICS, Place, bin};
use weft_tests::hold_port;

const DEADLINE: Duration = Duration::from_secs(30);

const GUARD: &str = "agent guard";

/// A program, and how it is started.
struct Program {
    name: &'static str,
    argv: Vec<String>,
}

/// What is taken away: the words around a command that take it, and what the refusal has to name.
struct Missing {
    what: &'static str,
    wrapper: Vec<String>,
    says: &'static [&'static str],
}

#[test]
fn what_is_missing_is_said_in_one_line_before_anything_changes() -> Result<()> {
    let mut lab = Lab::new("refusals")?;
    let node = lab.node("a")?;
    let place = node.place();
    let dir = lab.work().join("refusals");
    // Readable by who is not root.
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    let programs = programs(&dir, &lab.work().join("small"))?;
    let (before, _held) = (Inventory::take(), lab.hold()?);
    for missing in [
        Missing { what: "root", wrapper: words("setpriv --reuid=65534 --regid=65534 --clear-groups"), says: &["root"] },
        Missing { what: "capabilities", wrapper: words("setpriv --bounding-set=-bpf,-sys_admin"), says: &["CAP_SYS_ADMIN", "CAP_BPF"] },
        Missing { what: "cgroup2", wrapper: shell("umount -a -l -t cgroup2"), says: &["cgroup2"] },
        Missing {
            what: "space",
            wrapper: shell(&format!("mkdir -p {0} && mount -t tmpfs -o size=1m none {0} && export WEFT_WORK_DIR={0}", lab.work().join("small").display())),
            says: &["MiB"],
        },
    ] {
        // The guard asks for less: what it is for must not wait for a disk or a port.
        for program in programs.iter().filter(|p| missing.what != "space" || p.name != GUARD) {
            refused(place, program, &missing)?;
        }
    }
    let held = [hold_port(place, METRICS)?, hold_port(place, &DEMO_WINDOW.to_string())?];
    for program in programs.iter().filter(|p| p.name != GUARD) {
        refused(place, program, &Missing { what: "a port", wrapper: Vec::new(), says: &["held"] })?;
    }
    drop(held);
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}

fn refused(place: &Place, program: &Program, missing: &Missing) -> Result<()> {
    let argv = [missing.wrapper.clone(), program.argv.clone()].concat();
    let said = place.output(&argv, DEADLINE)?;
    let text = String::from_utf8_lossy(&said.stderr);
    let case = format!("{} without {}: {said:?}", program.name, missing.what);
    println!("{:16} without {:13} {}", program.name, missing.what, text.trim());
    assert_eq!(said.status.code(), Some(2), "{case}");
    assert_eq!(text.lines().count(), 1, "{case}");
    assert!(missing.says.iter().all(|word| text.contains(word)), "{case}");
    Ok(())
}

/// Copies, since the folder in which they were built need not be open to who is not root.
fn programs(dir: &Path, small: &Path) -> Result<Vec<Program>> {
    let config = dir.join("agent.toml");
    fs::create_dir_all(small)?;
    fs::write(
        &config,
        format!(
            "node = \"a\"\nstate_dir = \"{0}/state\"\nrun_dir = \"{0}/run\"\nbpffs = \"{0}/bpf\"\n[metrics]\nlisten = \"{1}\"\n[bridge]\naddress = \"127.0.0.1:15012\"\n",
            small.display(),
            METRICS
        ),
    )?;
    let copy = |name: &str| -> Result<String> {
        let to = dir.join(name);
        fs::copy(bin(name)?, &to).with_context(|| format!("copy {name}"))?;
        Ok(to.display().to_string())
    };
    let (agent, demo, xtask, config) = (copy("weft-agent")?, copy("weft-demo")?, copy("xtask")?, config.display().to_string());
    let program = |name, argv: &[&str]| Program { name, argv: argv.iter().map(|word| (*word).to_owned()).collect() };
    Ok(vec![
        program("agent", &[&agent, "run", "--config", &config]),
        program(GUARD, &[&agent, "guard", "--config", &config]),
        program("demo check", &[&demo, "check"]),
        program("demo", &[&demo, "foreground"]),
        program("cargo xtask demo", &[&xtask, "demo", "--check"]),
        program("cargo xtask test", &[&xtask, "test"]),
    ])
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// In a mount namespace of its own, after `first`.
fn shell(first: &str) -> Vec<String> {
    let mut argv = words("unshare --mount --propagation private sh -c");
    argv.extend([format!("{first} && exec \"$@\""), "sh".to_owned()]);
    argv
}
