//! What a rule compares with: names by glob, labels, commands, networks.
//!
//! Guards: each pattern is whole and compiled when the file has loaded, and one that could never be meant (an empty
//! list, a name that Kubernetes would refuse, a glob in a label) is a mistake that is named then, not a rule that
//! silently fits nothing, or everything.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use ipnet::IpNet;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
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

struct SeveralVisitor<T>(PhantomData<T>);

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
                let glob = GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
                Form::Glob(glob.map_err(|error| format!("`{text}` is no glob: {}", error.kind()))?.compile_matcher())
            }
        };
        Ok(Glob { text: text.to_owned(), form })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of something in Kubernetes, or a profile's, by glob.
#[derive(Debug, Clone)]
pub(super) struct NameGlob(Glob);

impl NameGlob {
    pub(super) fn fits(&self, name: &str) -> bool {
        self.0.fits(name)
    }
}

impl FromStr for NameGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<NameGlob, String> {
        let stray = |letter: &char| !letter.is_ascii_lowercase() && !letter.is_ascii_digit();
        match text.chars().find(|letter| stray(letter) && !"-.*?[]{}!^,\\".contains(*letter)) {
            Some(stray) => Err(format!(
                "`{text}` can fit no name, since {stray:?} stands in none: names have lower case letters, digits, `-` and `.`"
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
    /// An IPv4 address in IPv6's clothes (`::ffff:10.0.0.1`) counts as the IPv4 address that it is.
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
            Some(net) => Ok(Network(net)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix_len() == self.0.max_prefix_len() {
            true => self.0.addr().fmt(f),
            false => self.0.fmt(f),
        }
    }
}

/// Labels that must all be there, as `key = "value"`, `key = ["one", "two"]`, or `key = "*"` for any value.
#[derive(Debug, Clone)]
pub(super) struct Labels(BTreeMap<String, LabelValues>);

#[derive(Debug, Clone)]
enum LabelValues {
    Any,
    Among(Several<LabelValue>),
}

#[derive(Debug, Clone)]
struct LabelValue(String);

impl Labels {
    pub(super) fn fit(&self, labels: &BTreeMap<String, String>) -> bool {
        self.first_misfit(labels).is_none()
    }

    /// Why these labels do not fit, in words; none if they do.
    pub(super) fn misfit(&self, labels: &BTreeMap<String, String>) -> Option<String> {
        self.first_misfit(labels).map(|(key, wanted)| match (labels.get(key), wanted) {
            (Some(value), LabelValues::Among(values)) => format!("label {key} is {value:?}, not {values}"),
            _ => format!("label {key} is missing"),
        })
    }

    fn first_misfit(&self, labels: &BTreeMap<String, String>) -> Option<(&String, &LabelValues)> {
        self.0.iter().find(|(key, wanted)| match (labels.get(*key), wanted) {
            (None, _) => true,
            (Some(_), LabelValues::Any) => false,
            (Some(value), LabelValues::Among(values)) => !values.any(|wanted| wanted.0 == *value),
        })
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        struct LabelsVisitor;
        impl<'de> Visitor<'de> for LabelsVisitor {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of labels, as in { team = \"payments\" }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Labels, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some(Text(LabelKey(key))) = table.next_key()? {
                    labels.insert(key, table.next_value()?);
                }
                match labels.is_empty() {
                    true => {
                        Err(A::Error::custom("no label is named, so anything would fit: name one, or leave it out"))
                    }
                    false => Ok(Labels(labels)),
                }
            }
        }
        deserializer.deserialize_map(LabelsVisitor)
    }
}

impl<'de> Deserialize<'de> for LabelValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LabelValues, D::Error> {
        struct ValuesVisitor;
        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = LabelValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label's value, a list of them, or \"*\" for any")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<LabelValues, E> {
                match text {
                    "*" => Ok(LabelValues::Any),
                    _ => SeveralVisitor(PhantomData).visit_str(text).map(LabelValues::Among),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<LabelValues, A::Error> {
                SeveralVisitor(PhantomData).visit_seq(list).map(LabelValues::Among)
            }
        }
        deserializer.deserialize_any(ValuesVisitor)
    }
}

impl FromStr for LabelValue {
    type Err = String;

    fn from_str(text: &str) -> Result<LabelValue, String> {
        match text.is_empty() || is_label_word(text) {
            true => Ok(LabelValue(text.to_owned())),
            false => Err(format!(
                "`{text}` is no label value: values are compared exactly, name several in a list, or use \"*\" alone for any"
            )),
        }
    }
}

impl fmt::Display for LabelValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

struct LabelKey(String);

impl FromStr for LabelKey {
    type Err = String;

    fn from_str(text: &str) -> Result<LabelKey, String> {
        let (prefix, name) = text.rsplit_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
        let prefix_fits = prefix.is_none_or(|prefix| {
            !prefix.is_empty()
                && prefix
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.')
        });
        match prefix_fits && is_label_word(name) {
            true => Ok(LabelKey(text.to_owned())),
            false => Err(format!("`{text}` is no label's key: write it as in `app` or `app.kubernetes.io/name`")),
        }
    }
}

/// What Kubernetes accepts as the name in a label's key, and as its value where that is not empty.
fn is_label_word(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}
