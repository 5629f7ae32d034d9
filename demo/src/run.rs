//! Up, down, status.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use weft_host::{DEMO_DOOR, DEMO_WINDOW as WINDOW, Unmet};
use weft_lab::{Inventory, down_leftovers, eventually};

use crate::{
    checkout::Checkout,
    door::Door,
    limits,
    mesh::Mesh,
    relay,
    shop::{self, Shop},
    signals,
    stage::{self, NOTICE_DIR, Stage},
    trythis,
};

const READY: &str = "ready";
const LOG: &str = "/run/weft-demo.log";

/// Up, until Ctrl-C.
pub fn foreground() -> Result<()> {
    stage::require()?;
    let checkout = Checkout::find()?;
    let start = Instant::now();
    let mut steps = Steps::of(6);
    steps.next("two nodes, a wire between them, a bank outside");
    let mut stage = Stage::set(Duration::ZERO)?;
    steps.next("ten pods and a database directory");
    let mut shop = Shop::lay(&mut stage, &checkout)?;
    let mut door = Door::lay(&mut stage)?;
    steps.next("the IAM bridge, and an agent on each node");
    let bridge = Mesh::start_bridge(&stage, &shop::catalog(&checkout))?;
    let mut mesh = Mesh::start(&stage, &shop, &door, bridge)?;
    steps.next("every workload enrolled, read back from the kernel");
    mesh.wait_enrolled(&shop, &door)?;
    steps.next("the programs: PostgreSQL, nginx twice, stock, orders twice, storefront");
    shop.start(&door)?;
    steps.next("the door: gateway, sign-on, people, and Prometheus");
    door.open(&mesh.bridge)?;
    relay::open_window(WINDOW, &shop.storefront)?;
    door.open_to_this_machine()?;
    println!("up in {:.1} s; logs and captures are below {}", start.elapsed().as_secs_f32(), stage.lab.work().display());
    trythis::print(&door)?;
    fs::write(Path::new(NOTICE_DIR).join(READY), "")?;
    signals::until_told(Duration::from_millis(200), || {
        mesh.keep_alive(limits::AGENT_RESTART_PAUSE)?;
        shop.still_running()?;
        door.still_running()
    })?;
    println!("taking everything down");
    door.close()?;
    shop.stop()?;
    // The lab goes last and takes the rest with it.
    drop((mesh, shop, door, stage));
    Ok(())
}

/// Up, and stays when this returns.
pub fn up() -> Result<()> {
    if let Some(pid) = running() {
        bail!("the demo is up already (pid {pid}); `weft-demo status` says more");
    }
    let log = fs::File::create(LOG).with_context(|| format!("cannot write {LOG}"))?;
    let mut child = Command::new(std::env::current_exe()?);
    child.arg("foreground").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    let mut child = child.spawn()?;
    let mut shown = 0;
    loop {
        shown += show_from(LOG, shown)?;
        if let Some(status) = child.try_wait()? {
            show_from(LOG, shown)?;
            let _ = fs::remove_file(LOG);
            if status.code() == Some(2) {
                return Err(Unmet("nothing was started".to_owned()).into());
            }
            bail!("the demo did not come up ({status})");
        }
        if Path::new(NOTICE_DIR).join(READY).exists() {
            show_from(LOG, shown)?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Takes down a running demo, or what a killed one left.
pub fn down() -> Result<()> {
    if !weft_host::is_root() {
        return Err(Unmet("not root: what was made as root is taken down as root".to_owned()).into());
    }
    let before = Inventory::take();
    if let Some(pid) = running() {
        println!("asking pid {pid} to take the demo down");
        kill_process(pid_of(pid)?, Signal::TERM)?;
        eventually(limits::DOWN_DEADLINE, "the end of the demo", || if running().is_none() { Ok(()) } else { Err(format!("pid {pid} still runs")) })?;
    }
    // Behind the demo's own way down there is nothing left to do; behind a kill -9 there may be.
    eventually(limits::DOWN_DEADLINE, "the machine free of the demo", || {
        down_leftovers().map_err(|e| e.to_string())?;
        let after = Inventory::take();
        let left: Vec<&str> = after.lines().filter(|l| l.contains("weft-demo-")).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    })?;
    let _ = fs::remove_file(LOG);
    println!("nothing is left ({} things gone)", before.lines().filter(|l| l.contains("weft-demo-")).count());
    Ok(())
}

pub fn status() -> Result<()> {
    let Some(pid) = running() else {
        println!("the demo is not running; `cargo xtask demo` brings it up");
        return Ok(());
    };
    let run = fs::read_to_string(Path::new(NOTICE_DIR).join("run")).unwrap_or_default();
    println!("run {}, pid {pid}, portal at https://portal.localhost:{}, shop's window at http://{WINDOW}", run.trim(), DEMO_DOOR.port());
    let status = stage::weft(&["status"])?.status()?;
    if status.success() { Ok(()) } else { bail!("`weft status` found something wrong ({status})") }
}

/// The pid of the demo's foreground process, when it lives.
fn running() -> Option<i32> {
    let pid: i32 = fs::read_to_string(Path::new(NOTICE_DIR).join("pid")).ok()?.trim().parse().ok()?;
    let alive = pid_of(pid).is_ok_and(|p| test_kill_process(p).is_ok());
    let name = fs::read_to_string(PathBuf::from(format!("/proc/{pid}/comm"))).unwrap_or_default();
    (alive && name.trim() == "weft-demo").then_some(pid)
}

fn pid_of(pid: i32) -> Result<Pid> {
    Pid::from_raw(pid).context("pid 0 is nobody")
}

fn show_from(path: &str, shown: usize) -> Result<usize> {
    let text = fs::read(path)?;
    let new = text.get(shown..).unwrap_or_default();
    io::stdout().write_all(new)?;
    io::stdout().flush()?;
    Ok(new.len())
}

/// Numbered progress.
pub struct Steps {
    at: u8,
    of: u8,
}

impl Steps {
    pub fn of(of: u8) -> Self {
        Self { at: 0, of }
    }

    pub fn next(&mut self, what: &str) {
        self.at += 1;
        println!("[{}/{}] {what}", self.at, self.of);
    }
}
