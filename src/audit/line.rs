//! One event as one line of JSON.
//!
//! Guards: a bound. A client chooses how long its command, its destination or its login name is; the trail keeps the
//! first `TEXT_MAX_BYTES` of a text, and of one that was cut its length and its SHA-256 beside it, as `command_cut`.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{ConnectionId, Event, SessionId};

/// What people type and programs are called with fits; what fills a disk does not.
const TEXT_MAX_BYTES: usize = 4096;

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    connection: &'a ConnectionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionId>,
    #[serde(flatten)]
    event: &'a Event,
}

/// The line with its end.
pub fn encode(connection: &ConnectionId, session: Option<&SessionId>, event: &Event) -> Vec<u8> {
    const SOUND: &str = "an event has only string keys and finite numbers";
    let line = Line { time: Timestamp::now(), connection, session, event };
    let mut bytes = serde_json::to_vec(&line).expect(SOUND);
    // No text in a short line is too long.
    if bytes.len() > TEXT_MAX_BYTES
        && let Ok(Value::Object(fields)) = serde_json::from_slice(&bytes)
    {
        bytes = serde_json::to_vec(&shorten(fields)).expect(SOUND);
    }
    bytes.push(b'\n');
    bytes
}

fn shorten(fields: Map<String, Value>) -> Map<String, Value> {
    let mut short = Map::new();
    for (name, value) in fields {
        match value {
            Value::String(text) if text.len() > TEXT_MAX_BYTES => {
                let cut = json!({ "bytes": text.len(), "sha256": fingerprint(&text) });
                short.insert(format!("{name}_cut"), cut);
                short.insert(name, Value::from(beginning(&text)));
            }
            Value::Object(fields) => drop(short.insert(name, Value::Object(shorten(fields)))),
            value => drop(short.insert(name, value)),
        }
    }
    short
}

/// The whole characters that fit.
fn beginning(text: &str) -> &str {
    let end = (0..=TEXT_MAX_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

fn fingerprint(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_leaves_its_length_and_hash() {
        let asked = format!("x{}", "é".repeat(100_000));
        let event = Event::CommandForced { subject: "dev".into(), asked: Some(asked.clone()), forced: "id".into() };
        let line = encode(&ConnectionId::random(), None, &event);
        let line: Value = serde_json::from_slice(&line).expect("JSON");
        let kept = line["asked"].as_str().expect("a text");
        assert!(kept.len() <= TEXT_MAX_BYTES && kept.len() > TEXT_MAX_BYTES - 2 && asked.starts_with(kept));
        assert_eq!(line["asked_cut"]["bytes"], 200_001);
        assert_eq!(line["asked_cut"]["sha256"], fingerprint(&asked));
        assert_eq!((&line["forced"], &line["event"]), (&"id".into(), &"command_forced".into()));
    }
}
