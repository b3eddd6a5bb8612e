//! Authorizers that could not do what they are told to are refused when the configuration is read, with what is right.

use super::{load, shipped};

/// What is said of a configuration: when it is read, or when its authorizers are prepared.
fn said(config: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = match load(folder.path(), config) {
        Ok(config) => config,
        Err(error) => return error.to_string(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let opened = runtime.block_on(async { porthole::authorize::open(&config, None).map(drop) });
    opened.map_or_else(|error| error.to_string(), |()| "nothing".to_owned())
}

fn opa(name: &str, more: &str) -> String {
    format!("[authorizers.{name}]\ntype = \"opa\"\nserver.url = \"https://opa.example.com\"\n{more}\n")
}

#[test]
fn deadlines_fit_into_each_other() {
    let all = "[authorize]\nask = [\"one\", \"two\"]\n";
    let first = "[authorize]\nask = [\"one\", \"two\"]\ncombine = \"first\"\n";
    let (one, two) = (opa("one", ""), opa("two", "limits.deadline = \"2s\""));
    let of_all = said(&format!("{all}{one}{two}"));
    assert!(of_all.contains("authorize.deadline: is 2s, but `two` alone takes up to 2s"), "{of_all}");
    let of_both = said(&format!("{first}{one}{}", opa("two", "")));
    assert!(of_both.contains("one after the other, its authorizers take up to 2s: make it longer"), "{of_both}");
    assert_eq!(said(&format!("{all}deadline = \"3s\"\n{one}{two}")), "nothing");
    assert_eq!(said(&format!("{first}deadline = \"3s\"\n{one}{}", opa("two", ""))), "nothing");
}

#[test]
fn what_could_not_be_meant_is_refused() {
    let ask = "authorize.ask = [\"it\"]\n[authorizers.it]\n";
    let server = "server.url = \"https://it.example.com\"\n";
    for (config, problem) in [
        ("type = \"opa\"".to_owned(), "server.url is missing"),
        ("type = \"opa\"\nserver.url = \"http://opa.example.com\"".to_owned(), "is not encrypted: use https"),
        ("type = \"opa\"\nserver.url = \"opa.example.com\"".to_owned(), "is no server: write it as in"),
        (format!("type = \"opa\"\n{server}server.key = \"key\""), "server.certificate and server.key go together"),
        (format!("type = \"opa\"\n{server}server.ca-file = \"none\""), "none: "),
        (format!("type = \"opa\"\n{server}path = \"v1\""), "must begin with a slash"),
        (format!("type = \"opa\"\n{server}limits.breaker-failures = 0"), "so nobody would ever be asked"),
        ("type = \"rego\"".to_owned(), "names neither `files` nor a `bundle`"),
        ("type = \"rego\"\nfiles = [\"policy.txt\"]".to_owned(), "policy.txt is no policy: name .rego"),
        (format!("type = \"rego\"\nfiles = [{:?}]", shipped("rego/data.json")), "it holds no module in Rego"),
        (format!("type = \"oathkeeper\"\n{server}path = \"/x/{{place}}\""), "{place}, which is no part of a question"),
        (format!("type = \"oathkeeper\"\n{server}path = \"/x/../{{pod}}\""), "is no plain path"),
        (format!("type = \"oathkeeper\"\n{server}path = \"/x?{{pod}}\""), "is no plain path"),
        (format!("type = \"oathkeeper\"\n{server}headers.Host = \"x\""), "is not for templates"),
        (format!("type = \"oathkeeper\"\n{server}headers.\"a b\" = \"x\""), "is no name of a header"),
        (format!("type = \"oathkeeper\"\n{server}headers.x = \"a\\nb\""), "has control characters"),
        (format!("type = \"oathkeeper\"\npass-token = true\n{server}server.token-file = \"x\""), "would be one header"),
        (format!("type = \"namespaces\"\n{server}server.token-file = \"x\""), "would be one header"),
        (format!("type = \"namespaces\"\ncredential = \"signed-identity\"\n{server}"), "needs a `signing-key`"),
        (
            format!(
                "type = \"namespaces\"\ncredential = \"signed-identity\"\nsigning-key = {:?}\n{server}",
                shipped("policy.toml")
            ),
            "is no private key for Ed25519 or P-256",
        ),
        (format!("type = \"webhook\"\n{server}hmac-key-file = \"/dev/null\""), "has fewer than 32 bytes"),
        (format!("type = \"webhook\"\n{server}secret = \"x\""), "unknown field `secret`"),
    ] {
        let said = said(&format!("{ask}{config}\n"));
        assert!(said.contains(problem), "{config}\n{said}");
    }
}
