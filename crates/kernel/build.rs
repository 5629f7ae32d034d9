//! Embeds the kept object of the kernel programs, and refuses to build when it was not made from the sources beside it.
//!
//! It never compiles the programs: that needs another toolchain and is `cargo xtask ebpf`'s business.

use std::{env, error::Error, fs, path::Path, process::ExitCode};

#[path = "digest.rs"]
mod digest;

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), Box<dyn Error>> {
    let here = env::var("CARGO_MANIFEST_DIR")?;
    let here = Path::new(&here);
    let ebpf = here.join("../../ebpf");
    for path in [here.join("digest.rs"), here.join("object"), ebpf.join("common"), ebpf.join("programs"), ebpf.join("Cargo.toml"), ebpf.join("Cargo.lock")] {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    println!("cargo:rerun-if-env-changed=WEFT_BPF_OBJECT");

    let out = env::var("OUT_DIR")?;
    let embedded = Path::new(&out).join("weft.bpf.o");
    // The privileged tests of an object that another toolchain built: CI sets this after `cargo xtask ebpf --check` has made one.
    if let Ok(other) = env::var("WEFT_BPF_OBJECT") {
        println!("cargo:rerun-if-changed={other}");
        println!("cargo:warning=embedding {other} instead of the kept object of the kernel programs");
        fs::copy(&other, &embedded).map_err(|e| format!("WEFT_BPF_OBJECT names {other}, which cannot be read: {e}"))?;
        return Ok(());
    }

    let object = here.join("object/weft.bpf.o");
    let record =
        fs::read_to_string(here.join("object/weft.bpf.toml")).map_err(|e| format!("crates/kernel/object/weft.bpf.toml: {e}: run `cargo xtask ebpf`"))?;
    if field(&record, "sources_sha256")? != digest::of_sources(&ebpf)? {
        return Err("sources of ebpf/ and the kept object disagree: run `cargo xtask ebpf`".into());
    }
    let bytes = fs::read(&object).map_err(|e| format!("crates/kernel/object/weft.bpf.o: {e}: run `cargo xtask ebpf`"))?;
    if field(&record, "object_sha256")? != digest::of_bytes(&bytes) {
        return Err("crates/kernel/object/weft.bpf.o is not the object that weft.bpf.toml records: run `cargo xtask ebpf`".into());
    }
    fs::write(embedded, bytes)?;
    Ok(())
}

/// A string value of the flat record; reading it needs no TOML parser in every build.
fn field<'a>(record: &'a str, name: &str) -> Result<&'a str, String> {
    record
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().trim_matches('"'))
        .ok_or_else(|| format!("crates/kernel/object/weft.bpf.toml has no `{name}`: run `cargo xtask ebpf`"))
}
