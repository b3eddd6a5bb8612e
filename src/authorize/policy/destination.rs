//! Where `forward` and `listen` may go: `host:port`.
//!
//! The host is a name by glob, an address, a network, `localhost`, or `*`; the port a number, a range, or `*`. An
//! IPv6 host stands in brackets. A destination is compared as the client wrote it, and no name is looked up: who may
//! write `db.internal` is not thereby allowed its address, nor the other way round.
//!
//! The pod itself has many names and is one thing: `localhost`, a loopback address, and for `forward` one of the pod's
//! own addresses, or `0.0.0.0`, which Linux dials as itself. A pattern that fits one of them fits them all, or a deny on
//! `local*` would be passed by `127.0.0.1`. For `listen` it is the loopback only, since a listener on another address
//! is open to the network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::super::{ActionKind, Query, QueryDestination};
use super::pattern::{Glob, Network};

/// One pattern for the destination of `forward` and `listen`.
#[derive(Debug, Clone)]
pub(super) struct DestinationPattern {
    text: String,
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, Clone)]
enum Host {
    Any,
    Localhost,
    Network(Network),
    Name(Glob),
}

impl DestinationPattern {
    pub(super) fn fits(&self, destination: &QueryDestination, query: &Query) -> bool {
        self.ports.contains(&destination.port) && self.host.fits(&destination.host, query)
    }
}

impl Host {
    fn fits(&self, host: &str, query: &Query) -> bool {
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let itself = address.map_or_else(|| is_localhost_by_name(host), |address| is_localhost(address, query));
        self.fits_written(host, address) || (itself && self.fits_itself(query))
    }

    /// Whether the host fits as it stands there.
    fn fits_written(&self, host: &str, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Host::Any, _) => true,
            (Host::Localhost, _) | (Host::Network(_), None) => false,
            (Host::Network(network), Some(address)) => network.contains(address),
            (Host::Name(glob), Some(address)) => glob.fits(&address.to_string()),
            (Host::Name(glob), None) => glob.fits(&without_root(host).to_ascii_lowercase()),
        }
    }

    /// Whether the pod itself fits, by any of its names.
    fn fits_itself(&self, query: &Query) -> bool {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        let own = query.target.pod_ips.iter().filter(|_| query.action == ActionKind::Forward);
        matches!(self, Host::Localhost)
            || self.fits_written("localhost", None)
            || own.chain(&loopback).any(|address| self.fits_written("", Some(address.to_canonical())))
    }
}

fn is_localhost(address: IpAddr, query: &Query) -> bool {
    let own = || query.target.pod_ips.iter().any(|own| own.to_canonical() == address);
    let dials_itself = || address.is_unspecified() || own();
    address.is_loopback() || (query.action == ActionKind::Forward && dials_itself())
}

/// RFC 6761 section 6.3: `localhost` and all names under it.
fn is_localhost_by_name(host: &str) -> bool {
    let host = without_root(host);
    let tail = host.len().checked_sub("localhost".len()).and_then(|at| host.split_at_checked(at));
    tail.is_some_and(|(front, tail)| {
        tail.eq_ignore_ascii_case("localhost") && (front.is_empty() || front.ends_with('.'))
    })
}

/// A name's last dot, the root, changes nothing in what it names.
fn without_root(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

impl FromStr for DestinationPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<DestinationPattern, String> {
        let wrong =
            || format!("`{text}` is no destination: write host:port, as in `localhost:8080`, `*.svc:80-89`, `[::1]:*`");
        let (host, ports) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (host.contains(':') && bracketed.is_none()) {
            return Err(wrong());
        }
        let network = match bracketed {
            // Brackets may also begin and end a glob's class.
            Some(inside) if inside.contains(':') => Some(inside.parse::<Network>()?),
            _ if host.contains('/') => Some(host.parse()?),
            _ => host.parse().ok(),
        };
        let host = match network {
            Some(network) if network.is_loopback() => Host::Localhost,
            Some(network) => Host::Network(network),
            None if host == "*" => Host::Any,
            None if is_localhost_by_name(host) => Host::Localhost,
            None => Host::Name(without_root(host).to_ascii_lowercase().parse()?),
        };
        let ports = parse_ports(ports).ok_or_else(wrong)?;
        Ok(DestinationPattern { text: text.to_owned(), host, ports })
    }
}

fn parse_ports(text: &str) -> Option<RangeInclusive<u16>> {
    // `u16::from_str` takes a leading `+`, which is no way to write a port.
    let port = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    match text.split_once('-') {
        _ if text == "*" => Some(0..=u16::MAX),
        Some((first, last)) => Some(port(first)?..=port(last)?).filter(|range| !range.is_empty()),
        None => port(text).map(|only| only..=only),
    }
}

