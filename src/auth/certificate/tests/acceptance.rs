//! Who is believed, and the reason for each who is not.

use russh::keys::PublicKey;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::encoding::Decode as _;

use super::*;
use crate::config::CertificateSubject;

/// From an `ssh-keygen` that could still make such keys.
const DSA_KEY: &str = "ssh-dss AAAAB3NzaC1kc3MAAACBAN9E3Y6Vc+Qpo0OHI5dI49JVU7aKh+KWU7MxzwlDDXB0xuBpH2O8JnczlbFnHvED7Ssut+ewBEQPyRdIVLUQPvMbVGO/FNueHGsR1V4iUHjymgopOTCEfSCOB5iNM27iheiWUjXjhE19WhA6TK/A4iP+thJ2W8Oiq6KNl3xVWiDHAAAAFQCBK5tF7P89hk4yzVpsLUJEcCtljwAAAIEApCunLt3npV1YWkNvC1goFKY/ln3t8wkQjK6y371SXwr3ympr1WTmLU7O5a1xnoi2RyBZLT7MWQ00IqUjqetdbhu+8yATEgUnJsR/esbjAMLju5HAP5R2phcfpHO6rJTcWhE9j0FxGnL7Ao3ouZ6cWhBrYU3R3MteSjefDvGzlhIAAACBALAxQQBo+4kRMrEIH0IE3TdxA/KwRjXiVz8uU/ToG+CZdnAoiciDi1zn9i/ZYhD6999nxVJTzjtdmPT60ZOhaVWO0xWgmVZuS237Tg0HVmwnSemE2wmXNbJhp+TdxQlptWZlswzMcZz6oV10qPaYdqvuXh/5+jFlMqWsxrdO4kc7";

#[tokio::test]
async fn a_good_certificate_is_the_person_it_names() {
    let desk = Desk::new();
    let certificate = desk.sign_alice(&["-n", "alice,group:payments,group:dev,group:dev", "-V", "-1m:+8h"]);
    let identity = desk.verifier().verify(&certificate, presented()).expect("believed");
    assert_eq!(identity.subject(), "alice");
    assert_eq!(identity.groups(), ["dev", "payments"]);
    assert_eq!(identity.method(), Method::Certificate);
    let ca = desk.private_key("ca").public_key().fingerprint(HashAlg::Sha256);
    assert_eq!(identity.credential(), format!("key id \"alice\", serial 7, CA {ca}"));
    assert_eq!(identity.valid_until().map(|until| until.as_second() as u64), Some(certificate.valid_before()));
    assert_eq!(identity.force_command(), None);
    let rights = identity.rights();
    assert!(rights.pty && rights.port_forwarding && rights.agent_forwarding, "ssh-keygen's defaults: {rights:?}");
}

#[tokio::test]
async fn extensions_give_rights_and_only_those_they_name() {
    let desk = Desk::new();
    let verifier = desk.verifier();
    for (arguments, pty, port, agent) in [
        (&["-O", "clear"][..], false, false, false),
        (&["-O", "clear", "-O", "permit-pty"], true, false, false),
        (&["-O", "no-port-forwarding"], true, false, true),
        (&["-O", "no-agent-forwarding", "-O", "extension:x@corp=y"], true, true, false),
    ] {
        let rights = verifier.verify(&desk.sign_alice(arguments), presented()).expect("believed").rights();
        assert_eq!((rights.pty, rights.port_forwarding, rights.agent_forwarding), (pty, port, agent), "{arguments:?}");
    }
}

