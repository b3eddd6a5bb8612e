//! Where the token comes from: a file, a command, the environment; never the command line.
//!
//! It goes from there into one request header, which prints as `Sensitive`.

use std::path::PathBuf;
use std::process::Stdio;

use http::{HeaderName, HeaderValue};
use tokio::process::Command;

/// The environment variable with the token itself.
const VARIABLE: &str = "PORTHOLE_TOKEN";
/// The longest token that the server takes is 16 KiB; this is room for what a file may have around it.
const TOKEN_MAX_BYTES: usize = 64 * 1024;

/// Options for the token. Without any, and without PORTHOLE_TOKEN in the environment, none is sent.
#[derive(Debug, clap::Args)]
pub struct Source {
    /// A file that holds the id_token
    #[arg(long, value_name = "FILE", conflicts_with = "token_command")]
    token_file: Option<PathBuf>,
    /// A shell command that prints the id_token
    #[arg(long, value_name = "COMMAND")]
    token_command: Option<String>,
    /// The header for the token
    #[arg(long, value_name = "NAME", default_value = "Authorization")]
    token_header: String,
    /// What stands before the token in it ["Bearer " in Authorization, nothing in others]
    #[arg(long, value_name = "TEXT")]
    token_prefix: Option<String>,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("cannot read the token from {}: {source}", file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error("cannot run the token command: {0}")]
    Command(std::io::Error),
    #[error("the token command failed with {0}")]
    CommandFailed(std::process::ExitStatus),
    #[error("{0} is no token: it is empty, too long, or has characters that no token has")]
    Malformed(&'static str),
    #[error("`{0}` is no name of a header")]
    Header(String),
}

impl Source {
    /// The header with the token, if there is to be one.
    pub async fn read(&self) -> Result<Option<(HeaderName, HeaderValue)>, TokenError> {
        let Some((token, place)) = self.find().await? else { return Ok(None) };
        let token = std::str::from_utf8(&token).unwrap_or_default().trim();
        let fits = !token.is_empty() && token.len() <= TOKEN_MAX_BYTES && token.bytes().all(|b| b.is_ascii_graphic());
        let token = Some(token).filter(|_| fits).ok_or(TokenError::Malformed(place))?;
        let name = HeaderName::from_bytes(self.token_header.as_bytes())
            .map_err(|_| TokenError::Header(self.token_header.clone()))?;
        let default = if name == http::header::AUTHORIZATION { "Bearer " } else { "" };
        let prefix = self.token_prefix.as_deref().unwrap_or(default);
        let mut value =
            HeaderValue::from_str(&format!("{prefix}{token}")).map_err(|_| TokenError::Malformed("--token-prefix"))?;
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }

    /// The token as it is there, and what to call that place.
    async fn find(&self) -> Result<Option<(Vec<u8>, &'static str)>, TokenError> {
        if let Some(file) = &self.token_file {
            let read = std::fs::read(file).map_err(|source| TokenError::File { file: file.clone(), source })?;
            return Ok(Some((read, "what is in the token's file")));
        }
        if let Some(command) = &self.token_command {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(command).stdin(Stdio::null()).stderr(Stdio::inherit());
            let output = shell.output().await.map_err(TokenError::Command)?;
            if !output.status.success() {
                return Err(TokenError::CommandFailed(output.status));
            }
            return Ok(Some((output.stdout, "what the token command printed")));
        }
        let variable = std::env::var_os(VARIABLE).map(std::ffi::OsString::into_encoded_bytes);
        Ok(variable.map(|token| (token, "PORTHOLE_TOKEN")))
    }
}
