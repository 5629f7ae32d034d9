//! The object of the kernel programs: built from `ebpf/`, kept in `crates/kernel/object/` beside what it was built from and with.
//!
//! Only this command needs an eBPF toolchain; `cargo build` embeds the kept object. The chain is Debian's own packages, because the standard
//! library's source that goes with rustup's compiler is another download; its bytes are the canonical ones.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use weft_host::Package;

use crate::process;

#[path = "../../crates/kernel/digest.rs"]
mod digest;

const PACKAGES: &[Package] = &[
    Package { name: "rustc-web", probe: "/usr/share/doc/rustc-web" },
    Package { name: "rust-web-src", probe: "/usr/share/doc/rust-web-src" },
    Package { name: "cargo-web", probe: "/usr/share/doc/cargo-web" },
    Package { name: "llvm-22-dev", probe: "/usr/share/doc/llvm-22-dev" },
    Package { name: "zlib1g-dev", probe: "/usr/share/doc/zlib1g-dev" },
    Package { name: "libzstd-dev", probe: "/usr/share/doc/libzstd-dev" },
    Package { name: "libxml2-dev", probe: "/usr/share/doc/libxml2-dev" },
];
const LLVM: &str = "/usr/lib/llvm-22";
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const LINKER_VERSION: &str = "0.13.0";
const TARGET: &str = "bpfel-unknown-none";

/// Rebuilds the kept object; with `check`, changes nothing and fails when the bytes differ.
pub(crate) fn run(check: bool) -> Result<()> {
    if check {
        return self::check().map(drop);
    }
    let built = build()?;
    let kept = kept();
    fs::create_dir_all(&kept)?;
    fs::copy(&built.object, kept.join("weft.bpf.o")).context("crates/kernel/object/weft.bpf.o")?;
    fs::write(kept.join("weft.bpf.toml"), built.record.to_text()).context("crates/kernel/object/weft.bpf.toml")?;
    println!("crates/kernel/object/weft.bpf.o: {} bytes, built by {}", fs::metadata(&built.object)?.len(), built.record.toolchain());
    Ok(())
}

/// Compares a rebuilt object with the kept one. `Some`: another toolchain built it, so bytes say nothing; run the privileged tests with
/// `WEFT_BPF_OBJECT` set to this path.
pub(crate) fn check() -> Result<Option<PathBuf>> {
    let kept_record = Record::parse(&fs::read_to_string(kept().join("weft.bpf.toml")).context("crates/kernel/object/weft.bpf.toml: run `cargo xtask ebpf`")?)?;
    let built = build()?;
    if kept_record.sources != built.record.sources {
        bail!("sources of ebpf/ and the kept object disagree: run `cargo xtask ebpf`");
    }
    if kept_record.toolchain() != built.record.toolchain() {
        println!("kernel programs: bytes not compared, the toolchains differ");
        println!("    kept    {}", kept_record.toolchain());
        println!("    rebuilt {}", built.record.toolchain());
        return Ok(Some(built.object));
    }
    let kept_object = fs::read(kept().join("weft.bpf.o")).context("crates/kernel/object/weft.bpf.o: run `cargo xtask ebpf`")?;
    if kept_object != fs::read(&built.object)? {
        bail!("the kept object is not what its sources and its toolchain make (rebuilt: {}): run `cargo xtask ebpf`", built.object.display());
    }
    println!("kernel programs: rebuilt, equal to the byte ({})", built.record.toolchain());
    Ok(None)
}

struct Built {
    object: PathBuf,
    record: Record,
}

/// What stands in `weft.bpf.toml`.
struct Record {
    sources: String,
    object: String,
    rustc: String,
    llvm: String,
    bpf_linker: String,
}

impl Record {
    fn toolchain(&self) -> String {
        format!("{}, LLVM {}, {}", self.rustc, self.llvm, self.bpf_linker)
    }

    fn to_text(&self) -> String {
        format!(
            "# Written by `cargo xtask ebpf`: what weft.bpf.o was built from, and with. The build of weft-kernel compares the digests.\n\
             sources_sha256 = \"{}\"\nobject_sha256 = \"{}\"\nrustc = \"{}\"\nllvm = \"{}\"\nbpf_linker = \"{}\"\n",
            self.sources, self.object, self.rustc, self.llvm, self.bpf_linker
        )
    }

    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().context("crates/kernel/object/weft.bpf.toml")?;
        let field = |name: &str| -> Result<String> {
            Ok(table.get(name).and_then(toml::Value::as_str).with_context(|| format!("crates/kernel/object/weft.bpf.toml has no `{name}`"))?.to_owned())
        };
        Ok(Self {
            sources: field("sources_sha256")?,
            object: field("object_sha256")?,
            rustc: field("rustc")?,
            llvm: field("llvm")?,
            bpf_linker: field("bpf_linker")?,
        })
    }
}

