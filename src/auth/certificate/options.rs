//! A certificate's critical options and extensions: what it forbids, and what it allows.
//!
//! Invariant: a critical option that is not honoured refuses the certificate (PROTOCOL.certkeys); an extension only
//! ever adds a right, so an unknown one is passed over.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use russh::keys::Certificate;

use super::refusal::Reason;
use crate::auth::Rights;
use crate::auth::name::shown;

/// Beyond this a list of addresses is no list that a person wrote.
const SOURCE_ADDRESS_MAX_ENTRIES: usize = 256;
/// The longest command, in bytes: as much as one argument of a process on Linux could be is far beyond reason.
const FORCE_COMMAND_MAX_BYTES: usize = 8192;

/// The critical options, understood.
#[derive(Debug, Default)]
pub(super) struct Restrictions {
    pub(super) force_command: Option<String>,
    source_address: Option<Vec<IpNet>>,
}

impl Restrictions {
    pub(super) fn of(certificate: &Certificate) -> Result<Restrictions, Reason> {
        let mut restrictions = Restrictions::default();
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "force-command" => restrictions.force_command = Some(command(value)?),
                "source-address" => restrictions.source_address = Some(networks(value)?),
                "verify-required" => return Err(Reason::VerifyRequired),
                _ => return Err(Reason::UnknownCriticalOption { name: name.clone() }),
            }
        }
        Ok(restrictions)
    }

    pub(super) fn admit(&self, peer: IpAddr) -> Result<(), Reason> {
        let peer = peer.to_canonical();
        match &self.source_address {
            Some(networks) if !networks.iter().any(|network| network.contains(&peer)) => {
                Err(Reason::SourceAddress { peer })
            }
            _ => Ok(()),
        }
    }
}

/// The rights that the extensions grant.
pub(super) fn rights(certificate: &Certificate) -> Rights {
    let has = |name: &str| certificate.extensions().contains_key(name);
    Rights {
        pty: has("permit-pty"),
        port_forwarding: has("permit-port-forwarding"),
        agent_forwarding: has("permit-agent-forwarding"),
    }
}

fn command(value: &str) -> Result<String, Reason> {
    if value.is_empty() || value.len() > FORCE_COMMAND_MAX_BYTES || value.contains('\0') {
        return Err(Reason::ForceCommand);
    }
    Ok(value.to_owned())
}

/// `source-address`: networks and addresses, separated by commas (openssh-portable `addrmatch.c`). A negated entry, a space,
/// an address with bits beyond its mask: all are refused there, and here.
fn networks(value: &str) -> Result<Vec<IpNet>, Reason> {
    let malformed = || Reason::SourceAddressMalformed { list: shown(value) };
    if value.split(',').nth(SOURCE_ADDRESS_MAX_ENTRIES).is_some() {
        return Err(malformed());
    }
    value.split(',').map(|entry| network(entry).ok_or_else(malformed)).collect()
}

fn network(entry: &str) -> Option<IpNet> {
    let network = match entry.split_once('/') {
        Some((address, length)) => {
            // `+8` and `08` parse as numbers, and a mask has neither.
            let plain = length == "0" || (!length.starts_with('0') && length.bytes().all(|byte| byte.is_ascii_digit()));
            IpNet::new(address.parse().ok()?, plain.then(|| length.parse().ok()).flatten()?).ok()?
        }
        None => IpNet::from(entry.parse::<IpAddr>().ok()?),
    };
    (network.trunc() == network).then(|| canonical(network)).flatten()
}

/// A peer is compared as IPv4 wherever it is, so an IPv4-mapped network must be too (RFC 4291 section 2.5.5.2).
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else { return Some(network) };
    match v6.addr().to_ipv4_mapped() {
        Some(address) => Ipv4Net::new(address, v6.prefix_len().checked_sub(96)?).ok().map(IpNet::V4),
        None => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(list: &str, peer: &str) -> bool {
        let restrictions =
            Restrictions { source_address: Some(networks(list).expect(list)), ..Restrictions::default() };
        restrictions.admit(peer.parse().expect(peer)).is_ok()
    }

    #[test]
    fn a_peer_is_within_its_networks_in_either_family() {
        for (list, peer, inside) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("::ffff:10.0.0.0/104", "11.1.2.3", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7,2001:db8::/32", "2001:db8::1", true),
            ("2001:db8::/32", "10.1.2.3", false),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("0.0.0.0/0", "::ffff:203.0.113.9", true),
            ("::/0", "203.0.113.9", false),
            ("::/0", "::1", true),
        ] {
            assert_eq!(admits(list, peer), inside, "{peer} in {list}");
        }
    }

    #[test]
    fn a_malformed_list_is_refused_and_never_matches_nobody_or_everybody() {
        for list in [
            "",
            ",",
            "10.0.0.0/8,",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/",
            "10.0.0.1/8",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/8 ,10.0.0.1",
            "!10.0.0.0/8",
            "10.0.0.*",
            "localhost",
            "10.1",
            "::ffff:0.0.0.0/90",
            "fe80::1%eth0",
        ] {
            assert!(networks(list).is_err(), "{list:?}");
        }
        assert!(networks(&vec!["10.0.0.1"; 257].join(",")).is_err());
    }
}
