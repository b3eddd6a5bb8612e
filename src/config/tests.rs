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
