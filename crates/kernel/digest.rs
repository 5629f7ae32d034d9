//! Digest of the sources of the kernel programs. This crate's build.rs and `cargo xtask ebpf` both include this file; it compiles nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// What decides the bytes of the object, below `ebpf/`.
const SOURCES: [&str; 6] = ["Cargo.toml", "Cargo.lock", "common/Cargo.toml", "common/src", "programs/Cargo.toml", "programs/src"];

/// SHA-256, in hex, over path and content of every source file, sorted by path.
pub(crate) fn of_sources(ebpf: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&ebpf.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(ebpf).unwrap_or(&file).to_string_lossy().into_owned();
        let content = fs::read(&file)?;
        for part in [name.as_bytes(), &content] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of some bytes, in hex.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
