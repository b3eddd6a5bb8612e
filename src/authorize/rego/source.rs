//! What a policy is made of: modules in Rego, and data.
//!
//! From files, from folders, or from a bundle (`.tar.gz`, as `opa build` makes it). Data in a folder of a bundle, or below
//! a named folder, stands at that place in `data`, as in OPA.
//!
//! Guards: what is unpacked is bounded in size and number, whatever the packed size promises; nothing is written to the
//! disk; two files that say different things of one place are a mistake, not a matter of order.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use crate::authorize::http::Unusable;

/// All modules and data of a policy together, unpacked.
pub(super) const UNPACKED_MAX_BYTES: usize = 64 << 20;

/// Files of a policy, and how deep folders may stand in each other.
const FILES_MAX: usize = 10_000;
const DEPTH_MAX: usize = 16;

/// A policy that was read and not yet compiled.
#[derive(Debug, Default)]
pub(in crate::authorize) struct Source {
    /// By name.
    pub(super) modules: Vec<(String, String)>,
    pub(super) data: Map<String, Value>,
    bytes: usize,
    files: usize,
}

impl Source {
    /// Reads files, folders and bundles.
    pub(super) fn of_files(paths: &[PathBuf]) -> Result<Source, Unusable> {
        let mut source = Source::default();
        for path in paths {
            match path.is_dir() {
                true => source.take_folder(path, &mut Vec::new())?,
                false => source.take_named_file(path)?,
            }
        }
        source.whole()
    }

    /// Reads a bundle.
    pub(super) fn of_bundle(packed: &[u8]) -> Result<Source, Unusable> {
        let mut source = Source::default();
        source.take_bundle(packed)?;
        source.whole()
    }

    fn whole(self) -> Result<Source, Unusable> {
        match self.modules.is_empty() {
            true => Err(Unusable("it holds no module in Rego (*.rego), so everything would be denied".to_owned())),
            false => Ok(self),
        }
    }

    fn take_named_file(&mut self, path: &Path) -> Result<(), Unusable> {
        let name = path.to_string_lossy();
        match name.ends_with(".tar.gz") || name.ends_with(".tgz") {
            true => self.take_bundle(&read(path)?),
            false if kind(path).is_none() => {
                Err(Unusable(format!("{name} is no policy: name .rego, .json, .yaml or .tar.gz")))
            }
            false => self.take(path, &[], &read(path)?),
        }
    }

    fn take_folder(&mut self, folder: &Path, place: &mut Vec<String>) -> Result<(), Unusable> {
        let unreadable = |error| Unusable(format!("cannot read {}: {error}", folder.display()));
        if place.len() > DEPTH_MAX {
            return Err(Unusable(format!("{} is too deep: {DEPTH_MAX} folders at most", folder.display())));
        }
        let entries: Result<Vec<_>, _> = std::fs::read_dir(folder).map_err(unreadable)?.collect();
        let mut names: Vec<_> = entries.map_err(unreadable)?.into_iter().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names.iter().map(|name| name.to_string_lossy()).filter(|name| !name.starts_with('.')) {
            let path = folder.join(&*name);
            if path.is_dir() {
                place.push(name.into_owned());
                self.take_folder(&path, place)?;
                place.pop();
            } else if kind(&path).is_some() {
                self.take(&path, place, &read(&path)?)?;
            }
        }
        Ok(())
    }

    fn take_bundle(&mut self, packed: &[u8]) -> Result<(), Unusable> {
        let broken = |error: std::io::Error| Unusable(format!("it is no bundle (.tar.gz): {error}"));
        // The archive's own blocks beside what is in the files; the end of it is the end of a bundle that lies.
        let unpacked = GzDecoder::new(packed).take(2 * UNPACKED_MAX_BYTES as u64);
        let mut archive = tar::Archive::new(unpacked);
        for entry in archive.entries().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let path = entry.path().map_err(broken)?.into_owned();
            let Some(place) = place(&path) else {
                return Err(Unusable(format!("the bundle's file {} leads out of it", path.display())));
            };
            if !entry.header().entry_type().is_file() || kind(&path).is_none() {
                continue;
            }
            let mut bytes = Vec::new();
            let left = UNPACKED_MAX_BYTES.saturating_sub(self.bytes);
            entry.take(left as u64 + 1).read_to_end(&mut bytes).map_err(broken)?;
            self.take(&path, &place, &bytes)?;
        }
        Ok(())
    }

    /// One file, with its data at a place.
    fn take(&mut self, path: &Path, place: &[String], bytes: &[u8]) -> Result<(), Unusable> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.files += 1;
        if self.bytes > UNPACKED_MAX_BYTES || self.files > FILES_MAX {
            return Err(Unusable(format!(
                "it is too large: a policy has at most {UNPACKED_MAX_BYTES} bytes in {FILES_MAX} files"
            )));
        }
        let name = path.display();
        let text = std::str::from_utf8(bytes).map_err(|_| Unusable(format!("{name} is not UTF-8")))?;
        let value = match kind(path) {
            // Tests are for `opa test`, and would be compiled for nothing.
            Some("rego") if path.to_string_lossy().ends_with("_test.rego") => return Ok(()),
            Some("rego") => {
                self.modules.push((name.to_string(), text.to_owned()));
                return Ok(());
            }
            Some("json") => serde_json::from_str(text).map_err(|error| Unusable(format!("{name}: {error}")))?,
            _ => serde_saphyr::from_str::<Value>(text).map_err(|error| Unusable(format!("{name}: {error}")))?,
        };
        let value =
            place.iter().rev().fold(value, |value, part| Value::Object(Map::from_iter([(part.clone(), value)])));
        let Value::Object(value) = value else {
            return Err(Unusable(format!("{name}: data must be an object here: put it into a key")));
        };
        merge(&mut self.data, value).map_err(|key| Unusable(format!("{name}: `{key}` is in another file already")))
    }
}

/// Adds data to data; the error names the key that both have.
fn merge(base: &mut Map<String, Value>, more: Map<String, Value>) -> Result<(), String> {
    for (key, value) in more {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => merge(known, more)?,
            (Some(_), _) => return Err(key),
            (None, value) => drop(base.insert(key, value)),
        }
    }
    Ok(())
}

fn kind(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy();
    match name.rsplit_once('.')? {
        // `.manifest`, `.signatures.json`.
        _ if name.starts_with('.') => None,
        (_, "rego") => Some("rego"),
        (_, "json") => Some("json"),
        (_, "yaml" | "yml") => Some("yaml"),
        _ => None,
    }
}

/// The folders of a bundle's file; none where it is not below the bundle.
fn place(path: &Path) -> Option<Vec<String>> {
    let mut place = Vec::new();
    for part in path.parent()?.components() {
        match part {
            Component::Normal(part) => place.push(part.to_string_lossy().into_owned()),
            // `opa build` writes `/policy.rego`.
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (place.len() <= DEPTH_MAX).then_some(place)
}

fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    let unreadable = |error| Unusable(format!("cannot read {}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(UNPACKED_MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
