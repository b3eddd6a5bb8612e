//! Files that are re-read when they change: trusted CAs, revocation lists, policies.
//!
//! The new value is swapped in whole, and only if it loads: a broken file keeps the last good value and says so,
//! since half a policy is worse than yesterday's. The folder is watched rather than the file, because a mounted
//! ConfigMap or Secret changes by swapping the `..data` link beside it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;

/// A value loaded from files, kept up to date.
pub struct Watched<T> {
    value: Arc<ArcSwap<T>>,
    changes: watch::Receiver<u64>,
    /// Watching ends when this is dropped.
    _watcher: RecommendedWatcher,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Loads `paths` by `load` and watches them from then on. `what` names the value in log lines.
    ///
    /// Errors: the first load's, or the watch's (a folder that does not exist). A later load that fails is logged
    /// as an error, and the last good value stays.
    pub fn open<E: std::fmt::Display + From<notify::Error>>(
        what: &'static str,
        paths: &[PathBuf],
        load: impl Fn() -> Result<T, E> + Send + 'static,
    ) -> Result<Watched<T>, E> {
        // The watch begins before the first load, so that no change falls between them.
        let (changed, mut pending) = watch::channel(());
        let names: Vec<_> = paths.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned).collect();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Events that were missed may have been ours.
            if event.is_ok_and(|event| !concerns(&event, &names)) {
                return;
            }
            changed.send_replace(());
        })?;
        for folder in paths.iter().map(|path| folder_of(path)).collect::<BTreeSet<_>>() {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        let value = Arc::new(ArcSwap::from_pointee(load()?));
        let (tell, changes) = watch::channel(0);
        let swapped = Arc::clone(&value);
        tokio::spawn(async move {
            // Ends when the watcher is dropped.
            while pending.changed().await.is_ok() {
                match load() {
                    Ok(new) => {
                        swapped.store(Arc::new(new));
                        tell.send_modify(|generation| *generation += 1);
                        tracing::info!(what, "re-read after a change");
                    }
                    Err(error) => tracing::error!(what, %error, "cannot re-read, the last good one stays in force"),
                }
            }
        });
        Ok(Watched { value, changes, _watcher: watcher })
    }

    /// The value as it is now.
    pub fn current(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// A counter that moves with each successful re-read.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Whether an event in the folder may have changed one of the files of these names.
fn concerns(event: &notify::Event, names: &[OsString]) -> bool {
    let ours = |path: &PathBuf| {
        // Kubernetes swaps `..data`, to which the names are links.
        path.file_name()
            .is_some_and(|name| names.iter().any(|ours| ours == name) || name.as_encoded_bytes().starts_with(b".."))
    };
    // A read is no change, and answering it would make our own load trigger the next one.
    !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(ours))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