impl fmt::Display for DestinationPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::policy::tests::question;

    #[test]
    fn destinations_fit_as_they_are_written() {
        use ActionKind::{Forward, Listen};
        for (pattern, action, host, port, fits) in [
            ("*:*", Forward, "anything.at.all", 1, true),
            ("*:*", Listen, "", 0, true),
            ("*:5432", Forward, "db", 5432, true),
            ("*:5432", Forward, "db", 5433, false),
            ("db:5430-5439", Forward, "db", 5430, true),
            ("db:5430-5439", Forward, "db", 5439, true),
            ("db:5430-5439", Forward, "db", 5440, false),
            ("*.svc.cluster.local:80", Forward, "web.demo.svc.cluster.local", 80, true),
            ("*.svc.cluster.local:80", Forward, "WEB.demo.SVC.cluster.local.", 80, true),
            ("*.svc.cluster.local:80", Forward, "evil.example", 80, false),
            ("*.svc.cluster.local:80", Forward, "web.svc.cluster.local.evil.example", 80, false),
            ("10.0.0.0/8:80", Forward, "10.9.8.7", 80, true),
            ("10.0.0.0/8:80", Forward, "11.9.8.7", 80, false),
            ("10.0.0.0/8:80", Forward, "::ffff:10.9.8.7", 80, true),
            ("10.0.0.0/8:80", Forward, "10.9.8.7.evil.example", 80, false),
            ("192.0.2.1:80", Forward, "192.0.2.1", 80, true),
            ("192.0.2.1:80", Forward, "192.0.2.10", 80, false),
            ("[2001:db8::1]:80", Forward, "2001:db8:0:0:0:0:0:1", 80, true),
            ("[2001:db8::/32]:80", Forward, "2001:db8::5", 80, true),
            ("[2001:db8::/32]:80", Forward, "2001:db9::5", 80, false),
            ("0.0.0.0/0:80", Forward, "localhost", 80, true),
            // The pod itself, however it is spelled.
            ("localhost:80", Forward, "localhost", 80, true),
            ("localhost:80", Forward, "LocalHost.", 80, true),
            ("localhost:80", Forward, "web.localhost", 80, true),
            ("localhost:80", Forward, "notlocalhost", 80, false),
            ("localhost:80", Forward, "localhost.evil.example", 80, false),
            ("localhost:80", Forward, "127.0.0.1", 80, true),
            ("localhost:80", Forward, "127.9.9.9", 80, true),
            ("localhost:80", Forward, "::1", 80, true),
            ("localhost:80", Forward, "::ffff:127.0.0.1", 80, true),
            ("localhost:80", Forward, "0.0.0.0", 80, true),
            ("localhost:80", Forward, "::", 80, true),
            ("localhost:80", Forward, "10.1.2.3", 80, true),
            ("localhost:80", Forward, "10.1.2.4", 80, false),
            ("127.0.0.1:80", Forward, "localhost", 80, true),
            ("[::1]:80", Forward, "localhost", 80, true),
            // A deny on one of its names was passed by another.
            ("local*:80", Forward, "127.0.0.1", 80, true),
            ("local*:80", Forward, "::1", 80, true),
            ("local*:80", Forward, "10.1.2.3", 80, true),
            ("local*:80", Forward, "0.0.0.0", 80, true),
            ("local*:80", Forward, "10.1.2.4", 80, false),
            ("127.*:80", Forward, "localhost", 80, true),
            ("127.*:80", Forward, "10.1.2.3", 80, true),
            ("10.1.2.3:80", Forward, "localhost", 80, true),
            ("10.1.2.3:80", Forward, "::1", 80, true),
            ("10.1.2.0/24:80", Forward, "127.0.0.1", 80, true),
            ("10.1.3.0/24:80", Forward, "127.0.0.1", 80, false),
            ("db*:80", Forward, "localhost", 80, false),
            ("local*:80", Listen, "127.0.0.1", 80, true),
            ("10.1.2.3:80", Listen, "localhost", 80, false),
            ("10.1.2.3:80", Listen, "10.1.2.3", 80, true),
            // A listener on another address than the loopback is open to the network.
            ("localhost:80", Listen, "localhost", 80, true),
            ("localhost:80", Listen, "127.0.0.1", 80, true),
            ("localhost:80", Listen, "", 80, false),
            ("localhost:80", Listen, "0.0.0.0", 80, false),
            ("localhost:80", Listen, "10.1.2.3", 80, false),
            // A host that breaks out of any name is only that: a host that no name fits.
            ("db:80", Forward, "db\0", 80, false),
            ("db:80", Forward, "", 80, false),
            ("db?:80", Forward, "dbé", 80, false),
        ] {
            let pattern: DestinationPattern = pattern.parse().unwrap();
            let destination = QueryDestination { host: host.to_owned(), port };
            let query = question(|query| query.action = action);
            assert_eq!(pattern.fits(&destination, &query), fits, "{pattern} {action} {destination}");
        }
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        for text in [
            "",
            "db",
            "db:",
            ":80",
            "db:http",
            "db:65536",
            "db:-1",
            "db:+80",
            "db:90-80",
            "db:80-",
            "::1:80",
            "[::1]80",
            "[::1:80",
            "10.0.0.0/33:80",
            "10.0.0.1/8:80",
            "db/x:80",
            "db[:80",
            "[::g]:80",
            "db:80:90",
        ] {
            assert!(text.parse::<DestinationPattern>().is_err(), "{text:?}");
        }
    }
}
