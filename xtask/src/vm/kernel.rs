//! Debian's cloud kernel of one line: fetched from this machine's own mirror, unpacked in the cache, with an initial file system that finds the disks.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{debian, process};

/// A line of kernels.
struct Line {
    name: &'static str,
    /// Of Debian, that has it.
    suite: &'static str,
}

const LINES: &[Line] = &[Line { name: "5.10", suite: "bullseye" }, Line { name: "6.1", suite: "bookworm" }, Line { name: "6.12", suite: "trixie" }];

/// Drivers of what qemu offers, and the file system of the disks.
const DRIVERS: &[&str] = &["virtio_pci", "virtio_blk", "virtio_net", "ext4"];

/// The first process of the guest: drivers, disks, what a suite wants to lie over the root, and the network card's address; then `weft_init`.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
while read -r driver; do insmod "/drivers/$driver" || echo "weft: $driver was refused"; done < /drivers/order
mount /dev/vda /root && mkdir -p /root/weft && mount -o ro /dev/vdb /root/weft || { echo "weft: no disks"; poweroff -f; }
mkdir -p /root/lib/modules; mount --bind /root/weft/lib/modules /root/lib/modules
if [ -d /root/weft/overlay ]; then cp -a /root/weft/overlay/. /root; fi
if [ -e /sys/class/net/eth0 ]; then
    ip link set lo up; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.2
fi
mount --move /dev /root/dev; umount /proc; umount /sys
exec switch_root /root $weft_init
"#;

/// What clap offers for `--kernel`.
pub(crate) fn lines() -> Vec<&'static str> {
    LINES.iter().map(|line| line.name).collect()
}

pub(crate) struct Kernel {
    /// `boot/vmlinuz-*`, `lib/modules/` and `initrd.gz`.
    dir: PathBuf,
    pub(crate) version: String,
}

impl Kernel {
    /// Unpacks the kernel into the cache unless it is there.
    pub(crate) fn fetch(cache: &Path, line: &str) -> Result<Self> {
        let Some(Line { suite, .. }) = LINES.iter().find(|known| known.name == line) else { bail!("no suite of Debian is known to have a kernel {line}") };
        let dir = cache.join(format!("kernel-{line}"));
        if !dir.exists() {
            println!("    fetching the kernel of {suite}");
            let room = debian::Room(cache.join(format!("vm-{}", std::process::id())));
            fs::create_dir_all(&room.0).with_context(|| format!("cannot make {}", room.0.display()))?;
            let package = download(&room.0, suite)?;
            let unpacked = room.0.join("kernel");
            process::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
            // Newer suites have moved it.
            if unpacked.join("usr/lib/modules").exists() {
                std::os::unix::fs::symlink("usr/lib", unpacked.join("lib")).context("cannot link lib")?;
            }
            process::output(Command::new("depmod").arg("-b").arg(&unpacked).arg(version(&unpacked)?))?;
            fs::rename(&unpacked, &dir).with_context(|| format!("cannot name {}", dir.display()))?;
        }
        let kernel = Self { version: version(&dir)?, dir };
        kernel.initial_fs()?;
        Ok(kernel)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd.gz")
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.dir.join("lib/modules")
    }

    /// Made anew each time: it takes a moment, and the script above may have changed.
    fn initial_fs(&self) -> Result<()> {
        let tree = tempfile::tempdir()?;
        for dir in ["bin", "dev", "proc", "sys", "root", "drivers"] {
            fs::create_dir(tree.path().join(dir))?;
        }
        fs::copy("/bin/busybox", tree.path().join("bin/busybox")).context("cannot copy busybox")?;
        write_program(&tree.path().join("init"), INIT)?;
        let mut order = String::new();
        for driver in self.drivers()? {
            let name = driver.file_stem().filter(|_| driver.extension().is_some_and(|e| e == "xz")).or(driver.file_name()).unwrap_or_default();
            let to = tree.path().join("drivers").join(name);
            if driver.extension().is_some_and(|e| e == "xz") {
                process::run(Command::new("xz").arg("-dc").arg(&driver).stdout(File::create(&to)?))?;
            } else {
                fs::copy(&driver, &to)?;
            }
            order.push_str(&format!("{}\n", name.to_string_lossy()));
        }
        fs::write(tree.path().join("drivers/order"), order)?;
        pack(tree.path(), &self.initrd())
    }

    /// Files of [`DRIVERS`] that are modules, each after what it needs.
    fn drivers(&self) -> Result<Vec<PathBuf>> {
        let base = self.modules().join(&self.version);
        let table = fs::read_to_string(base.join("modules.dep")).context("the kernel has no table of modules")?;
        Ok(closure(&table, DRIVERS).into_iter().map(|path| base.join(path)).collect())
    }
}

