//! What is signed, as `ssh-keygen` and the verifier read it; and the lines that are no keys.

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIILq1qB6rSvJmdGqgb1qvPqiuYnHxYWjNGWdqzYN0yHq";

#[test]
fn a_plain_key_is_read_with_its_comment_cut() {
    let line = format!("\n {KEY} {}\r\n", "me".repeat(500));
    let key = parse_public_key(line.as_bytes()).expect("a key");
    assert_eq!(key.comment().as_str_lossy().chars().count(), 128);
    assert!(parse_public_key(KEY.as_bytes()).is_ok());
}

#[test]
fn what_is_no_plain_strong_key_is_told_what_it_is() {
    let certificate = "ssh-ed25519-cert-v01@openssh.com AAAA me";
    let weak = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAwEAAQ==";
    for (sent, code) in [
        (b"".as_slice(), "no_key"),
        (b"\n \n", "no_key"),
        (b"\xff\xfe", "key_malformed"),
        (b"GET / HTTP/1.1", "key_malformed"),
        (b"ssh-ed25519", "key_malformed"),
        (b"ssh-ed25519 AAAA", "key_malformed"),
        (b"from=\"*\" ssh-ed25519 AAAA", "key_malformed"),
        (format!("{KEY}\x07").as_bytes(), "key_malformed"),
        (format!("{KEY}\0").as_bytes(), "key_malformed"),
        (format!("{KEY}AAAA").as_bytes(), "key_malformed"),
        (format!("{KEY}\n{KEY}").as_bytes(), "many_keys"),
        (certificate.as_bytes(), "key_is_certificate"),
        (weak.as_bytes(), "key_weak"),
        (b"ssh-dss AAAAB3NzaC1kc3MAAAABBwAAAAEHAAAAAQcAAAABBw==", "key_weak"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "private_key"),
        (&vec![b'a'; PUBLIC_KEY_MAX_BYTES + 1], "key_too_long"),
    ] {
        let error = parse_public_key(sent).expect_err(&String::from_utf8_lossy(sent));
        assert_eq!(IssueError::Key(error).code(), code, "{}", String::from_utf8_lossy(sent));
    }
}
