//! The authorizers: that each says the same, and that none of them can fail into a yes.
//!
//! Answers are asked for by the library's own way from a `porthole.toml` to a decision; that people get them is shown by
//! real `ssh` for each.

mod answers;
mod configuration;
mod credentials;
mod failures;
mod grace;
mod logins;
mod parts;
mod questions;
mod rego;
mod schema;
mod server;

use std::path::Path;

use porthole::authorize::{self, Authorizer as _, Combined, Decision, Query, Unavailable};
use porthole::cluster::ApiServer;
use porthole::config::Config;

/// The authorizers of a configuration, ready to be asked.
struct Asked {
    runtime: tokio::runtime::Runtime,
    authorizers: Combined,
    _folder: tempfile::TempDir,
}

impl Asked {
    fn new(config: &str) -> Asked {
        Asked::by(config, false)
    }

    /// With the cluster among those who are asked.
    fn by(config: &str, cluster: bool) -> Asked {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let config = load(folder.path(), config).expect("it loads");
        let authorizers = runtime.block_on(async {
            let reviewer = match cluster {
                true => Some(ApiServer::open(&config.cluster).await.expect("a kubeconfig").reviewer()),
                false => None,
            };
            authorize::open(&config, reviewer.as_ref())
        });
        Asked { runtime, authorizers: authorizers.expect("they can be asked"), _folder: folder }
    }

    fn decide(&self, query: &Query) -> Result<Decision, Unavailable> {
        self.runtime.block_on(self.authorizers.decide(query))
    }

    fn decide_all(&self, queries: &[Query]) -> Result<Vec<Decision>, Unavailable> {
        self.runtime.block_on(self.authorizers.decide_all(queries))
    }
}

fn load(folder: &Path, config: &str) -> Result<Config, porthole::config::ConfigError> {
    let file = folder.join("porthole.toml");
    std::fs::write(&file, format!("certificate.trusted-ca-files = [\"ca\"]\n{config}")).expect("writable");
    Config::load(&file)
}

/// A file that ships.
fn shipped(name: &str) -> String {
    format!("{}/config/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// `openssl` in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let mut command = std::process::Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(folder).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments}: {}", crate::house::text(&output.stderr));
}
