//! What the running kernel can give, and what an agent says where it cannot: `weft-agent check`, `run` and `guard` agree, in one line, and nothing has
//! changed. `cargo xtask test --kernel` runs this under kernels that do and kernels that do not.

use std::time::Duration;

use anyhow::{Context as _, Result};
use weft_lab::{Agent, AgentOptions, Inventory, Lab, bin};

const DEADLINE: Duration = Duration::from_secs(60);
/// What a kernel that is too old must be said to lack; set by who knows the kernel, empty where nothing may be lacking.
const LACKS: &str = "WEFT_KERNEL_LACKS";

#[test]
fn what_the_kernel_lacks_is_said_in_one_line_before_anything_changes() -> Result<()> {
    let lacks: Vec<String> = std::env::var(LACKS).unwrap_or_default().split(',').map(|name| name.replace('+', " ")).filter(|name| !name.is_empty()).collect();
    let mut lab = Lab::new("kernel")?;
    let node = lab.node("a")?;
    let agent = Agent::configure(&node, &AgentOptions::default())?;
    let program = bin("weft-agent")?.display().to_string();
    let config = agent.config().display().to_string();
    let command = |words: &[&str]| agent.place().output(&[&[program.as_str()], words, &["--config", &config]].concat(), DEADLINE);

    let checked = command(&["check", "-o", "json"])?;
    let findings: serde_json::Value = serde_json::from_slice(&checked.stdout).with_context(|| format!("{checked:?}"))?;
    let kernel = |f: &&serde_json::Value| f["name"].as_str().is_some_and(|name| name.starts_with("kernel "));
    let missing: Vec<_> = findings.as_array().context("a list")?.iter().filter(kernel).filter(|f| f["ok"] != true).collect();
    println!("missing of this kernel: {missing:?}");
    if lacks.is_empty() {
        // The control: the same commands where nothing lacks.
        assert!(missing.is_empty(), "{missing:?}");
        let guard = command(&["guard"])?;
        assert!(guard.status.success(), "{guard:?}");
        return Ok(());
    }
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(missing.iter().all(|f| f["cost"].as_str().is_some_and(|cost| !cost.is_empty())), "{missing:?}");
    let (before, _held) = (Inventory::take(), lab.hold()?);
    for name in ["run", "guard"] {
        let refused = command(&[name])?;
        let said = String::from_utf8_lossy(&refused.stderr);
        println!("{name}: {}", said.trim());
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert_eq!(said.lines().count(), 1, "{refused:?}");
        assert!(lacks.iter().all(|name| said.contains(name)), "{lacks:?}: {refused:?}");
    }
    Inventory::take().same_as(&before).map_err(anyhow::Error::msg)
}
