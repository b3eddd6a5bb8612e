//! Files that are re-read when they change: trusted CAs, revocation lists, policies.
//!
//! The new value is swapped in whole, and only if it loads: a broken file keeps the last good value and says so,
//! since half a policy is worse than yesterday's. Folders are watched rather than files, because an editor puts a new
//! file in the old one's place; and each folder in which a link on the way stands, since the file's own folder may
//! never change: a mounted ConfigMap or Secret changes by swapping its `..data` link, others by what they link to.

mod trail;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use trail::Trail;

/// Links that change while they are followed are followed again, this often; the next event brings the rest.
const ROUNDS_MAX: usize = 8;

/// A value loaded from files, kept up to date.
pub struct Watched<T> {
    value: Arc<ArcSwap<T>>,
    changes: watch::Receiver<u64>,
    /// Watching ends when this is dropped.
    _reader: AbortOnDropHandle<()>,
}

/// The watches of all that lies on the way to some files.
struct Watches {
    paths: Vec<PathBuf>,
    watcher: RecommendedWatcher,
    /// What is watched now; events are held against it.
    trail: Arc<ArcSwap<Trail>>,
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
        let (mut watches, mut pending) = Watches::new(paths)?;
        watches.follow()?;
        let value = Arc::new(ArcSwap::from_pointee(load()?));
        let (tell, changes) = watch::channel(0);
        let swapped = Arc::clone(&value);
        let reader = async move {
            while pending.changed().await.is_ok() {
                if let Err(error) = watches.follow() {
                    tracing::error!(what, %error, "cannot watch the whole way to the file: a change may be missed");
                }
                match load() {
                    Ok(new) => {
                        swapped.store(Arc::new(new));
                        tell.send_modify(|generation| *generation += 1);
                        tracing::info!(what, "re-read after a change");
                    }
                    Err(error) => tracing::error!(what, %error, "cannot re-read, the last good one stays in force"),
                }
            }
        };
        Ok(Watched { value, changes, _reader: AbortOnDropHandle::new(tokio::spawn(reader)) })
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

impl Watches {
    /// Watches nothing yet. The receiver is told of each event that concerns the files.
    fn new(paths: &[PathBuf]) -> notify::Result<(Watches, watch::Receiver<()>)> {
        let (changed, pending) = watch::channel(());
        let trail = Arc::new(ArcSwap::from_pointee(Trail::default()));
        let known = Arc::clone(&trail);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Events that were missed may have been ours.
            if event.is_ok_and(|event| !concerns(&event, &known.load())) {
                return;
            }
            changed.send_replace(());
        })?;
        Ok((Watches { paths: paths.to_vec(), watcher, trail }, pending))
    }

    /// Watches the way as it is now.
    fn follow(&mut self) -> notify::Result<()> {
        for _ in 0..ROUNDS_MAX {
            let now = Trail::of(&self.paths).map_err(notify::Error::io)?;
            let before = self.trail.swap(Arc::new(now.clone()));
            for gone in before.folders.difference(&now.folders) {
                // The watch of a folder that was deleted has ended with it.
                let _ = self.watcher.unwatch(gone);
            }
            // Those that are watched already too: one may have been replaced by another of its name.
            for folder in &now.folders {
                self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
            }
            if *before == now {
                break;
            }
        }
        Ok(())
    }
}

/// Whether an event may have changed one of the files, or the way there.
fn concerns(event: &notify::Event, trail: &Trail) -> bool {
    let known = |among: &BTreeSet<PathBuf>| event.paths.iter().any(|path| among.contains(path));
    let inside = || event.paths.iter().filter_map(|path| path.parent()).any(|folder| trail.wholes.contains(folder));
    // A read is no change, and answering it would make our own load trigger the next one.
    !event.kind.is_access() && (event.paths.is_empty() || known(&trail.entries) || known(&trail.folders) || inside())
}
