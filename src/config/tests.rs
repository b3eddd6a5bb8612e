//! What a configuration may not say.

use super::*;

/// `keepalive-interval = "0s"` ended every connection, `rekey-interval = "0s"` hung it.
#[test]
fn a_duration_in_which_nothing_could_work_is_refused_with_its_key() {
    for key in [
        "ssh.login-deadline",
        "ssh.keepalive-interval",
        "ssh.rekey-interval",
        "authorize.deadline",
        "cluster.connect-timeout",
        "cluster.request-timeout",
        "session.start-deadline",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("porthole.toml");
        let load = |value: &str| {
            let ca = "certificate.trusted-ca-files = [\"ca\"]";
            std::fs::write(&file, format!("{ca}\n{key} = \"{value}\"\n")).unwrap();
            Config::load(&file)
        };
        for short in ["0s", "999ms"] {
            let error = load(short).unwrap_err().to_string();
            assert!(error.contains(&format!("{key}: is too short")) && error.ends_with("use 1s or more"), "{error}");
        }
        load("1s").unwrap();
    }
}

/// A certificate is public, and so is the token in it: where that logged in by itself, whoever had seen one could.
#[test]
fn an_audience_of_pk_tokens_is_no_audience_of_logins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("porthole.toml");
    let load = |certificate: &str| {
        let issuer = "[issuers.company]\nurl = \"https://login.example.com\"\naudiences = [\"porthole\"]\n";
        std::fs::write(&file, format!("{issuer}[certificate]\n{certificate}\n")).unwrap();
        Config::load(&file).map_err(|error| error.to_string())
    };
    for (certificate, problem) in [
        ("pk-token-issuers = [\"company\"]", "pk-token-audiences: names none"),
        ("pk-token-issuers = [\"company\"]\npk-token-audiences = [\"\"]", "pk-token-audiences: names none"),
        ("pk-token-issuers = [\"other\"]\npk-token-audiences = [\"opkssh\"]", "`other` is no issuer"),
        ("pk-token-issuers = [\"company\"]\npk-token-audiences = [\"opkssh\", \"porthole\"]", "`porthole` is one of"),
        ("pk-token-max-age = \"0s\"", "pk-token-max-age: is too short"),
    ] {
        let error = load(certificate).unwrap_err();
        assert!(error.contains(problem), "{certificate}: {error}");
    }
    load("pk-token-issuers = [\"company\"]\npk-token-audiences = [\"opkssh\"]").unwrap();
}
