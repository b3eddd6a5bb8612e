//! Addresses of servers that are asked: by TLS, or on this machine.

use std::net::IpAddr;

/// Whether the server of this `key` may be asked at `url`; `what` is what it would be, and `example` a good one.
pub(super) fn check(key: &str, url: &str, what: &str, example: &str) -> Result<(), String> {
    if url.contains(['?', '#', '@']) || url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("{key} {url:?} is no {what}: it has no query, fragment, user or spaces"));
    }
    match url.split_once("://") {
        Some(("https", rest)) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        Some(("http", rest)) if is_loopback(rest) => Ok(()),
        Some(("http", _)) => {
            Err(format!("{key} {url:?} is not encrypted: use https, which only loopback may do without"))
        }
        _ => Err(format!("{key} {url:?} is no {what}: write it as in {example:?}")),
    }
}

/// Whether what stands after `http://` begins with a loopback host.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
