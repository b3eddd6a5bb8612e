//! What a yes asks for in return. Its JSON form is an interface: servers outside answer with it.
//!
//! Guards: an obligation that is not known cannot be kept, so an answer that has one is no answer.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::duration;

/// The conditions of a yes; none of them is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Obligations {
    /// The session ends after this time. In JSON with a unit: `"8h"`.
    #[serde(with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
    /// The session ends at this moment, however long it has lasted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What the person sees is recorded.
    #[serde(skip_serializing_if = "is_false")]
    pub record: bool,
    /// Only these debug profiles may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<Vec<String>>,
    /// Files may be read and not written.
    #[serde(skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Shown to the person before anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Obligations {
    /// How long what begins at `moment` may last; no end where none is set.
    pub fn lasts(&self, moment: Timestamp) -> Option<Duration> {
        let left = |until| Duration::try_from(moment.duration_until(until)).unwrap_or_default();
        either(self.max_duration, self.until.map(left), Duration::min)
    }

    /// For the audit trail, in the form in which authorizers answer; none where there is nothing to keep to.
    pub fn told(&self) -> Option<serde_json::Value> {
        if *self == Obligations::default() {
            return None;
        }
        serde_json::to_value(self).ok()
    }

    /// Both of them kept.
    pub fn and(self, other: Obligations) -> Obligations {
        let both = |one: Vec<String>, other: Vec<String>| one.into_iter().filter(|it| other.contains(it)).collect();
        let lines = |one: String, other: String| if one == other { one } else { format!("{one}\n{other}") };
        Obligations {
            max_duration: either(self.max_duration, other.max_duration, Duration::min),
            until: either(self.until, other.until, Timestamp::min),
            record: self.record || other.record,
            profiles: either(self.profiles, other.profiles, both),
            read_only: self.read_only || other.read_only,
            message: either(self.message, other.message, lines),
        }
    }
}

fn either<T>(one: Option<T>, other: Option<T>, join: impl FnOnce(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(join(one, other)),
        (one, other) => one.or(other),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_yeses_ask_for_what_both_ask() {
        let one = Obligations {
            max_duration: Some(Duration::from_secs(60)),
            profiles: Some(vec!["general".to_owned(), "netadmin".to_owned()]),
            message: Some("one".to_owned()),
            ..Obligations::default()
        };
        let other = Obligations {
            max_duration: Some(Duration::from_secs(30)),
            until: Some(Timestamp::UNIX_EPOCH),
            record: true,
            profiles: Some(vec!["netadmin".to_owned()]),
            message: Some("two".to_owned()),
            read_only: true,
        };
        let both = Obligations {
            max_duration: Some(Duration::from_secs(30)),
            until: Some(Timestamp::UNIX_EPOCH),
            record: true,
            profiles: Some(vec!["netadmin".to_owned()]),
            read_only: true,
            message: Some("one\ntwo".to_owned()),
        };
        assert_eq!(one.clone().and(other), both);
        assert_eq!(Obligations::default().and(one.clone()), one);
    }

    #[test]
    fn an_obligation_that_is_not_known_is_a_broken_answer() {
        let read = |json| serde_json::from_value::<Obligations>(json);
        let full = json!({ "max_duration": "8h", "record": true, "read_only": true, "message": "hello" });
        assert_eq!(read(full).unwrap().max_duration, Some(Duration::from_secs(8 * 3600)));
        assert!(read(json!({ "watch": true })).is_err());
        assert!(read(json!({ "max_duration": 8 })).is_err());
    }
}
