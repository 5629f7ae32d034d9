//! A guest under qemu, for what needs a kernel or a boot of its own: started, listened to, ended.
//!
//! It is emulated (`tcg`), so that it runs wherever qemu does; two virtual CPUs at about a tenth of the speed. What it writes to its serial console is printed as
//! it comes and handed back. There is no daemon: qemu ends with the guest, at the deadline, or with this process.

mod inside;
mod kernel;
mod root;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use weft_host::Package;

pub(crate) use inside::{EXIT, inside};
pub(crate) use kernel::{Kernel, lines};
pub(crate) use root::{Luggage, system};

/// What runs a guest and makes its disks.
pub(crate) const PACKAGES: &[Package] = &[
    Package { name: "qemu-system-x86", probe: "qemu-system-x86_64" },
    Package { name: "busybox-static", probe: "/bin/busybox" },
    Package { name: "cpio", probe: "cpio" },
    Package { name: "kmod", probe: "depmod" },
    Package { name: "e2fsprogs", probe: "mke2fs" },
    Package { name: "xz-utils", probe: "xz" },
    Package { name: "binutils", probe: "strip" },
];

const MEMORY_MIB: u32 = 2048;
const CPUS: u32 = 2;

pub(crate) struct Guest<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) system: &'a Path,
    pub(crate) luggage: &'a Luggage,
    /// What the root is handed to.
    pub(crate) init: &'a str,
    /// Further words of the kernel's command line.
    pub(crate) append: &'a str,
    /// Gives the guest a network card that leads nowhere, and writes every packet that passes it into this file.
    pub(crate) capture: Option<PathBuf>,
    pub(crate) deadline: Duration,
}

impl Guest<'_> {
    /// Runs it to its end; returns what it wrote.
    pub(crate) fn run(&self) -> Result<Vec<String>> {
        let disk = self.luggage.disk()?;
        let begun = Instant::now();
        let mut qemu = Running(self.command(&disk).spawn().context("qemu-system-x86_64 cannot be started")?);
        let console = qemu.0.stdout.take().context("qemu has no output")?;
        let (says, hears) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(console);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let _ = says.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
        let mut said = Vec::new();
        loop {
            match hears.recv_timeout(self.deadline.saturating_sub(begun.elapsed())) {
                Ok(line) => {
                    println!("    {:>4} s | {line}", begun.elapsed().as_secs());
                    said.push(line);
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("the guest (Linux {}) did not end within {} s", self.kernel.version, self.deadline.as_secs()),
            }
        }
        let status = qemu.0.wait().context("cannot wait for qemu")?;
        if !status.success() {
            bail!("qemu ended with {status}");
        }
        Ok(said)
    }

    fn command(&self, disk: &Path) -> Command {
        let mut command = Command::new("setpriv");
        // Ends with whoever started it, however that ends.
        command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", &CPUS.to_string(), "-m", &MEMORY_MIB.to_string()]);
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        command.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(self.kernel.initrd());
        command.args(["-drive", &format!("file={},if=virtio,format=raw,snapshot=on,cache=unsafe", self.system.display())]);
        command.args(["-drive", &format!("file={},if=virtio,format=raw,readonly=on", disk.display())]);
        if let Some(file) = &self.capture {
            command.args(["-netdev", "user,id=wire,restrict=on", "-device", "virtio-net-pci,netdev=wire"]);
            command.args(["-object", &format!("filter-dump,id=dump,netdev=wire,file={}", file.display())]);
        }
        command.args([
            "-append",
            &format!("console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on net.ifnames=0 \"weft_init={}\" {}", self.init, self.append),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

/// Killed when it goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
