//! Parts of a request that are made of the question: `/decisions/{action}/{namespace}`.
//!
//! Guards: what a person can type (a command, a host) fills its place and changes nothing around it. In a path and in a
//! header a value is written in letters that have no meaning there, so no `/`, `..`, quote or line break of a value
//! reaches the other side as one.

use std::fmt::Write as _;

use super::Query;

/// A text with places for parts of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Subject,
    Groups,
    Email,
    Action,
    Namespace,
    Pod,
    Workload,
    Container,
    Profile,
    Command,
    Host,
    Port,
    Source,
    Access,
}

impl Template {
    /// Reads a template; the error names what is no part of a question, and what would be.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let end = from.find('}').filter(|_| from.starts_with('{'));
            let Some((name, after)) = end.and_then(|end| Some((from.get(1..end)?, from.get(end + 1..)?))) else {
                return Err(format!("`{text}` has a brace without its other one: write {{namespace}} for a part"));
            };
            let Some((_, field)) = FIELDS.into_iter().find(|(known, _)| *known == name) else {
                let known = FIELDS.map(|(name, _)| format!("{{{name}}}")).join(", ");
                return Err(format!("`{text}` has {{{name}}}, which is no part of a question: use {known}"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    /// The texts between its places.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Field(_) => None,
        })
    }

    /// With the values as they are; several groups are joined by commas, and what a question lacks is empty.
    pub fn fill(&self, query: &Query) -> String {
        self.filled(|field| field.values(query).join(","))
    }

    /// For a URL's path. A value is percent-encoded *before* it becomes part of a path, and the path's own encoding comes
    /// on top, since a server that has decoded the path once (Oathkeeper matches what it has decoded) must not find a
    /// slash there that nobody wrote. What a question lacks is `-`, so that no place is ever missing.
    pub fn fill_path(&self, query: &Query) -> String {
        self.filled(|field| match field.values(query).as_slice() {
            [] => "-".to_owned(),
            values => {
                let encoded: Vec<_> = values.iter().map(|value| encode_segment(value)).collect();
                encoded.join(",").replace('%', "%25")
            }
        })
    }

    /// For a header's value: percent-encoded where it is more than a word, and empty where a question lacks it.
    pub fn fill_header(&self, query: &Query) -> String {
        self.filled(|field| {
            let encoded: Vec<_> = field.values(query).iter().map(|value| encode(value, b"-._~/:@=")).collect();
            encoded.join(",")
        })
    }

    fn filled(&self, value: impl Fn(Field) -> String) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => value(*field),
        });
        parts.collect()
    }
}

const FIELDS: [(&str, Field); 14] = [
    ("subject", Field::Subject),
    ("groups", Field::Groups),
    ("email", Field::Email),
    ("action", Field::Action),
    ("namespace", Field::Namespace),
    ("pod", Field::Pod),
    ("workload", Field::Workload),
    ("container", Field::Container),
    ("profile", Field::Profile),
    ("command", Field::Command),
    ("host", Field::Host),
    ("port", Field::Port),
    ("source", Field::Source),
    ("access", Field::Access),
];

impl Field {
    /// None, one, or for the groups several.
    fn values(self, query: &Query) -> Vec<String> {
        let target = &query.target;
        let one = match self {
            Field::Groups => return query.user.groups.clone(),
            Field::Subject => Some(query.user.subject.clone()),
            Field::Email => query.user.email.clone(),
            Field::Action => Some(query.action.to_string()),
            Field::Namespace => Some(target.namespace.clone()),
            Field::Pod => Some(target.pod.clone()),
            Field::Workload => target.workload.clone(),
            Field::Container => Some(target.container.clone()),
            Field::Profile => Some(query.profile.name.clone()),
            Field::Command => query.command.clone(),
            Field::Host => query.destination.as_ref().map(|destination| destination.host.clone()),
            Field::Port => query.destination.as_ref().map(|destination| destination.port.to_string()),
            Field::Source => Some(query.source.ip.to_string()),
            Field::Access => query.access.map(|access| access.as_str().to_owned()),
        };
        one.into_iter().collect()
    }
}

/// One value in a path: never empty, never `.` or `..`, and never `-`, which stands for none.
fn encode_segment(value: &str) -> String {
    match value {
        "" => "%00".to_owned(),
        "-" => "%2D".to_owned(),
        _ if value.bytes().all(|byte| byte == b'.') => "%2E".repeat(value.len()),
        _ => encode(value, b"-._~"),
    }
}

/// RFC 3986 section 2.1: all but letters, digits and `kept` as `%XX`.
fn encode(value: &str, kept: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            true => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            false => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::ActionKind;
    use crate::authorize::policy::tests::question;

    fn exec(command: &str) -> Query {
        question(|query| {
            query.action = ActionKind::Exec;
            query.command = Some(command.to_owned());
            query.user.groups = vec!["a,b".to_owned(), "dév".to_owned()];
        })
    }

    #[test]
    fn what_a_person_types_changes_nothing_around_it() {
        let path = Template::parse("/decisions/{action}/{command}/{host}").unwrap();
        let header = Template::parse("command={command}").unwrap();
        for (command, in_path, in_header) in [
            ("ls", "ls", "ls"),
            ("ls -l /x", "ls%2520-l%2520%252Fx", "ls%20-l%20/x"),
            ("..", "%252E%252E", ".."),
            (".", "%252E", "."),
            ("", "%2500", ""),
            ("-", "%252D", "-"),
            ("a\r\nX: y", "a%250D%250AX%253A%2520y", "a%0D%0AX:%20y"),
            ("a?b#c%2e", "a%253Fb%2523c%25252e", "a%3Fb%23c%252e"),
            ("\"}{\\", "%2522%257D%257B%255C", "%22%7D%7B%5C"),
        ] {
            let query = exec(command);
            let filled = path.fill_path(&query);
            assert_eq!(filled, format!("/decisions/exec/{in_path}/-"), "{command:?}");
            let url: reqwest::Url = format!("http://127.0.0.1{filled}").parse().unwrap();
            assert_eq!(url.path(), filled, "the address is as it was written");
            assert_eq!(header.fill_header(&query), format!("command={in_header}"), "{command:?}");
        }
    }

    #[test]
    fn several_groups_stay_apart() {
        let groups = Template::parse("{groups}").unwrap();
        assert_eq!(groups.fill(&exec("ls")), "a,b,dév");
        assert_eq!(groups.fill_header(&exec("ls")), "a%2Cb,d%C3%A9v");
        assert_eq!(groups.fill_path(&exec("ls")), "a%252Cb,d%25C3%25A9v");
    }

    #[test]
    fn a_template_that_means_nothing_is_refused_with_what_would_be_right() {
        for (text, problem) in [
            ("/{place}", "{place}, which is no part of a question: use {subject}, {groups}"),
            ("/{namespace", "a brace without its other one"),
            ("/namespace}", "a brace without its other one"),
            ("/{{namespace}}", "which is no part of a question"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
        assert_eq!(Template::parse("plain").unwrap().fill(&exec("ls")), "plain");
    }
}
