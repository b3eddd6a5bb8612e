//! The rules of the house that a machine can check: who names whom, and how a file opens.

use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests", "fuzz/fuzz_targets"] {
        if root.join(folder).is_dir() {
            walk(&root.join(folder), &mut paths);
        }
    }
    // A room's tests, in a file of their own beside it.
    paths.retain(|path| {
        !(path.starts_with(root.join("src")) && path.file_name().is_some_and(|name| name == "tests.rs"))
    });
    let named = paths.into_iter().map(|path| {
        let name = path.strip_prefix(root).expect("below it").display().to_string();
        (name, fs::read_to_string(&path).expect("text"))
    });
    named.collect()
}

/// The lines of code of a file, without its comments and its tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Whether a path of the crate or of another crate is named on a line.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} does not open with //!");
    }
}

#[test]
fn other_peoples_types_stop_at_their_door() {
    let doors: [(&str, &[&str]); 8] = [
        ("ratatui::", &["src/menu"]),
        ("russh::", &["src/ssh", "src/auth", "src/config"]),
        ("kube::", &["src/cluster", "src/authorize/access_review.rs", "src/playground"]),
        ("k8s_openapi::", &["src/cluster", "src/authorize/access_review.rs", "src/playground"]),
        ("axum::", &["src/listen", "src/terminal", "src/admin", "src/playground"]),
        ("hyper::", &["src/listen", "src/connect", "src/playground"]),
        ("tokio_tungstenite::", &["src/listen", "src/connect", "src/cluster", "src/playground"]),
        ("proxy_header::", &["src/listen/proxy_protocol.rs"]),
    ];
    for (name, text) in sources().into_iter().filter(|(name, _)| name.starts_with("src/")) {
        for (path, allowed) in doors {
            if !allowed.iter().any(|door| name.starts_with(door)) {
                let found = code(&text).find(|line| names(line, path));
                assert_eq!(found, None, "{name} names {path}");
            }
        }
    }
}

#[test]
fn nobody_imports_to_the_left() {
    let rules: [(&str, &[&str]); 10] = [
        // The person's side: it knows the server by its front door only.
        (
            "src/login",
            &["crate::listen", "crate::ssh", "crate::session", "crate::authorize", "crate::cluster", "crate::audit"],
        ),
        ("src/listen", &["crate::ssh", "crate::session", "crate::cluster", "crate::authorize", "crate::connect"]),
        ("src/connect", &["crate::ssh", "crate::session", "crate::auth", "crate::config", "crate::cluster"]),
        ("src/menu", &["crate::listen", "crate::ssh", "crate::auth::", "crate::authorize"]),
        ("src/session", &["crate::listen", "crate::ssh", "crate::terminal", "crate::menu"]),
        ("src/auth", &["crate::listen", "crate::ssh", "crate::session"]),
        ("src/authorize", &["crate::listen", "crate::ssh", "crate::session"]),
        ("src/cluster", &["crate::listen", "crate::ssh", "crate::session"]),
        ("src/audit", &["crate::listen", "crate::ssh", "crate::session", "crate::cluster", "crate::authorize"]),
        ("src/config", &["crate::"]),
    ];
    for (name, text) in sources() {
        for (place, forbidden) in rules {
            let inside = name == format!("{place}.rs") || name.starts_with(&format!("{place}/"));
            for path in forbidden.iter().filter(|_| inside) {
                let found = code(&text).find(|line| line.contains(path) && !line.contains("crate::config"));
                assert_eq!(found, None, "{name} names {path}");
            }
        }
        let outside = !["src/cli.rs", "src/main.rs", "src/lib.rs", "src/server.rs"].contains(&name.as_str());
        if outside && name.starts_with("src/") {
            for (path, own) in [("crate::server", "src/server"), ("crate::playground", "src/playground")] {
                let found = code(&text).find(|line| line.contains(path));
                assert!(found.is_none() || name.starts_with(own), "{name} names {path}");
            }
        }
    }
}

#[test]
fn no_test_sleeps_or_is_ignored() {
    for (name, text) in
        sources().into_iter().filter(|(name, _)| name.starts_with("tests/") && !name.ends_with("tidy.rs"))
    {
        for word in ["thread::sleep", "time::sleep", "#[ignore"] {
            assert!(!text.contains(word), "{name} has {word}");
        }
    }
}
