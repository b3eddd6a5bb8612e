//! The way to a file through every link on it.
//!
//! Guards: whatever could make the path mean another file is on the trail: each link, the file itself, and where
//! something is missing, the place where it would appear.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as Linux itself follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// How deep below a folder others are watched.
const DEPTH_MAX: usize = 16;

/// What lies on the way to some files. All paths are absolute, their folders without links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trail {
    /// The links and the files.
    pub(super) entries: BTreeSet<PathBuf>,
    /// The folders in which those stand.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The folders among them that count with all that is in them: where a path is a folder, it and those below it.
    pub(super) wholes: BTreeSet<PathBuf>,
}

impl Trail {
    pub(super) fn of(paths: &[PathBuf]) -> io::Result<Trail> {
        let mut trail = Trail::default();
        for path in paths {
            trail.walk(&std::path::absolute(path)?);
        }
        Ok(trail)
    }

    /// Goes along a path part by part, and on where a link leads. A loop ends it; opening the file will say so.
    fn walk(&mut self, path: &Path) {
        let mut here = PathBuf::from("/");
        let mut ahead = parts(path);
        let mut links = 0;
        while let Some(part) = ahead.pop_front() {
            if part == ".." {
                here.pop();
                continue;
            }
            let entry = here.join(&part);
            let link = std::fs::read_link(&entry).ok();
            if link.is_some() || ahead.is_empty() || !entry.exists() {
                self.folders.insert(here.clone());
                self.entries.insert(entry.clone());
            }
            match link {
                Some(_) if links == LINKS_MAX => return,
                Some(target) => {
                    links += 1;
                    if target.is_absolute() {
                        here = PathBuf::from("/");
                    }
                    parts(&target).into_iter().rev().for_each(|part| ahead.push_front(part));
                }
                None if !entry.exists() => return,
                None => here = entry,
            }
        }
        self.take_whole(&here, DEPTH_MAX);
    }

    /// Takes in a folder and those below it; names that begin with a dot are nobody's policy.
    fn take_whole(&mut self, folder: &Path, depth: usize) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        self.folders.insert(folder.to_owned());
        self.wholes.insert(folder.to_owned());
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if depth > 0 && is_folder && !entry.file_name().as_encoded_bytes().starts_with(b".") {
                self.take_whole(&entry.path(), depth - 1);
            }
        }
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| part.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn entries(root: &Path, path: &str) -> Vec<String> {
        let trail = Trail::of(&[root.join(path)]).unwrap();
        let below = |path: &PathBuf| path.strip_prefix(root).unwrap().display().to_string();
        trail.entries.iter().map(below).collect()
    }

    #[test]
    fn every_link_on_the_way_is_on_the_trail() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("mount/..1")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("mount/..1/policy"), "").unwrap();
        symlink("..1", root.join("mount/..data")).unwrap();
        symlink("..data/policy", root.join("mount/policy")).unwrap();
        symlink("../mount/policy", root.join("etc/policy")).unwrap();
        symlink(root.join("etc"), root.join("conf")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(entries(&root, "mount/..1/policy"), ["mount/..1/policy"]);
        assert_eq!(entries(&root, "mount/policy"), ["mount/..1/policy", "mount/..data", "mount/policy"]);
        let all = ["conf", "etc/policy", "mount/..1/policy", "mount/..data", "mount/policy"];
        assert_eq!(entries(&root, "conf/policy"), all);
        assert_eq!(entries(&root, "etc/missing/policy"), ["etc/missing"]);
        assert_eq!(entries(&root, "loop"), ["loop"]);
    }
}
