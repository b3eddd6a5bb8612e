//! What a rule compares with: names by glob, workloads, networks.
//!
//! Guards: each pattern is whole and compiled when the file has loaded, and one that could never be meant (an empty
//! list, a name that Kubernetes would refuse) is a mistake that is named then, not a rule that silently fits nothing.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use ipnet::{IpNet, Ipv4Net};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// At least one of something that is written as a string; a single string stands for a list of one.
#[derive(Debug, Clone)]
pub(super) struct Several<T>(Vec<T>);

impl<T> Several<T> {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn any(&self, fits: impl FnMut(&T) -> bool) -> bool {
        self.0.iter().any(fits)
    }
}

impl<T> From<T> for Several<T> {
    fn from(one: T) -> Several<T> {
        Several(vec![one])
    }
}

impl<T: fmt::Display> fmt::Display for Several<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{item}")?;
        }
        Ok(())
    }
}

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Several<T>, D::Error> {
        deserializer.deserialize_any(SeveralVisitor(PhantomData))
    }
}

pub(super) struct SeveralVisitor<T>(pub(super) PhantomData<T>);

impl<'de, T: FromStr<Err = String>> Visitor<'de> for SeveralVisitor<T> {
    type Value = Several<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Several<T>, E> {
        text.parse().map(|one: T| Several::from(one)).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Several<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(Text(item)) = list.next_element()? {
            items.push(item);
        }
        match items.is_empty() {
            true => Err(A::Error::custom("the list is empty, so nothing would ever fit: name something in it")),
            false => Ok(Several(items)),
        }
    }
}

/// One string, read while its place in the file is still known: a mistake is reported at its own line, and not at
/// the beginning of its list.
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromStr<Err = String>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<T>, D::Error> {
        struct TextVisitor<T>(PhantomData<T>);
        impl<T: FromStr<Err = String>> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
                text.parse().map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// Any text by glob: `*`, `?`, `[a-z]`, `{one,two}`, and `\` before a character that is meant as itself.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    text: String,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    Any,
    Exactly,
    // Not a `GlobSet`: that takes shortcuts by a path's last part and extension, and this is no path.
    Glob(GlobMatcher),
}

impl Glob {
    pub(super) fn fits(&self, text: &str) -> bool {
        match &self.form {
            Form::Any => true,
            Form::Exactly => self.text == text,
            Form::Glob(matcher) => matcher.is_match(text),
        }
    }

    /// The text that alone fits; none where several do.
    pub(super) fn exactly(&self) -> Option<&str> {
        matches!(self.form, Form::Exactly).then_some(&self.text)
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Glob, String> {
        let form = match text {
            "" => return Err("an empty pattern fits nothing: write a name, or `*` for any".to_owned()),
            "*" => Form::Any,
            _ if !text.contains(['*', '?', '[', ']', '{', '}', '\\']) => Form::Exactly,
            _ => {
                if let Some(letter) = needless_escape(text) {
                    return Err(format!(
                        "`{text}` has `\\` before {letter:?}, where it means nothing: write `\\\\` for itself"
                    ));
                }
                let glob = GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
                Form::Glob(glob.map_err(|error| format!("`{text}` is no glob: {}", error.kind()))?.compile_matcher())
            }
        };
        Ok(Glob { text: text.to_owned(), form })
    }
}

/// The first letter after a `\` that needs none. Without this, the group `CORP\dev` would be a glob for `CORPdev`.
fn needless_escape(glob: &str) -> Option<char> {
    let mut letters = glob.chars();
    while let Some(letter) = letters.next() {
        if letter == '\\'
            && let Some(escaped) = letters.next()
            && !r"*?[]{}!^-,\".contains(escaped)
        {
            return Some(escaped);
        }
    }
    None
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of something in Kubernetes, or a profile's, by glob.
#[derive(Debug, Clone)]
pub(in crate::authorize) struct NameGlob(Glob);

impl NameGlob {
    pub(in crate::authorize) fn fits(&self, name: &str) -> bool {
        self.0.fits(name)
    }
}

impl FromStr for NameGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<NameGlob, String> {
        let stray = |letter: &char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit();
        match text.chars().find(|letter| stray(letter) && !"-.*?[]{}!^,\\".contains(*letter)) {
            Some(stray) => Err(format!(
                "`{text}` can fit no name, since {stray:?} is in none: they have lower case letters, digits, - and ."
            )),
            None => text.parse().map(NameGlob),
        }
    }
}

impl fmt::Display for NameGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A workload as `Kind/name`, each by glob.
#[derive(Debug, Clone)]
pub(super) struct WorkloadGlob {
    kind: Glob,
    name: NameGlob,
}

impl WorkloadGlob {
    pub(super) fn fits(&self, workload: &str) -> bool {
        workload.split_once('/').is_some_and(|(kind, name)| self.kind.fits(kind) && self.name.fits(name))
    }
}

impl FromStr for WorkloadGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<WorkloadGlob, String> {
        let Some((kind, name)) = text.split_once('/') else {
            return Err(format!("`{text}` names no kind: write it as `Deployment/{text}` or `*/{text}`"));
        };
        Ok(WorkloadGlob { kind: kind.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for WorkloadGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// An address, or a network of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Network(IpNet);

impl Network {
    /// An IPv4 address in IPv6's clothes (`::ffff:10.0.0.1`) counts as the IPv4 address that it is, and such a network too.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether it is nothing but loopback addresses.
    pub(super) fn is_loopback(&self) -> bool {
        self.0.network().is_loopback() && self.0.broadcast().is_loopback()
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let parsed = match text.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address.to_canonical())),
            Err(_) => text.parse::<IpNet>().ok(),
        };
        match parsed {
            None => Err(format!("`{text}` is no network: write an address or a network, as in `10.0.0.0/8`")),
            Some(net) if net.addr() != net.network() => {
                Err(format!("`{text}` has bits beyond its prefix: write `{}`", net.trunc()))
            }
            Some(net) => Ok(Network(canonical(net))),
        }
    }
}

/// Addresses are compared as IPv4 wherever they are, so an IPv4-mapped network must be too (RFC 4291 section 2.5.5.2).
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deny from `::ffff:127.0.0.0/104` fitted nobody.
    #[test]
    fn a_network_holds_its_addresses_however_either_is_written() {
        for (network, address, inside) in [
            ("::ffff:127.0.0.0/104", "127.0.0.1", true),
            ("::ffff:127.0.0.0/104", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.0/104", "128.0.0.1", false),
            ("::ffff:0.0.0.0/96", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("2001:db8::/32", "2001:db8::1", true),
            ("::/0", "2001:db8::1", true),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), inside, "{address} in {network}");
        }
    }
}