#[tokio::test]
async fn each_fault_has_its_own_code() {
    let desk = Desk::new();
    desk.make_key("short", &["-t", "rsa", "-b", "1024"]);
    desk.make_key("rsa_ca", &["-t", "rsa", "-b", "2048"]);
    let mut config = desk.config();
    config.trusted_ca_files.push(desk.path("rsa_ca.pub"));
    config.accepted_principals = vec!["alice".to_owned(), "dba".to_owned()];
    config.max_lifetime = Duration::from_secs(24 * 3600);
    let verifier = open_verifier(&config);
    let alice = |ca, arguments: &[&str]| desk.sign(ca, "alice", &[ALICE, &["-V", "-1m:+1h"], arguments].concat());

    let good = alice("ca", &[]);
    assert_eq!(outcome(&verifier, &good, presented()), "believed");
    let table = [
        ("certificate_wrong_ca", alice("other_ca", &[])),
        ("certificate_is_host", alice("ca", &["-h"])),
        ("certificate_expired", alice("ca", &["-V", "-2h:-1h"])),
        ("certificate_not_yet_valid", alice("ca", &["-V", "+1h:+2h"])),
        ("certificate_lifetime_too_long", alice("ca", &["-V", "-1m:+25h"])),
        ("certificate_lifetime_too_long", alice("ca", &["-V", "-1m:forever"])),
        ("certificate_lifetime_too_long", alice("ca", &["-V", "always:+1h"])),
        ("certificate_wrong_principal", alice("ca", &["-n", "bob,group:payments"])),
        ("certificate_no_principals", desk.sign("ca", "alice", &["-I", "alice", "-V", "-1m:+1h"])),
        ("certificate_source_address", alice("ca", &["-O", "source-address=10.0.0.0/8,2001:db8::/32"])),
        ("certificate_unknown_critical_option", alice("ca", &["-O", "critical:x@corp=y"])),
        ("certificate_verify_required", alice("ca", &["-O", "verify-required"])),
        ("certificate_no_subject", alice("ca", &["-I", ""])),
        ("certificate_no_subject", alice("ca", &["-I", "ali\u{1b}[2Jce"])),
        ("certificate_no_subject", alice("ca", &["-I", "ali\u{202e}ce"])),
        ("certificate_no_subject", alice("ca", &["-I", " alice"])),
        ("certificate_no_subject", alice("ca", &["-I", &"a".repeat(257)])),
        ("certificate_bad_group", alice("ca", &["-n", "alice,group:"])),
        ("certificate_bad_group", alice("ca", &["-n", "alice,group:a\nb"])),
        ("certificate_algorithm", alice("rsa_ca", &["-t", "ssh-rsa"])),
        ("certificate_algorithm", desk.sign("ca", "short", &[ALICE, &["-V", "-1m:+1h"]].concat())),
        ("certificate_bad_signature", tampered(&good)),
        ("believed", alice("rsa_ca", &["-t", "rsa-sha2-256"])),
        ("believed", alice("rsa_ca", &["-t", "rsa-sha2-512"])),
        ("believed", alice("ca", &["-n", "dba"])),
        ("believed", alice("ca", &["-O", "source-address=192.0.2.0/24"])),
        ("believed", alice("ca", &["-I", &"a".repeat(256)])),
    ];
    for (code, certificate) in &table {
        let verdict = verifier.verify(certificate, presented());
        let detail = verdict.as_ref().map_or_else(Refusal::to_string, |identity| identity.credential().to_owned());
        assert_eq!(outcome(&verifier, certificate, presented()), *code, "{detail}");
        assert!(!detail.chars().any(char::is_control), "{detail:?}");
        assert!(detail.contains("CA SHA256:"), "{detail}");
    }
}

