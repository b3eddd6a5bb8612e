//! Label and field selectors of lists and watches.

use serde_json::Value;

use super::status::Refusal;
use super::store::text;

#[derive(Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
}

impl Selector {
    /// Reads the query parameters `labelSelector` and `fieldSelector`.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Selector, Refusal> {
        let mut selector = Selector::default();
        for part in split(labels) {
            selector.labels.push(requirement(part).ok_or_else(|| {
                Refusal::bad_request(format!("unable to parse requirement: found '{part}', expected: identifier"))
            })?);
        }
        for part in fields.split(',').filter(|part| !part.is_empty()) {
            let (name, equal, value) = if let Some((name, value)) = part.split_once("!=") {
                (name, false, value)
            } else if let Some((name, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (name, true, value)
            } else {
                let why = format!("invalid selector: '{part}'; can't understand '{part}'");
                return Err(Refusal::bad_request(why));
            };
            selector.fields.push((format!("/{}", name.replace('.', "/")), equal, value.to_owned()));
        }
        Ok(selector)
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |name: &str| object["metadata"]["labels"].get(name).and_then(Value::as_str);
        let labels = self.labels.iter().all(|requirement| match requirement {
            Requirement::In(name, values) => label(name).is_some_and(|label| values.iter().any(|value| value == label)),
            Requirement::NotIn(name, values) => {
                label(name).is_none_or(|label| values.iter().all(|value| value != label))
            }
            Requirement::Exists(name) => label(name).is_some(),
            Requirement::Missing(name) => label(name).is_none(),
        });
        labels && self.fields.iter().all(|(field, equal, value)| (text(object, field) == value) == *equal)
    }
}

/// Splits at the commas that are not in brackets.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    text.split(move |letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
}

fn requirement(part: &str) -> Option<Requirement> {
    let set = |list: &str| {
        let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(list.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let name = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty() && !name.contains(' '));
    if let Some((key, list)) = part.split_once(" notin ") {
        Some(Requirement::NotIn(name(key)?, set(list)?))
    } else if let Some((key, list)) = part.split_once(" in ") {
        Some(Requirement::In(name(key)?, set(list)?))
    } else if let Some((key, value)) = part.split_once("!=") {
        Some(Requirement::NotIn(name(key)?, vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Some(Requirement::In(name(key)?, vec![value.trim().to_owned()]))
    } else if let Some(key) = part.strip_prefix('!') {
        Some(Requirement::Missing(name(key)?))
    } else {
        Some(Requirement::Exists(name(part)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_choose_as_kubernetes_does() {
        let pod = json!({ "metadata": { "name": "web-1", "labels": { "app": "web", "tier": "front" } } });
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier", "", true),
            ("app in (web, api),tier notin (back)", "", true),
            ("app!=web", "", false),
            ("!app", "", false),
            ("other!=x", "", true),
            ("", "metadata.name=web-1", true),
            ("", "metadata.name!=web-1", false),
        ] {
            assert_eq!(Selector::parse(labels, fields).unwrap().matches(&pod), expected, "{labels} {fields}");
        }
        assert!(Selector::parse("", "nonsense").is_err());
    }
}
