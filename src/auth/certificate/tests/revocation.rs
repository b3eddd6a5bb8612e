//! Revoked by either kind of list. For the binary one, `ssh-keygen -Q` is the judge of what a list means.

use super::*;

#[tokio::test]
async fn a_krl_means_what_ssh_keygen_says_it_means() {
    let desk = Desk::new();
    desk.make_key("bob", &["-t", "ecdsa"]);
    let sign = |ca, key, id, serial| desk.sign_file(ca, key, &["-I", id, "-z", serial, "-n", "any"]);
    let certificates = [
        sign("ca", "alice", "alice", "0"),
        sign("ca", "alice", "alice", "1"),
        sign("ca", "alice", "alice", "7"),
        sign("ca", "alice", "Alice", "10"),
        sign("ca", "bob", "bob", "11"),
        sign("ca", "bob", "bob", "1000"),
        sign("ca", "bob", "bob", "18446744073709551615"),
        sign("other_ca", "alice", "alice", "7"),
        sign("other_ca", "bob", "alice ", "1000"),
    ];
    let [ca, other_ca, alice, bob] = ["ca.pub", "other_ca.pub", "alice.pub", "bob.pub"].map(|name| desk.text(name));
    let sha256 = |key: &str| fingerprint(&desk, key, "sha256");
    // A dense run of serials becomes a bitmap, a sparse one a list, a long one a range.
    let bitmap: String = (0..200).filter(|n| n % 3 != 0).map(|n| format!("serial: {}\n", 990 + n)).collect();
    let several = "serial: 1-10\nid: bob\n";
    let lists: &[(&str, String)] = &[
        ("ca.pub", "serial: 7\n".to_owned()),
        ("ca.pub", "serial: 1-10\n".to_owned()),
        ("ca.pub", "serial: 11-18446744073709551615\n".to_owned()),
        ("ca.pub", "serial: 18446744073709551615\n".to_owned()),
        ("ca.pub", bitmap.clone()),
        ("ca.pub", "id: alice\n".to_owned()),
        ("ca.pub", several.to_owned()),
        ("other_ca.pub", several.to_owned()),
        ("none", several.to_owned()),
        ("none", bitmap),
        ("none", format!("key: {alice}")),
        ("none", format!("key: {ca}")),
        ("none", format!("sha1: {bob}")),
        ("none", format!("sha256: {alice}sha256: {other_ca}")),
        ("none", format!("hash: {}\n", sha256("bob"))),
        ("none", "# nothing\n".to_owned()),
        ("ca.pub", format!("{alice}serial: 1000\n")),
    ];
    for (ca, specification) in lists {
        std::fs::write(desk.path("specification"), specification).expect("written");
        desk.ssh_keygen(&["-q", "-k", "-f", "krl", "-s", ca, "-z", "42", "specification"]);
        let krl = krl::Krl::parse(&std::fs::read(desk.path("krl")).expect("a list")).expect("it parses");
        assert_eq!(krl.version(), 42);
        for path in &certificates {
            let name = path.to_str().expect("a path in ASCII");
            let judged = desk.try_ssh_keygen(&["-Q", "-f", "krl", name]);
            let output = String::from_utf8_lossy(&judged.stdout);
            assert!(output.contains("REVOKED") || output.contains(": ok"), "{judged:?}");
            let ours = krl.revokes(&Marks::of(&read(path)));
            assert_eq!(ours.is_some(), output.contains("REVOKED"), "{ca} {specification}: {output} but {ours:?}");
        }
    }
}

#[tokio::test]
async fn a_list_that_is_updated_keeps_what_it_revoked() {
    let desk = Desk::new();
    for (number, specification) in [(1, "serial: 7\n"), (2, "id: mallory\n")] {
        std::fs::write(desk.path("specification"), specification).expect("written");
        let update: &[&str] = if number == 1 { &[] } else { &["-u"] };
        desk.ssh_keygen(&[&["-q", "-k", "-f", "krl", "-s", "ca.pub"], update, &["specification"]].concat());
    }
    let verifier = open_verifier(&config::Certificate { revocation_lists: vec![desk.path("krl")], ..desk.config() });
    let refusal = verifier.verify(&desk.sign_alice(&[]), presented()).expect_err("revoked");
    assert_eq!(refusal.code(), "certificate_revoked");
    assert!(refusal.to_string().starts_with("its serial is revoked by "), "{refusal}");
    assert_eq!(outcome(&verifier, &desk.sign_alice(&["-I", "mallory", "-z", "8"]), presented()), "certificate_revoked");
    assert_eq!(outcome(&verifier, &desk.sign_alice(&["-z", "8"]), presented()), "believed");
}

#[tokio::test]
async fn the_plain_file_revokes_by_serial_and_key_id() {
    let desk = Desk::new();
    std::fs::write(desk.path("revoked"), "# lost\nserial: 7\nserial: 20-29\nid: mallory\nserial: 0\n")
        .expect("written");
    let verifier = open_verifier(&config::Certificate { revoked_file: Some(desk.path("revoked")), ..desk.config() });
    for (id, serial, code) in [
        ("alice", "7", "certificate_revoked"),
        ("alice", "8", "believed"),
        ("alice", "20", "certificate_revoked"),
        ("alice", "29", "certificate_revoked"),
        ("alice", "30", "believed"),
        ("alice", "0", "certificate_revoked"),
        ("mallory", "99", "certificate_revoked"),
        ("Mallory", "99", "believed"),
    ] {
        let certificate = desk.sign_alice(&["-I", id, "-z", serial]);
        assert_eq!(outcome(&verifier, &certificate, presented()), code, "{id} {serial}");
    }
}

/// `SHA256:…` as `ssh-keygen -l` prints it.
fn fingerprint(desk: &Desk, key: &str, hash: &str) -> String {
    let output = desk.ssh_keygen(&["-l", "-E", hash, "-f", &format!("{key}.pub")]);
    let line = String::from_utf8(output.stdout).expect("text");
    line.split(' ').nth(1).expect("a fingerprint").to_owned()
}
