//! A decision as servers and policies outside write it: `true`, or `{"allow": true, "reason": …, "obligations": {…}}`.
//!
//! Guards: only an answer that is understood to its last key decides. A misspelt `obligations` would be a yes without
//! conditions, so a key that is not known makes it no answer.

use serde::Deserialize;
use serde_json::Value;

use super::{Decision, Obligations};

/// Texts of a server go to the audit trail and to a terminal; longer ones are cut.
const TEXT_MAX_CHARS: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    allow: bool,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    obligations: Option<Value>,
}

/// Reads one decision; the error says why it is none.
pub fn decision(answer: Value) -> Result<Decision, String> {
    let document = match answer {
        Value::Bool(allow) => Document { allow, reason: None, obligations: None },
        Value::Object(_) => {
            serde_json::from_value(answer).map_err(|error| format!("its decision is not one: {error}"))?
        }
        _ => return Err("its decision is neither a boolean nor an object with `allow`".to_owned()),
    };
    let reason = document.reason.filter(|reason| !reason.is_empty());
    let said = if document.allow { "it allows" } else { "it denies" };
    let reason = reason.map_or_else(|| said.to_owned(), cut);
    let obligations = document.obligations.map(obligations).transpose()?.unwrap_or_default();
    Ok(match document.allow {
        true => Decision {
            allow: true,
            reason,
            obligations: Obligations { message: obligations.message.map(cut), ..obligations },
        },
        false => Decision::denied(reason),
    })
}

/// Reads what a yes asks for. Only an object has names for it: serde would take a list by its order.
pub fn obligations(document: Value) -> Result<Obligations, String> {
    match document {
        Value::Object(_) => {
            serde_json::from_value(document).map_err(|error| format!("its obligations are none: {error}"))
        }
        _ => Err("its obligations are no object".to_owned()),
    }
}

/// Reads a list of them.
pub fn decisions(answer: Value) -> Result<Vec<Decision>, String> {
    match answer {
        Value::Array(decisions) => decisions.into_iter().map(decision).collect(),
        _ => Err("its answer is no list of decisions".to_owned()),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_MAX_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_boolean_and_an_object_decide() {
        assert_eq!(decision(json!(false)), Ok(Decision::denied("it denies")));
        assert_eq!(decision(json!({ "allow": false, "reason": "no" })), Ok(Decision::denied("no")));
        let yes = decision(json!({ "allow": true, "reason": "ok", "obligations": { "max_duration": "1h" } })).unwrap();
        assert!(yes.allow && yes.obligations.max_duration == Some(Duration::from_secs(3600)));
        assert_eq!(decisions(json!([true, false])).unwrap().len(), 2);
    }

    #[test]
    fn anything_else_is_no_answer() {
        for answer in [
            json!(null),
            json!("true"),
            json!(1),
            json!([true]),
            json!({}),
            json!({ "allow": "true" }),
            json!({ "allow": true, "obligation": {} }),
            json!({ "allow": true, "obligations": { "recording": true } }),
            json!({ "allow": true, "obligations": [] }),
        ] {
            assert!(decision(answer.clone()).is_err(), "{answer}");
        }
        assert!(decisions(json!({ "allow": true })).is_err());
    }

    #[test]
    fn a_long_text_is_cut() {
        let long = decision(json!({ "allow": false, "reason": "é".repeat(100_000) })).unwrap();
        assert_eq!(long.reason.chars().count(), TEXT_MAX_CHARS + 1);
    }
}
