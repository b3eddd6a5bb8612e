//! Whose request it is, by address, where a gateway says so in a header.
//!
//! Each hop adds the address that it saw at the right, so the list is believed from the right, and only as long as it was
//! a trusted hop that wrote: the first address that is no gateway's is the client's, whatever that client wrote before it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// The client's address, behind the gateway at `gateway`. Port 0 where the gateway does not say it.
pub fn behind(gateway: SocketAddr, headers: &HeaderMap, name: &HeaderName, trusted: &[IpNet]) -> SocketAddr {
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    let mut nearest = gateway;
    for line in lines.into_iter().rev() {
        let Ok(line) = line.to_str() else { return nearest };
        for hop in line.rsplit(',') {
            let Some(address) = parse(hop.trim()) else { return nearest };
            nearest = address;
            if !trusted.iter().any(|network| network.contains(&address.ip())) {
                return nearest;
            }
        }
    }
    nearest
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn parse(hop: &str) -> Option<SocketAddr> {
    let address = hop.parse().or_else(|_| hop.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0))).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_client_cannot_choose_its_address() {
        let name = HeaderName::from_static("x-forwarded-for");
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network")).into();
        for (lines, expected) in [
            (vec!["192.0.2.1"], "192.0.2.1:0"),
            (vec!["203.0.113.9, 192.0.2.1"], "192.0.2.1:0"),
            (vec!["203.0.113.9, 192.0.2.1, 10.0.0.7"], "192.0.2.1:0"),
            (vec!["203.0.113.9", "192.0.2.1:4711", "10.0.0.7, ::1"], "192.0.2.1:4711"),
            (vec!["[2001:db8::1]:4711"], "[2001:db8::1]:4711"),
            (vec!["::ffff:192.0.2.1"], "192.0.2.1:0"),
            (vec!["10.0.0.9, 10.0.0.8"], "10.0.0.9:0"),
            (vec!["192.0.2.1, unknown, 10.0.0.8"], "10.0.0.8:0"),
            (vec!["192.0.2.1,"], "10.0.0.1:99"),
            (vec![], "10.0.0.1:99"),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append(&name, HeaderValue::from_static(line));
            }
            let gateway = "10.0.0.1:99".parse().expect("an address");
            assert_eq!(behind(gateway, &headers, &name, &trusted).to_string(), expected, "{lines:?}");
        }
    }
}