/// What `ssh-keygen` will not sign, a CA of one's own might.
#[tokio::test]
async fn certificates_that_ssh_keygen_would_not_make_are_refused() {
    let desk = Desk::new();
    let (verifier, ca, alice) = (desk.verifier(), desk.private_key("ca"), desk.private_key("alice"));
    let now = Timestamp::now().as_second() as u64;
    let builder = |from, until| {
        let mut builder = Builder::new(vec![7; 32], alice.public_key().key_data().clone(), from, until).expect("dates");
        builder.key_id("alice").expect("a key id").serial(7).expect("a serial");
        builder
    };
    let signed = |change: &dyn Fn(&mut Builder)| {
        let mut builder = builder(now - 60, now + 3600);
        builder.valid_principal("alice").expect("a principal");
        change(&mut builder);
        builder.sign(&ca).expect("signed")
    };
    let option = |name: &'static str, value: &str| {
        signed(&|builder| {
            builder.critical_option(name, value).expect("an option");
        })
    };
    let mut dsa = builder(now - 60, now + 3600);
    dsa.valid_principal("alice").expect("a principal");

    assert_eq!(outcome(&verifier, &signed(&|_| ()), presented()), "believed");
    for (code, certificate) in [
        ("certificate_source_address_malformed", option("source-address", "")),
        ("certificate_source_address_malformed", option("source-address", "192.0.2.0/24,nonsense")),
        ("certificate_source_address_malformed", option("source-address", "!192.0.2.0/24,0.0.0.0/0")),
        ("certificate_force_command", option("force-command", "")),
        ("certificate_force_command", option("force-command", "a\0b")),
        ("certificate_unknown_critical_option", option("no-touch-required", "")),
        ("certificate_unknown_critical_option", option("\u{1b}]0;owned\u{7}", "")),
        (
            "certificate_too_many_principals",
            signed(&|builder| {
                for number in 0..256 {
                    builder.valid_principal(format!("group:{number}")).expect("a principal");
                }
            }),
        ),
    ] {
        let refusal = verifier.verify(&certificate, presented()).expect_err(code);
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(!refusal.to_string().chars().any(char::is_control), "{refusal:?}");
    }
    let forced = option("force-command", "uptime");
    assert_eq!(verifier.verify(&forced, presented()).expect("believed").force_command(), Some("uptime"));
}

#[tokio::test]
async fn a_certificate_without_a_moment_of_validity_is_refused_even_within_the_allowance() {
    let desk = Desk::new();
    let (verifier, good) = (desk.verifier(), desk.sign_alice(&["-V", "-1m:+1h"]));
    let mut bytes = good.to_bytes().expect("bytes");
    // The two dates stand one after the other; the later becomes the earlier.
    let (from, until) = (good.valid_after().to_be_bytes(), good.valid_before().to_be_bytes());
    let at = position(&bytes, &[from, until].concat());
    bytes.splice(at + 8..at + 16, from);
    let never = Certificate::decode(&mut bytes.as_slice()).expect("it parses");
    assert_eq!(outcome(&verifier, &never, presented()), "certificate_never_valid");
}

#[tokio::test]
async fn a_dsa_key_is_refused_whoever_vouches_for_it() {
    let desk = Desk::new();
    let key = PublicKey::from_openssh(DSA_KEY).expect("a DSA key");
    let mut builder = Builder::new(vec![7; 32], key.key_data().clone(), 0, u64::MAX).expect("dates");
    builder.key_id("alice").expect("a key id").valid_principal("alice").expect("a principal");
    let certificate = builder.sign(&desk.private_key("ca")).expect("signed");
    assert_eq!(outcome(&desk.verifier(), &certificate, presented()), "certificate_algorithm");
}

#[tokio::test]
async fn validity_holds_from_its_first_moment_to_before_its_last_widened_by_the_allowance() {
    let desk = Desk::new();
    let certificate = desk.sign_alice(&["-V", "20260301080000:20260301160000"]);
    let from: Timestamp = "2026-03-01T08:00:00Z".parse().expect("a time");
    let until: Timestamp = "2026-03-01T16:00:00Z".parse().expect("a time");
    for seconds in [0, 30] {
        let verifier =
            open_verifier(&config::Certificate { clock_skew: Duration::from_secs(seconds), ..desk.config() });
        let skew = i64::try_from(seconds).expect("few").seconds();
        for (now, code) in [
            (from - skew - 1.nanosecond(), "certificate_not_yet_valid"),
            (from - skew, "believed"),
            (from, "believed"),
            (until - 1.nanosecond(), "believed"),
            (until + skew - 1.nanosecond(), "believed"),
            (until + skew, "certificate_expired"),
            (Timestamp::MIN, "certificate_not_yet_valid"),
            (Timestamp::MAX, "certificate_expired"),
        ] {
            assert_eq!(outcome(&verifier, &certificate, Presented { now, ..presented() }), code, "{now}");
        }
    }
}

