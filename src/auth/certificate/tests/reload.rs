//! Files that change while the server runs, and files that are wrong when it starts.

use super::*;

#[tokio::test]
async fn a_new_ca_is_trusted_and_an_old_one_is_not_once_the_file_says_so() {
    let desk = Desk::new();
    std::fs::copy(desk.path("ca.pub"), desk.path("trusted")).expect("copied");
    let config = config::Certificate { trusted_ca_files: vec![desk.path("trusted")], ..desk.config() };
    let (verifier, old, new) = (open_verifier(&config), desk.sign_alice(&[]), desk.sign("other_ca", "alice", ALICE));
    let mut changes = verifier.changes();
    let identity = verifier.verify(&old, presented()).expect("believed");
    assert_eq!(outcome(&verifier, &new, presented()), "certificate_wrong_ca");

    desk.replace("trusted", &format!("# rotation\n{}{}", desk.text("ca.pub"), desk.text("other_ca.pub")));
    settle(&mut changes, || outcome(&verifier, &new, presented()) == "believed").await;
    assert_eq!(outcome(&verifier, &old, presented()), "believed");
    assert_eq!(verifier.still_believes(&identity), Ok(()));

    desk.replace("trusted", &desk.text("other_ca.pub"));
    settle(&mut changes, || outcome(&verifier, &old, presented()) == "certificate_wrong_ca").await;
    assert_eq!(verifier.still_believes(&identity).map_err(|refusal| refusal.code()), Err("certificate_wrong_ca"));
}

#[tokio::test]
async fn an_open_session_learns_that_its_certificate_was_revoked() {
    let desk = Desk::new();
    std::fs::write(desk.path("specification"), "serial: 99\n").expect("written");
    desk.ssh_keygen(&["-q", "-k", "-f", "krl", "-s", "ca.pub", "specification"]);
    std::fs::write(desk.path("revoked"), "# nobody\n").expect("written");
    let verifier = open_verifier(&config::Certificate {
        revocation_lists: vec![desk.path("krl")],
        revoked_file: Some(desk.path("revoked")),
        ..desk.config()
    });
    let mut changes = verifier.changes();
    let alice = verifier.verify(&desk.sign_alice(&[]), presented()).expect("believed");
    let bob = verifier.verify(&desk.sign_alice(&["-I", "bob", "-z", "8"]), presented()).expect("believed");

    desk.replace("revoked", "id: bob\n");
    settle(&mut changes, || verifier.still_believes(&bob).is_err()).await;
    assert_eq!(verifier.still_believes(&alice), Ok(()));

    std::fs::write(desk.path("specification"), "serial: 7\n").expect("written");
    desk.ssh_keygen(&["-q", "-k", "-u", "-f", "krl", "-s", "ca.pub", "specification"]);
    settle(&mut changes, || verifier.still_believes(&alice).is_err()).await;
    assert_eq!(verifier.still_believes(&bob).map_err(|refusal| refusal.code()), Err("certificate_revoked"));
}

#[tokio::test]
async fn a_list_that_breaks_keeps_its_last_good_word_and_holds_up_no_other_file() {
    let desk = Desk::new();
    std::fs::write(desk.path("revoked"), "id: bob\n").expect("written");
    std::fs::copy(desk.path("ca.pub"), desk.path("trusted")).expect("copied");
    let verifier = open_verifier(&config::Certificate {
        trusted_ca_files: vec![desk.path("trusted")],
        revoked_file: Some(desk.path("revoked")),
        ..desk.config()
    });
    let (bob, new) = (desk.sign_alice(&["-I", "bob"]), desk.sign("other_ca", "alice", ALICE));
    let mut changes = verifier.changes();
    desk.replace("revoked", "id bob\n");
    desk.replace("trusted", &format!("{}{}", desk.text("ca.pub"), desk.text("other_ca.pub")));
    settle(&mut changes, || outcome(&verifier, &new, presented()) == "believed").await;
    assert_eq!(outcome(&verifier, &bob, presented()), "certificate_revoked");
}

#[tokio::test]
async fn changes_end_with_the_verifier_rather_than_spin() {
    let desk = Desk::new();
    let verifier = desk.verifier();
    let mut changes = verifier.changes();
    drop(verifier);
    tokio::time::timeout(Duration::from_millis(50), changes.changed()).await.expect_err("nothing more to tell");
}

#[tokio::test]
async fn wrong_files_stop_the_start_and_are_named() {
    let desk = Desk::new();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("comment", b"# no CA\n"),
        ("nonsense", b"nonsense\n"),
        ("binary", b"\xff\xfe\n"),
        ("short.krl", b"SSHKRL\n\0\0\0\0\x01"),
    ] {
        std::fs::write(desk.path(name), bytes).expect("written");
    }
    let good = desk.config();
    let authorities = |name| config::Certificate { trusted_ca_files: vec![desk.path(name)], ..good.clone() };
    let lists = |name| config::Certificate { revocation_lists: vec![desk.path(name)], ..good.clone() };
    let plain = |name| config::Certificate { revoked_file: Some(desk.path(name)), ..good.clone() };
    for (config, name, says) in [
        (authorities("absent"), "absent", "No such file"),
        (authorities("empty"), "empty", "begins with #"),
        (authorities("comment"), "comment", "write the CA's public key"),
        (authorities("nonsense"), "nonsense", "line 1 is no public key"),
        (authorities("binary"), "binary", "UTF-8"),
        (authorities("nowhere/ca.pub"), "nowhere", "No such file"),
        (lists("absent"), "absent", "No such file"),
        (lists("empty"), "empty", "cut short"),
        (lists("nonsense"), "nonsense", "ssh-keygen -k"),
        (lists("short.krl"), "short.krl", "cut short"),
        (plain("empty"), "empty", "begins with #"),
        (plain("nonsense"), "nonsense", "line 1 is no revocation"),
    ] {
        let error = match Verifier::open(&config, None) {
            Ok(_) => panic!("{name} was taken"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(name) && error.contains(says), "{name}: {error}");
    }
}

/// Waits for changes until `done`; a file's change can be told more than once.
async fn settle(changes: &mut Changes, done: impl Fn() -> bool) {
    let settled = async {
        while !done() {
            changes.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled).await.expect("the change is seen");
}
