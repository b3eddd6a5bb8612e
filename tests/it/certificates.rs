//! Who is let in: certificates made by `ssh-keygen`, each refused for its own reason, which the client does not learn.

use std::fs;

use crate::house::{House, Plan, finish, keygen, text};

/// A house whose revocation lists are in place, empty.
fn house() -> House {
    let house = House::build(Plan {
        config: r#"
            [certificate]
            accepted-principals = ["dev", "ops"]
            revocation-lists = ["revoked.krl"]
            revoked-file = "revoked.txt"
        "#
        .to_owned(),
        before: Some(Box::new(|folder| {
            fs::write(folder.join("revoked.txt"), "serial: 66\n").expect("writable");
            fs::write(folder.join("spec"), "serial: 77\nid: mallory\n").expect("writable");
            keygen(folder, &["-q", "-k", "-f", "revoked.krl", "-s", "user_ca.pub", "spec"]);
        })),
        ..Plan::default()
    });
    keygen(house.folder(), &["-q", "-t", "ed25519", "-N", "", "-f", "other_ca"]);
    house
}

/// Makes a key `name` with a certificate, signed as `options` say, and tries it.
fn attempt(house: &House, name: &str, ca: &str, options: &[&str]) -> std::process::Output {
    keygen(house.folder(), &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name]);
    let public = format!("{name}.pub");
    keygen(house.folder(), &[&["-q", "-s", ca], options, &[public.as_str()]].concat());
    try_key(house, name)
}

/// Tries a key, with its certificate if it has one beside it.
fn try_key(house: &House, name: &str) -> std::process::Output {
    let mut client = house.client("ssh");
    client.arg("-F").arg("/dev/null");
    let root = house.folder().display().to_string();
    for option in [
        format!("Port={}", house.port),
        "HostKeyAlias=porthole".to_owned(),
        format!("UserKnownHostsFile={root}/known_hosts"),
        "IdentitiesOnly=yes".to_owned(),
        "IdentityAgent=none".to_owned(),
        "BatchMode=yes".to_owned(),
        format!("IdentityFile={root}/{name}"),
    ] {
        client.arg("-o").arg(option);
    }
    finish(client.args(["-l", "demo.web", "127.0.0.1", "echo in"]))
}

#[test]
fn each_bad_certificate_is_refused_for_its_own_reason_and_the_client_hears_one() {
    let house = house();
    let table: &[(&str, &str, &[&str])] = &[
        ("certificate_outside_validity", "user_ca", &["-I", "dev", "-n", "dev", "-V", "20200101:20210101"]),
        ("certificate_outside_validity", "user_ca", &["-I", "dev", "-n", "dev", "-V", "+1d:+2d"]),
        ("certificate_wrong_ca", "other_ca", &["-I", "dev", "-n", "dev", "-V", "+1h"]),
        ("certificate_is_host", "user_ca", &["-h", "-I", "dev", "-n", "dev", "-V", "+1h"]),
        ("certificate_wrong_principal", "user_ca", &["-I", "dev", "-n", "guest", "-V", "+1h"]),
        ("certificate_no_principals", "user_ca", &["-I", "dev", "-V", "+1h"]),
        (
            "certificate_source_address",
            "user_ca",
            &["-I", "dev", "-n", "dev", "-V", "+1h", "-O", "source-address=192.0.2.0/24"],
        ),
        (
            "certificate_unknown_critical_option",
            "user_ca",
            &["-I", "dev", "-n", "dev", "-V", "+1h", "-O", "critical:new@example.com=1"],
        ),
        ("certificate_revoked", "user_ca", &["-I", "dev", "-n", "dev", "-V", "+1h", "-z", "66"]),
        ("certificate_revoked", "user_ca", &["-I", "dev", "-n", "dev", "-V", "+1h", "-z", "77"]),
        ("certificate_revoked", "user_ca", &["-I", "mallory", "-n", "dev", "-V", "+1h"]),
    ];
    let mut answers = Vec::new();
    for (n, (code, ca, options)) in table.iter().enumerate() {
        let name = format!("bad{n}");
        let output = attempt(&house, &name, ca, options);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), String::new()), "{options:?}");
        if options.contains(&"-h") {
            // `ssh` does not offer a host's certificate for a person; the other client does.
            let read = |name: String| fs::read_to_string(house.file(&name)).expect("just made");
            let (key, certificate) = (read(name.clone()), read(format!("{name}-cert.pub")));
            assert!(!crate::hostile::Raw::connect(house.port).log_in_as("demo.web", &key, &certificate));
        }
        let refused =
            house.await_audit("refusal", |event| event["event"] == "login_refused" && event["method"] == "certificate");
        assert_eq!(refused["code"], *code, "{options:?}\n{}", house.log());
        answers.push(text(&output.stderr));
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "the client can tell refusals apart: {answers:#?}");
}

