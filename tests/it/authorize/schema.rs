//! The documents that are promised to servers outside, against what Porthole sends and takes.

use serde_json::{Value, json};

use super::questions::all;

fn schema(name: &str) -> Value {
    let file = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).expect("it ships")).expect("JSON")
}

/// As much of JSON Schema as these documents use; a keyword that is not known here is a mistake.
fn fits(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{value} {what} {schema}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" => {}
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#')).expect("within the document");
                fits(root, root.pointer(pointer).expect("it is there"), value)?;
            }
            "anyOf" => {
                let any = rule.as_array().expect("a list").iter().any(|rule| fits(root, rule, value).is_ok());
                if !any {
                    return wrong("fits none of");
                }
            }
            "enum" if !rule.as_array().expect("a list").contains(value) => return wrong("is not among"),
            "enum" => {}
            "type" => {
                let is = |kind: &Value| match kind.as_str().expect("a name") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "integer" => value.is_i64(),
                    "null" => value.is_null(),
                    kind => panic!("{kind}?"),
                };
                if !rule.as_array().map_or_else(|| is(rule), |kinds| kinds.iter().any(is)) {
                    return wrong("is of another type than");
                }
            }
            "required" => {
                let missing = rule
                    .as_array()
                    .expect("a list")
                    .iter()
                    .any(|key| value.get(key.as_str().expect("a key")).is_none());
                if missing && value.is_object() {
                    return wrong("lacks a key of");
                }
            }
            "properties" => {
                for (key, rule) in rule.as_object().expect("properties") {
                    value.get(key).map_or(Ok(()), |value| fits(root, rule, value))?;
                }
            }
            "additionalProperties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    match (schema["properties"].get(key), rule) {
                        (Some(_), _) => {}
                        (None, Value::Bool(false)) => return wrong("has a key that is not in"),
                        (None, rule) => fits(root, rule, value)?,
                    }
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    fits(root, rule, item)?;
                }
            }
            other => panic!("{other}?"),
        }
    }
    Ok(())
}

#[test]
fn each_question_is_as_its_schema_says() {
    let schema = schema("webhook.schema.json");
    let request = &schema["$defs"]["request"];
    let queries: Vec<_> = all().iter().map(|question| serde_json::to_value(&question.query).expect("JSON")).collect();
    for query in &queries {
        assert_eq!(fits(&schema, request, query), Ok(()));
    }
    assert_eq!(fits(&schema, request, &json!({ "queries": queries })), Ok(()));
    assert!(fits(&schema, request, &json!({ "queries": [{}] })).is_err());
}

/// What the schema takes is taken, and what it refuses is refused.
#[test]
fn each_answer_is_read_as_its_schema_says() {
    let schema = schema("webhook.schema.json");
    for answer in [
        json!(true),
        json!({ "allow": false }),
        json!({ "allow": true, "reason": null, "obligations": null }),
        json!({ "allow": true, "reason": "yes", "obligations": { "max_duration": "1h", "until": "2026-11-24T17:00:00Z", "record": true, "profiles": ["a"], "read_only": false, "message": "m" } }),
        json!(null),
        json!("yes"),
        json!({}),
        json!({ "allow": 1 }),
        json!({ "allow": true, "obligation": {} }),
        json!({ "allow": true, "obligations": { "watch": true } }),
        json!({ "allow": true, "obligations": { "profiles": "a" } }),
    ] {
        let promised = fits(&schema, &schema["$defs"]["decision"], &answer);
        let read = porthole::authorize::answer::decision(answer.clone());
        assert_eq!(promised.is_ok(), read.is_ok(), "{answer}: {promised:?}, {read:?}");
    }
    let schema = self::schema("namespaces.schema.json");
    assert_eq!(fits(&schema, &schema, &json!({ "namespaces": ["a-*"], "actions": { "exec": [] } })), Ok(()));
    assert!(fits(&schema, &schema, &json!({ "namespaces": [], "actions": { "dance": [] } })).is_err());
}
