//! Asking servers of others over HTTP: what every such request holds to, whoever asks.
//!
//! Guards: of an answer no more is read than there may be, and an error's text has no address in it, which may carry
//! what is nobody's business.

use std::path::Path;

use reqwest::Certificate;

/// The root certificates of a PEM file; the error says what is wrong with it.
pub fn roots(file: &Path) -> Result<Vec<Certificate>, RootsError> {
    let text = std::fs::read(file).map_err(RootsError::Unreadable)?;
    let roots = Certificate::from_pem_bundle(&text).unwrap_or_default();
    if roots.is_empty() { Err(RootsError::Empty) } else { Ok(roots) }
}

/// Why a file gives no root certificates.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error(transparent)]
    Unreadable(std::io::Error),
    #[error("it holds no certificate in PEM form")]
    Empty,
}

/// The body of an answer, of which no more is read than `max_bytes`.
pub async fn bounded(mut response: reqwest::Response, max_bytes: usize) -> Result<Vec<u8>, String> {
    let too_long = || format!("its answer is longer than {max_bytes} bytes");
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok());
    if announced.is_some_and(|length| length > max_bytes) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| cause(&error))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its causes, without the address.
pub fn cause(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "no answer in time".to_owned() } else { "the request failed".to_owned() };
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
