//! TLS for the HTTP listener, and the certificates of gateways.
//!
//! A gateway's certificate is asked for and not required: one without it may still be trusted by its network, and one
//! that is not gets an answer that says why. The files are re-read when they change, for connections from then on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config;
use crate::watched::Watched;

/// The server's side of TLS, kept up to date.
pub struct Tls(Watched<ServerConfig>);

/// A file that cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    #[error("cannot use {file} (http.{key}): {problem}")]
    File { file: PathBuf, key: &'static str, problem: String },
    #[error("http.certificate and http.key do not serve: {0}")]
    Pair(#[from] rustls::Error),
    #[error("http.client-ca: {0}")]
    ClientCa(#[from] rustls::server::VerifierBuilderError),
    #[error("cannot watch for changes: {0}")]
    Unwatched(#[from] notify::Error),
}

impl Tls {
    /// None where the configuration names no certificate.
    pub fn open(settings: &config::Http) -> Result<Option<Tls>, TlsSetupError> {
        let (Some(certificate), Some(key)) = (settings.certificate.clone(), settings.key.clone()) else {
            return Ok(None);
        };
        let client_ca = settings.client_ca.clone();
        let files: Vec<_> = [&certificate, &key].into_iter().chain(&client_ca).cloned().collect();
        let load = move || load(&certificate, &key, client_ca.as_deref());
        // Once before it is watched: "no such file" is clearer than what the watch says of a missing folder.
        load()?;
        Watched::open("certificates of the HTTP listener", &files, load).map(|watched| Some(Tls(watched)))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }
}

fn load(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<ServerConfig, TlsSetupError> {
    let chain = certificates(certificate, "certificate")?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, "key", error))?;
    let builder = ServerConfig::builder();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(file, "client-ca")? {
                roots.add(root)?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(file: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let unusable = |error| unusable(file, key, error);
    let found: Vec<_> =
        CertificateDer::pem_file_iter(file).map_err(unusable)?.collect::<Result<_, _>>().map_err(unusable)?;
    if found.is_empty() {
        let problem = "it holds no PEM certificate".to_owned();
        return Err(TlsSetupError::File { file: file.to_owned(), key, problem });
    }
    Ok(found)
}

fn unusable(file: &Path, key: &'static str, error: rustls::pki_types::pem::Error) -> TlsSetupError {
    TlsSetupError::File { file: file.to_owned(), key, problem: error.to_string() }
}