#[tokio::test]
async fn forever_does_not_end() {
    let desk = Desk::new();
    let certificate = desk.sign_alice(&["-V", "always:forever"]);
    for now in [Timestamp::UNIX_EPOCH, Timestamp::now(), Timestamp::MAX] {
        let identity = desk.verifier().verify(&certificate, Presented { now, ..presented() }).expect("believed");
        assert_eq!(identity.valid_until(), None);
    }
}

#[tokio::test]
async fn an_ipv4_peer_on_an_ipv6_socket_is_held_to_its_ipv4_address() {
    let desk = Desk::new();
    let certificate = desk.sign_alice(&["-O", "source-address=192.0.2.0/24"]);
    let verifier = desk.verifier();
    for (peer, code) in [
        ("192.0.2.9", "believed"),
        ("::ffff:192.0.2.9", "believed"),
        ("::ffff:203.0.113.9", "certificate_source_address"),
        ("2001:db8::1", "certificate_source_address"),
    ] {
        let peer = peer.parse().expect(peer);
        assert_eq!(outcome(&verifier, &certificate, Presented { peer, ..presented() }), code, "{peer}");
    }
}

#[tokio::test]
async fn a_principal_with_the_prefix_names_the_person_if_it_is_the_only_one() {
    let desk = Desk::new();
    let config = config::Certificate { subject: CertificateSubject::Principal, ..desk.config() };
    let verifier = open_verifier(&config);
    let sign = |principals| desk.sign("ca", "alice", &["-I", "laptop 7", "-n", principals]);
    let identity = verifier.verify(&sign("user:alice,group:user:bob,ops"), presented()).expect("believed");
    assert_eq!((identity.subject(), identity.groups()), ("alice", &["user:bob".to_owned()][..]));
    for principals in ["alice", "user:", "user:alice,user:bob", "User:alice", "group:user:alice"] {
        assert_eq!(outcome(&verifier, &sign(principals), presented()), "certificate_no_subject", "{principals}");
    }
}

#[tokio::test]
async fn every_kind_of_key_that_is_strong_enough_works() {
    let desk = Desk::new();
    let verifier = desk.verifier();
    for (number, kind) in [
        &["-t", "ed25519"][..],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
    ]
    .iter()
    .enumerate()
    {
        let name = format!("key{number}");
        desk.make_key(&name, kind);
        assert_eq!(outcome(&verifier, &desk.sign("ca", &name, ALICE), presented()), "believed", "{kind:?}");
        let by_it = open_verifier(&config::Certificate {
            trusted_ca_files: vec![desk.path(&format!("{name}.pub"))],
            ..config::Certificate::default()
        });
        assert_eq!(outcome(&by_it, &desk.sign(&name, "alice", ALICE), presented()), "believed", "CA {kind:?}");
    }
}

#[tokio::test]
async fn a_changed_byte_anywhere_is_never_believed() {
    let desk = Desk::new();
    let (verifier, good) = (desk.verifier(), desk.sign_alice(&[]));
    let bytes = good.to_bytes().expect("bytes");
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut changed = bytes.clone();
            changed.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= flip);
            if let Ok(certificate) = Certificate::decode(&mut changed.as_slice()) {
                assert_ne!(outcome(&verifier, &certificate, presented()), "believed", "byte {at} ^ {flip:#x}");
            }
        }
    }
}

/// The same certificate, of `alicf`.
fn tampered(good: &Certificate) -> Certificate {
    let mut bytes = good.to_bytes().expect("bytes");
    let at = position(&bytes, b"alice");
    bytes.splice(at..at + 5, *b"alicf");
    Certificate::decode(&mut bytes.as_slice()).expect("it parses")
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("the part is in there")
}
