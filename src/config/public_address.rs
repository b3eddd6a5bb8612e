//! Where people reach Porthole: a host as they give it to ssh, and a port where it is another than 22.
//!
//! Guards: what parses may stand in an ssh_config as itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name of a host, as DNS has it.
const HOST_MAX_BYTES: usize = 253;

/// `HOST` or `HOST:PORT`; an IPv6 address with a port stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicAddress {
    host: String,
    port: Option<u16>,
}

impl PublicAddress {
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl FromStr for PublicAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<PublicAddress, String> {
        let wrong = || "this is no host: use HOST or HOST:PORT, as in porthole.example.com:2222".to_owned();
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").map(|(host, port)| (host, Some(port))).ok_or_else(wrong)?,
            None => match text.split_once(':') {
                // An IPv6 address alone has several colons, and no port.
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
        if !plain || host.is_empty() || host.len() > HOST_MAX_BYTES || host.starts_with(['-', '.']) {
            return Err(wrong());
        }
        let port = port.map(|port| port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)).transpose()?;
        Ok(PublicAddress { host: host.to_owned(), port })
    }
}

impl TryFrom<String> for PublicAddress {
    type Error = String;

    fn try_from(text: String) -> Result<PublicAddress, String> {
        text.parse()
    }
}

impl From<PublicAddress> for String {
    fn from(address: PublicAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for PublicAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port_and_nothing_that_ssh_config_would_read_otherwise() {
        for (text, host, port) in [
            ("porthole", "porthole", None),
            ("porthole.example.com:2222", "porthole.example.com", Some(2222)),
            ("[2001:db8::1]:22", "2001:db8::1", Some(22)),
            ("2001:db8::1", "2001:db8::1", None),
        ] {
            let address: PublicAddress = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            ":22",
            "a:",
            "a:0",
            "a:x",
            "a:65536",
            "a b",
            "a\nProxyCommand x",
            "-oX",
            "a%h",
            "\"a",
            "[a",
            "[a]",
            "[a]b",
        ] {
            assert!(text.parse::<PublicAddress>().is_err(), "{text:?}");
        }
    }
}