fn build() -> Result<Built> {
    weft_host::ensure(PACKAGES)?;
    let linker = linker()?;
    let ebpf = process::root().join("ebpf");
    // Before the build: sources that change meanwhile must not be recorded as built.
    let sources = digest::of_sources(&ebpf).context("ebpf/")?;
    compile(&ebpf, &linker)?;
    let object = out().join("weft.bpf.o");
    let linked = out().join(TARGET).join("release/weft");
    process::run(Command::new(format!("{LLVM}/bin/llvm-strip")).arg("-g").arg("-o").arg(&object).arg(linked))?;
    let record = Record {
        sources,
        object: digest::of_bytes(&fs::read(&object)?),
        rustc: process::output(Command::new(RUSTC).arg("--version"))?.trim().to_owned(),
        llvm: process::output(Command::new("dpkg-query").args(["-W", "-f=${Version}", "llvm-22-dev"]))?.trim().to_owned(),
        bpf_linker: process::output(Command::new(&linker).arg("--version"))?.trim().to_owned(),
    };
    Ok(Built { object, record })
}

/// Flags and layout are what makes the bytes independent of folder, cargo home and target folder.
fn compile(ebpf: &Path, linker: &Path) -> Result<()> {
    let root = process::root().canonicalize()?;
    let home = cargo_home().canonicalize().unwrap_or_else(|_| cargo_home());
    let flags = [
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        format!("--remap-path-prefix={}=/src", root.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
    ];
    let mut command = clean(CARGO);
    command
        .args(["build", "--locked", "--release", "-Zbuild-std=core", "--target", TARGET])
        .current_dir(ebpf)
        .env("PATH", path_with(&[linker.parent().unwrap_or(Path::new("/")), &Path::new(LLVM).join("bin")])?)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", out())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    process::run(&mut command)
}

/// The linker of the recorded version: the user's if it is that one, else one of our own below the target folder.
fn linker() -> Result<PathBuf> {
    let own_root = out().join("tools");
    let own = own_root.join("bin/bpf-linker");
    let candidates = [weft_host::find_program("bpf-linker"), Some(cargo_home().join("bin/bpf-linker")), Some(own.clone())];
    let is_right = |path: &PathBuf| process::output(Command::new(path).arg("--version")).is_ok_and(|v| v.trim() == format!("bpf-linker {LINKER_VERSION}"));
    if let Some(found) = candidates.into_iter().flatten().find(is_right) {
        return Ok(found);
    }
    println!("    building bpf-linker {LINKER_VERSION}");
    let mut command = clean("cargo");
    command
        .args(["install", "--locked", "bpf-linker", "--version", LINKER_VERSION, "--no-default-features", "--features", "llvm-22", "--root"])
        .arg(&own_root)
        .current_dir(process::root())
        .env("PATH", path_with(&[&Path::new(LLVM).join("bin")])?)
        .env("LLVM_SYS_221_PREFIX", LLVM);
    process::run(&mut command)?;
    Ok(own)
}

/// Without what a cargo that runs us, or the user's settings, would tell the nested one.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text == "CARGO_HOME" || text.starts_with("CARGO_HTTP_") || text.starts_with("CARGO_NET_") || text.starts_with("CARGO_REGISTRIES_");
        if (text.starts_with("CARGO") && !ours) || text.starts_with("RUSTC") || text.starts_with("RUSTFLAGS") || text == "RUSTDOCFLAGS" {
            command.env_remove(name);
        }
    }
    command
}

fn path_with(first: &[&Path]) -> Result<std::ffi::OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = first.iter().map(|p| p.to_path_buf()).chain(std::env::split_paths(&rest));
    std::env::join_paths(all).context("PATH")
}

fn cargo_home() -> PathBuf {
    std::env::var_os("CARGO_HOME").map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cargo"), PathBuf::from)
}

fn kept() -> PathBuf {
    process::root().join("crates/kernel/object")
}

fn out() -> PathBuf {
    process::target_dir().join("ebpf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let [sources, object, rustc, llvm, bpf_linker] = ["a", "b", "rustc 1", "22", "bpf-linker 1"].map(str::to_owned);
        let record = Record { sources, object, rustc, llvm, bpf_linker };
        let back = Record::parse(&record.to_text()).unwrap();
        assert_eq!((back.toolchain(), &back.sources, &back.object), (record.toolchain(), &record.sources, &record.object));
        assert!(Record::parse("rustc = 'x'").is_err());
    }

    #[test]
    fn the_digest_changes_with_any_source() {
        let dir = tempfile::tempdir().unwrap();
        let ebpf = dir.path();
        for (file, text) in [
            ("Cargo.toml", ""),
            ("Cargo.lock", ""),
            ("common/Cargo.toml", ""),
            ("common/src/a.rs", "1"),
            ("programs/Cargo.toml", ""),
            ("programs/src/b.rs", "2"),
        ] {
            let path = ebpf.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let before = digest::of_sources(ebpf).unwrap();
        fs::write(ebpf.join("common/src/a.rs"), "2").unwrap();
        let changed = digest::of_sources(ebpf).unwrap();
        fs::rename(ebpf.join("common/src/a.rs"), ebpf.join("common/src/c.rs")).unwrap();
        let renamed = digest::of_sources(ebpf).unwrap();
        assert!(before != changed && changed != renamed);
        fs::write(ebpf.join("README.md"), "not a source").unwrap();
        assert_eq!(renamed, digest::of_sources(ebpf).unwrap());
    }
}