#[test]
fn a_certificate_whose_signature_does_not_match_is_refused() {
    let house = house();
    // `ssh` would not send a certificate whose signature it finds wrong; the other client does.
    let read = |name: &str| fs::read_to_string(house.file(name)).expect("the house has it");
    let mut certificate = read("id_ed25519-cert.pub");
    let blob = certificate.split(' ').nth(1).expect("type, blob, comment").to_owned();
    // A letter of the CA's signature, which stands at the end.
    let at = blob.trim_end_matches('=').len() - 5;
    let other = if blob.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut forged = blob.clone();
    forged.replace_range(at..=at, other);
    certificate = certificate.replace(&blob, &forged);
    let accepted = crate::hostile::Raw::connect(house.port).log_in_as("demo.web", &read("id_ed25519"), &certificate);
    assert!(!accepted, "a forged certificate let somebody in");
    house.await_audit("refusal", |event| event["code"] == "certificate_bad_signature");
}

#[test]
fn a_bare_key_a_password_and_nothing_are_refused() {
    let house = house();
    keygen(house.folder(), &["-q", "-t", "ed25519", "-N", "", "-f", "bare"]);
    assert_eq!(try_key(&house, "bare").status.code(), Some(255));
    house.await_audit("refusal", |event| event["event"] == "login_refused" && event["code"] == "bare_key");

    // `ssh` asks for no password that the server does not offer, so this one speaks for itself.
    let outcome = crate::hostile::Raw::connect(house.port).log_in_with_password("demo.web", "secret");
    assert!(!outcome, "a password let somebody in");
    house.await_audit("refusal", |event| event["event"] == "login_refused" && event["code"] == "password_refused");
    assert!(!fs::read_to_string(house.file("audit.jsonl")).expect("there").contains("secret"));

    let mut client = house.client("ssh");
    client.args(["-o", "PreferredAuthentications=none", "demo.web@porthole", "true"]);
    assert_eq!(finish(&mut client).status.code(), Some(255));
    house.await_audit("refusal", |event| event["event"] == "login_refused" && event["code"] == "no_credential");
}

#[test]
fn what_a_good_certificate_says_is_honoured() {
    let house = house();
    let forced = attempt(
        &house,
        "forced",
        "user_ca",
        &[
            "-I",
            "dev",
            "-n",
            "dev,group:developers",
            "-V",
            "+1h",
            "-O",
            "force-command=echo forced: $SSH_ORIGINAL_COMMAND",
        ],
    );
    assert_eq!(text(&forced.stdout), "forced: echo in\n", "{}", text(&forced.stderr));

    let here = attempt(
        &house,
        "here",
        "user_ca",
        &["-I", "dev", "-n", "dev,group:developers", "-V", "+1h", "-O", "source-address=127.0.0.0/8,::1/128"],
    );
    assert_eq!(text(&here.stdout), "in\n", "{}", text(&here.stderr));

    let clear = ["-I", "dev", "-n", "dev,group:developers", "-V", "+1h", "-O", "clear"];
    let plain = attempt(&house, "clear", "user_ca", &clear);
    assert_eq!(text(&plain.stdout), "in\n", "{}", text(&plain.stderr));
    for (from, to) in
        [("clear", "id_ed25519"), ("clear.pub", "id_ed25519.pub"), ("clear-cert.pub", "id_ed25519-cert.pub")]
    {
        fs::copy(house.file(from), house.file(to)).expect("writable");
    }
    let terminal = finish(house.client("ssh").args(["-tt", "demo.web@porthole", "tty"]));
    assert!(text(&terminal.stderr).contains("PTY allocation request failed"), "{terminal:?}");
    let forward = finish(house.client("ssh").args(["-W", "localhost:8080", "demo.web@porthole"]));
    assert!(!forward.status.success(), "{forward:?}");
}

#[test]
fn a_new_ca_and_a_new_revocation_count_without_a_restart() {
    let house = house();
    let options = ["-I", "dev", "-n", "dev,group:developers", "-V", "+1h", "-z", "5"];
    assert_eq!(attempt(&house, "late", "other_ca", &options).status.code(), Some(255));
    let cas = ["user_ca.pub", "other_ca.pub"].map(|name| fs::read_to_string(house.file(name)).expect("there")).concat();
    house.change("user_ca.pub", &cas);
    assert_eq!(text(&try_key(&house, "late").stdout), "in\n");
    house.change("revoked.txt", "serial: 5\n");
    assert_eq!(try_key(&house, "late").status.code(), Some(255));
    // A list that cannot be read changes nothing: yesterday's is better than none.
    house.change("revoked.txt", "nonsense\n");
    assert_eq!(try_key(&house, "late").status.code(), Some(255));
}

#[test]
fn a_session_ends_with_its_certificate_where_the_configuration_says_so() {
    let house =
        House::build(Plan { config: "[certificate]\nend-session-at-expiry = true\n".to_owned(), ..Plan::default() });
    keygen(
        house.folder(),
        &["-q", "-s", "user_ca", "-I", "dev", "-n", "dev,group:developers", "-V", "-1m:+6s", "id_ed25519.pub"],
    );
    let output = house.ssh("demo.web", "sleep 600");
    assert_eq!(output.status.code(), Some(254));
    assert!(text(&output.stderr).contains("your certificate has ended"), "{}", text(&output.stderr));
}
