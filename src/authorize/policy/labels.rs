//! Labels of a namespace or a pod: equality, one of a set, or there at all.
//!
//! Guards: values are compared exactly. A value that looks like a glob is a mistake, and so is a table without a key:
//! it would fit everything.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::pattern::{Several, SeveralVisitor, Text};

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
                "`{text}` is no label value: values are compared exactly, several stand in a list, and \"*\" alone is any"
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