pub(crate) fn write_program(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| format!("cannot mark {} as a program", path.display()))
}

fn version(dir: &Path) -> Result<String> {
    let names = fs::read_dir(dir.join("boot")).with_context(|| format!("no kernel in {}", dir.display()))?;
    let names = names.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    names.filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned())).next().with_context(|| format!("no kernel in {}", dir.display()))
}

/// The package, in an apt of its own, so that the machine's sources stay as they are.
fn download(room: &Path, suite: &str) -> Result<PathBuf> {
    for dir in ["state/lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(room.join(dir))?;
    }
    fs::write(room.join("status"), "")?;
    fs::write(room.join("sources.list"), format!("deb {} {suite} main\n", mirror()?))?;
    process::output(apt(room, "apt-get").args(["-q", "update"]))?;
    let said = process::output(apt(room, "apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
    let package =
        said.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-")).with_context(|| format!("{suite} names no kernel: {said}"))?;
    process::output(apt(room, "apt-get").args(["-q", "download", &format!("linux-image-{package}")]))?;
    let found = fs::read_dir(room)?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| path.extension().is_some_and(|e| e == "deb"));
    found.context("apt-get reported success but there is no package")
}

fn apt(room: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    let at = |what: &str| format!("{}={}", what, room.join(what.rsplit("::").next().unwrap_or(what).to_lowercase()).display());
    for option in [at("Dir::State"), at("Dir::Cache"), at("Dir::State::status"), "Dir::Etc::SourceParts=/dev/null".into(), "APT::Sandbox::User=root".into()] {
        command.args(["-o", &option]);
    }
    command.args(["-o", &format!("Dir::Etc::SourceList={}", room.join("sources.list").display())]).current_dir(room);
    command
}

/// Where this machine has its own release from.
fn mirror() -> Result<String> {
    let said = process::output(Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]))?;
    mirror_of(&said).context("no package source of this machine has a release of Debian: see `apt-get indextargets`")
}

/// The site of `main` of a release proper: those of updates, backports and security have a dash in their name.
fn mirror_of(targets: &str) -> Option<String> {
    let fields = targets.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.filter(|f| matches!(f[..], [_, release, "main"] if matches!(release, "bullseye" | "bookworm" | "trixie"))).map(|f| f[0].to_owned()).next()
}

/// Paths of a `modules.dep` for the named modules, dependencies first. A name that is not there is built into the kernel.
fn closure(table: &str, wanted: &[&str]) -> Vec<String> {
    let stem = |path: &str| path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default().replace('-', "_");
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    for name in wanted {
        let Some((path, needs)) = table.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| stem(path) == *name) else { continue };
        // depmod lists the nearest first.
        for path in needs.split_whitespace().rev().chain([path]) {
            if seen.insert(path) {
                order.push(path.to_owned());
            }
        }
    }
    order
}

/// `find | cpio | gzip`, without a shell.
fn pack(tree: &Path, into: &Path) -> Result<()> {
    let names = process::output(Command::new("find").arg(".").current_dir(tree))?;
    let mut cpio = Command::new("cpio").args(["--quiet", "-o", "-H", "newc"]).current_dir(tree).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut gzip = Command::new("gzip").arg("-1").stdin(cpio.stdout.take().context("cpio has no output")?).stdout(File::create(into)?).spawn()?;
    std::io::Write::write_all(&mut cpio.stdin.take().context("cpio has no input")?, names.as_bytes())?;
    if !(cpio.wait()?.success() && gzip.wait()?.success()) {
        bail!("the initial file system could not be packed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let table = "kernel/drivers/virtio/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko\n\
                     kernel/net/core/failover.ko:\n\
                     kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko kernel/net/core/failover.ko\n";
        let names: Vec<String> = closure(table, &["virtio_blk", "ext4", "virtio_net"]).iter().map(|p| p.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["virtio.ko", "virtio_ring.ko", "virtio_blk.ko", "failover.ko", "virtio_net.ko.xz"]);
    }

    #[test]
    fn the_mirror_is_that_of_a_release() {
        let targets = "https://p.example/other stable main\nhttp://m.example/security bookworm-security main\nhttp://m.example/debian bookworm main\n";
        assert_eq!(mirror_of(targets).as_deref(), Some("http://m.example/debian"));
        assert_eq!(mirror_of("https://p.example/other stable main\n"), None);
    }
}
