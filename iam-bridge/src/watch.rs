//! Watches the catalog's directory: notices of the kernel, taken together while they burst, and a slow look for file systems that give none.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weft_catalog::{Catalog, Finding, Reader};

use crate::{control::Shared, limits};

/// Reads the catalog whenever its files change, until told to stop. `seen` is the fingerprint that the catalog in force was read at, if it was.
/// `reader` knows what the files said then.
pub(crate) async fn watch(dir: PathBuf, reader: Reader, mut seen: Option<u64>, control: Shared, stop: CancellationToken) {
    let reader = Arc::new(Mutex::new(reader));
    let (notice, mut notices) = mpsc::channel(1);
    let mut watcher = Watcher::new(&dir, notice);
    loop {
        if let Some(read_at) = look(&dir, &reader, seen, &control).await {
            seen = Some(read_at);
        }
        watcher.renew();
        let woken = async {
            tokio::select! {
                _ = notices.recv() => settle(&mut notices).await,
                () = tokio::time::sleep(limits::CATALOG_POLL) => {}
            }
        };
        if stop.run_until_cancelled(woken).await.is_none() {
            return;
        }
    }
}

/// Reads the catalog if its files are not as `seen`; gives their fingerprint when that is settled.
async fn look(dir: &Path, reader: &Arc<Mutex<Reader>>, seen: Option<u64>, control: &Shared) -> Option<u64> {
    let (path, reader, began) = (dir.to_owned(), reader.clone(), Instant::now());
    let changed = move || (Some(fingerprint(&path)) != seen).then(|| read(&path, &mut reader.lock().unwrap_or_else(PoisonError::into_inner)));
    let (read_at, catalog) = tokio::task::spawn_blocking(changed).await.ok()??;
    let read_ms = began.elapsed().as_millis() as u64;
    let settled = control.with(move |c| c.read_catalog(catalog)).await;
    tracing::debug!(read_ms, settled_ms = began.elapsed().as_millis() as u64, "the catalog was read");
    settled.then_some(read_at)
}

/// The catalog, and the fingerprint from before it was read: a change during the reading is seen afterwards.
pub(crate) fn read(dir: &Path, reader: &mut Reader) -> (u64, Result<Catalog, Vec<Finding>>) {
    (fingerprint(dir), reader.load(dir))
}

/// Waits until it has been quiet, but not for ever.
async fn settle(notices: &mut mpsc::Receiver<()>) {
    let give_up = Instant::now() + limits::DEBOUNCE_MAX;
    while Instant::now() < give_up {
        match tokio::time::timeout(limits::DEBOUNCE, notices.recv()).await {
            Ok(Some(())) => {}
            Ok(None) => return tokio::time::sleep(limits::DEBOUNCE).await,
            Err(_) => return,
        }
    }
}

/// The kernel's watch is on an inode: when the directory is replaced, it must be set anew.
struct Watcher {
    dir: PathBuf,
    notice: mpsc::Sender<()>,
    inode: Option<u64>,
    inner: Option<RecommendedWatcher>,
}

impl Watcher {
    fn new(dir: &Path, notice: mpsc::Sender<()>) -> Self {
        let mut this = Self { dir: dir.to_owned(), notice, inode: None, inner: None };
        this.renew();
        this
    }

    fn renew(&mut self) {
        let inode = std::fs::metadata(&self.dir).ok().map(|m| m.ino());
        if inode == self.inode && self.inner.is_some() {
            return;
        }
        let notice = self.notice.clone();
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the catalog is an access too, which must not wake us again. A full queue already says what this would.
            if !event.is_ok_and(|e| e.kind.is_access()) {
                let _ = notice.try_send(());
            }
        });
        self.inner = match made.and_then(|mut w| w.watch(&self.dir, RecursiveMode::Recursive).map(|()| w)) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, every = ?limits::CATALOG_POLL, "no notices of catalog changes; looking now and then instead");
                None
            }
        };
        self.inode = inode;
    }
}

/// Differs when a file below `dir` comes, goes or changes.
fn fingerprint(dir: &Path) -> u64 {
    let mut hash = DefaultHasher::new();
    let mut budget = limits::POLL_FILES_MAX;
    walk(dir, limits::POLL_DEPTH_MAX, &mut budget, &mut hash);
    hash.finish()
}

fn walk(dir: &Path, depth: usize, budget: &mut usize, hash: &mut DefaultHasher) {
    let Ok(entries) = std::fs::read_dir(dir) else { return "unreadable".hash(hash) };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).take(*budget).collect();
    paths.sort_unstable();
    *budget -= paths.len();
    for path in paths {
        path.hash(hash);
        // Through links: a mounted configuration map is swapped by one.
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()).hash(hash);
        if meta.is_dir() && depth > 0 {
            walk(&path, depth - 1, budget, hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_shows_and_reading_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("a/b");
        std::fs::create_dir_all(&sub).unwrap();
        let mut seen = vec![fingerprint(dir.path())];
        let mut check = |changed: bool| {
            let now = fingerprint(dir.path());
            assert_eq!(!seen.contains(&now), changed);
            seen.push(now);
        };
        let file = sub.join("x.yaml");
        std::fs::write(&file, "one").unwrap();
        check(true);
        std::fs::read(&file).unwrap();
        check(false);
        std::fs::write(&file, "two two").unwrap();
        check(true);
        std::fs::rename(&file, sub.join("y.yaml")).unwrap();
        check(true);
        std::fs::remove_dir_all(&sub).unwrap();
        check(true);
    }
}
