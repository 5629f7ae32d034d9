//! The directory: which files count, and their text. Nothing outside the directory is read.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{Finding, Position, Severity, limits};

/// One file of the catalog.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Relative to the catalog, with `/`.
    pub(crate) name: Arc<str>,
    pub(crate) text: String,
}

/// Every `*.yaml` and `*.yml` below `dir`, sorted by path. Names that begin with a dot are left out, as mounted ConfigMaps need it.
pub(crate) fn read(dir: &Path) -> (Vec<File>, Vec<Finding>) {
    let mut reader = Reader { root: dir.to_path_buf(), files: vec![], findings: vec![], bytes: 0, full: false };
    match dir.canonicalize() {
        Ok(root) => {
            reader.root = root.clone();
            reader.directory(&root, 0);
        }
        Err(e) => reader.refuse(None, format!("catalog directory {} cannot be read: {e}", dir.display())),
    }
    (reader.files, reader.findings)
}

/// A file that a document names, relative to the catalog and inside of it.
pub(crate) fn asset(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    let root = dir.canonicalize().map_err(|e| format!("catalog directory {} cannot be read: {e}", dir.display()))?;
    let path = root.join(name).canonicalize().map_err(|e| format!("it cannot be read: {e}"))?;
    if Path::new(name).is_absolute() || !path.starts_with(&root) {
        return Err("it lies outside of the catalog's directory".to_owned());
    }
    read_bounded(&path).map_err(|e| format!("it cannot be read: {e}"))
}

struct Reader {
    root: PathBuf,
    files: Vec<File>,
    findings: Vec<Finding>,
    bytes: u64,
    /// A bound of the whole was met and reported; nothing more is read.
    full: bool,
}

impl Reader {
    fn directory(&mut self, dir: &Path, depth: usize) {
        if depth > limits::DEPTH_MAX {
            return self.refuse(Some(dir), format!("directory lies more than {} levels below the catalog", limits::DEPTH_MAX));
        }
        let mut entries = match fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(e) => return self.refuse(Some(dir), format!("directory cannot be read: {e}")),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.directory(&path, depth + 1),
                Ok(kind) if kind.is_symlink() => self.symlink(&path),
                Ok(_) if is_yaml(&path) => self.file(&path, &path),
                Ok(_) => {}
                Err(e) => self.refuse(Some(&path), format!("entry cannot be read: {e}")),
            }
        }
    }

    fn symlink(&mut self, path: &Path) {
        let target = path.canonicalize();
        match &target {
            Ok(target) if target.is_dir() => self.warn(path, "symbolic link to a directory is not followed".to_owned()),
            _ if !is_yaml(path) => {}
            Ok(target) if target.starts_with(&self.root) => self.file(path, target),
            Ok(_) => self.refuse(Some(path), "symbolic link leads out of the catalog and is not followed".to_owned()),
            Err(e) => self.refuse(Some(path), format!("symbolic link cannot be followed: {e}")),
        }
    }

    fn file(&mut self, path: &Path, target: &Path) {
        if self.full {
            return;
        }
        if self.files.len() >= limits::FILES_MAX {
            self.full = true;
            return self.refuse(Some(path), format!("catalog has more than {} files", limits::FILES_MAX));
        }
        if self.name(path).len() > limits::PATH_MAX_BYTES {
            return self.refuse(Some(path), format!("path is longer than {} bytes", limits::PATH_MAX_BYTES));
        }
        match read_bounded(target) {
            Ok(bytes) if bytes.len() as u64 > limits::FILE_MAX_BYTES => {
                self.refuse(Some(path), format!("file is larger than {} bytes", limits::FILE_MAX_BYTES));
            }
            Ok(bytes) => {
                self.bytes += bytes.len() as u64;
                if self.bytes > limits::TOTAL_MAX_BYTES {
                    self.full = true;
                    return self.refuse(Some(path), format!("catalog is larger than {} bytes", limits::TOTAL_MAX_BYTES));
                }
                match String::from_utf8(bytes) {
                    Ok(text) => self.files.push(File { name: self.name(path), text }),
                    Err(_) => self.refuse(Some(path), "file is not UTF-8".to_owned()),
                }
            }
            Err(e) => self.refuse(Some(path), format!("file cannot be read: {e}")),
        }
    }

    fn name(&self, path: &Path) -> Arc<str> {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into()
    }

    fn refuse(&mut self, path: Option<&Path>, message: String) {
        self.push(Severity::Error, path, message);
    }

    fn warn(&mut self, path: &Path, message: String) {
        self.push(Severity::Warning, Some(path), message);
    }

    fn push(&mut self, severity: Severity, path: Option<&Path>, message: String) {
        let at = path.map(|p| Position { file: self.name(p), line: 0, column: 0, length: 0 });
        self.findings.push(Finding { severity, at, message, help: None, snippet: None });
    }
}

/// At most one byte more than allowed, so that a growing file or an endless device cannot fill the memory.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = vec![];
    fs::File::open(path)?.take(limits::FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}
