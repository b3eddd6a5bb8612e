//! The configuration's reference against the code: every key, and every default.

use porthole::config::authorize::{AccessReview, Namespaces, Oathkeeper, Opa, Rego, Webhook};
use porthole::config::{Authorizer, Config, Issuer, profile};

/// Keys that have no default, because nothing stands for them.
const NO_DEFAULT: [&str; 32] = [
    "http.address",
    "http.client-address-header",
    "http.certificate",
    "http.key",
    "http.client-ca",
    "ssh.public-address",
    "certificate.revoked-file",
    "certificate-authority.agent-socket",
    "issuers.company.ca-file",
    "device.issuer",
    "device.client-secret-file",
    "device.bindings-namespace",
    "authorizers.opa.batch-path",
    "authorizers.opa.server.url",
    "authorizers.opa.server.ca-file",
    "authorizers.opa.server.certificate",
    "authorizers.opa.server.key",
    "authorizers.opa.server.token-file",
    "authorizers.rego.bundle.url",
    "authorizers.oathkeeper.server.url",
    "authorizers.namespaces.signing-key",
    "authorizers.namespaces.server.url",
    "authorizers.webhook.hmac-key-file",
    "authorizers.webhook.server.url",
    "cluster.kubeconfig",
    "cluster.context",
    "profiles.general.image-pull-policy",
    "profiles.general.shell",
    "profiles.general.user",
    "profiles.general.group",
    "audit.file",
    "recording.folder",
];

fn reference() -> toml::Table {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/porthole.toml")).expect("it is there");
    // `#key = value` is a default; `## ` is prose.
    let lines = text.lines().filter(|line| !line.starts_with("##"));
    lines.map(|line| line.strip_prefix('#').unwrap_or(line)).collect::<Vec<_>>().join("\n").parse().expect("TOML")
}

fn flatten(prefix: &str, table: &toml::Table, into: &mut std::collections::BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            // An empty table is a value of a key, but a section without keys is nothing.
            toml::Value::Table(inner) if prefix.is_empty() || !inner.is_empty() => flatten(&path, inner, into),
            value => drop(into.insert(path, value.clone())),
        }
    }
}

#[test]
fn the_reference_has_every_key_with_its_default_and_no_other() {
    let mut config = Config::default();
    config.profiles.insert("general".to_owned(), profile::presets().remove("general").expect("a preset"));
    let company = Issuer {
        url: "https://login.example.com".to_owned(),
        audiences: vec!["porthole".to_owned()],
        ..Issuer::default()
    };
    config.issuers.insert("company".to_owned(), company);
    for (name, authorizer) in [
        ("opa", Authorizer::Opa(Opa::default())),
        ("rego", Authorizer::Rego(Rego::default())),
        ("oathkeeper", Authorizer::Oathkeeper(Oathkeeper::default())),
        ("namespaces", Authorizer::Namespaces(Namespaces::default())),
        ("webhook", Authorizer::Webhook(Webhook::default())),
        ("cluster", Authorizer::AccessReview(AccessReview::default())),
    ] {
        config.authorizers.insert(name.to_owned(), authorizer);
    }
    let code: toml::Table = toml::from_str(&toml::to_string(&config).expect("it serializes")).expect("TOML");
    let (mut in_code, mut in_reference) = Default::default();
    flatten("", &code, &mut in_code);
    let is_no_address = |key: &str, value: &toml::Value| key.ends_with(".server.url") && value.as_str() == Some("");
    in_code.retain(|key, value| !is_shown_before(key) && !is_no_address(key, value));
    flatten("", &reference(), &mut in_reference);
    for key in NO_DEFAULT {
        assert!(in_reference.remove(key).is_some(), "{key} is not documented");
    }
    let text = |value: Option<&toml::Value>| value.map(ToString::to_string);
    for key in in_code.keys().chain(in_reference.keys()) {
        let (documented, coded) = (in_reference.get(key), in_code.get(key));
        let same = match (documented, coded) {
            (Some(documented), Some(coded)) => {
                documented == coded || duration(documented) == duration(coded) && duration(coded).is_some()
            }
            _ => false,
        };
        assert!(same, "{key}: config/porthole.toml has {:?}, the code {:?}", text(documented), text(coded));
    }
}

fn duration(value: &toml::Value) -> Option<jiff::SignedDuration> {
    value.as_str()?.parse().ok()
}

/// Limits are the same for each authorizer, and shown with the first one.
fn is_shown_before(key: &str) -> bool {
    key.starts_with("authorizers.") && key.contains(".limits.") && !key.starts_with("authorizers.opa.")
}

#[test]
fn the_reference_itself_is_a_configuration() {
    let text = toml::to_string(&reference()).expect("TOML");
    toml::from_str::<Config>(&text).expect("every key is known");
}
