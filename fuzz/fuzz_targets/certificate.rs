//! No certificate makes the checks panic, and whoever is believed is somebody: signed by the trusted CA, within its dates,
//! with no restriction that is not understood, and with a name that prints.
//!
//! Half of the inputs are a certificate's bytes as a stranger would send them. As hardly any of those is signed, the other
//! half are what a trusted CA with odd habits would sign.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use porthole::auth::certificate::{Presented, Verifier};
use porthole::config;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::encoding::Decode as _;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Sent(&'a [u8]),
    Signed(Signed<'a>),
}

#[derive(Debug, Arbitrary)]
struct Signed<'a> {
    peer: IpAddr,
    now: i64,
    host: bool,
    by_another: bool,
    serial: u64,
    dates: Dates,
    key_id: &'a str,
    principals: Vec<&'a str>,
    person: Option<&'a str>,
    group: Option<&'a str>,
    source_address: Option<&'a str>,
    force_command: Option<&'a str>,
    critical: Option<(&'a str, &'a str)>,
    extension: Option<(&'a str, &'a str)>,
}

/// In seconds. Two numbers out of the blue hardly ever lie around a third, so most are near it.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Dates {
    Near { ago: i8, lifetime: u8 },
    Since { ago: u32 },
    Any { from: u64, until: u64 },
}

impl Dates {
    fn around(self, now: i64) -> Option<(u64, u64)> {
        match self {
            Dates::Near { ago, lifetime } => {
                let from = u64::try_from(now.checked_sub(i64::from(ago))?).ok()?;
                Some((from, from.checked_add(u64::from(lifetime))?))
            }
            Dates::Since { ago } => Some((u64::try_from(now.checked_sub(i64::from(ago))?).ok()?, u64::MAX)),
            Dates::Any { from, until } => Some((from, until)),
        }
    }
}

const SKEW_SECONDS: i128 = 30;

static CA: LazyLock<PrivateKey> = LazyLock::new(|| key(1));

/// One that takes the person from the key id, and one from a principal.
static VERIFIERS: LazyLock<[Verifier; 2]> = LazyLock::new(|| {
    let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new().expect("a runtime")));
    let _guard = runtime.enter();
    let folder = tempfile::tempdir().expect("a folder").keep();
    let (trusted, revoked) = (folder.join("ca.pub"), folder.join("revoked"));
    std::fs::write(&trusted, CA.public_key().to_openssh().expect("a line")).expect("written");
    std::fs::write(&revoked, "serial: 7\nid: mallory\n").expect("written");
    [config::CertificateSubject::KeyId, config::CertificateSubject::Principal].map(|subject| {
        let config = config::Certificate {
            trusted_ca_files: vec![trusted.clone()],
            revoked_file: Some(revoked.clone()),
            subject,
            ..config::Certificate::default()
        };
        Verifier::open(&config, None).expect("good files")
    })
});

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").expect("an Ed25519 key")
}

fn sign(input: &Signed<'_>) -> Option<Certificate> {
    let (from, until) = input.dates.around(input.now)?;
    let holder = key(2).public_key().key_data().clone();
    let mut builder = Builder::new(vec![7; 32], holder, from, until).ok()?;
    builder.serial(input.serial).ok()?.key_id(input.key_id).ok()?;
    builder.cert_type(if input.host { CertType::Host } else { CertType::User }).ok()?;
    for principal in &input.principals {
        builder.valid_principal(*principal).ok()?;
    }
    if let Some(person) = input.person {
        builder.valid_principal(format!("user:{person}")).ok()?;
    }
    if let Some(group) = input.group {
        builder.valid_principal(format!("group:{group}")).ok()?;
    }
    if input.principals.is_empty() && input.person.is_none() && input.group.is_none() {
        builder.all_principals_valid().ok()?;
    }
    let named = [("force-command", input.force_command), ("source-address", input.source_address)];
    for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value?))).chain(input.critical) {
        builder.critical_option(name, value).ok()?;
    }
    if let Some((name, value)) = input.extension {
        builder.extension(name, value).ok()?;
    }
    let signer = if input.by_another { key(3) } else { CA.clone() };
    builder.sign(&signer).ok()
}

fn check(certificate: &Certificate, presented: Presented, signed: bool) {
    for verifier in VERIFIERS.iter() {
        match verifier.verify(certificate, presented) {
            Ok(identity) => {
                assert!(signed, "believed without the CA's signature");
                assert_eq!(certificate.signature_key(), CA.public_key().key_data());
                assert!(certificate.cert_type().is_user() && !certificate.valid_principals().is_empty());
                let (now, billion) = (presented.now.as_nanosecond(), 1_000_000_000);
                assert!(now >= (i128::from(certificate.valid_after()) - SKEW_SECONDS) * billion);
                let until = i128::from(certificate.valid_before());
                assert!(certificate.valid_before() == u64::MAX || now < (until + SKEW_SECONDS) * billion);
                assert!(
                    (certificate.critical_options().keys())
                        .all(|name| ["force-command", "source-address"].contains(&name.as_str()))
                );
                assert!(certificate.serial() != 7 && certificate.key_id() != "mallory");
                for name in identity.groups().iter().map(String::as_str).chain([identity.subject()]) {
                    assert!(!name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control));
                }
                verifier.still_believes(&identity).expect("nothing changed");
            }
            Err(refusal) => assert!(!refusal.to_string().chars().any(char::is_control), "{refusal:?}"),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Sent(mut bytes) => {
            // russh stops at eight certificates within each other before it decodes them.
            if bytes.windows(10).filter(|window| window == b"-cert-v01@").count() > 8 {
                return;
            }
            if let Ok(certificate) = Certificate::decode(&mut bytes) {
                check(&certificate, Presented { peer: IpAddr::from([192, 0, 2, 7]), now: Timestamp::now() }, false);
            }
        }
        Input::Signed(input) => {
            let Ok(now) = Timestamp::from_second(input.now) else { return };
            if let Some(certificate) = sign(&input) {
                check(&certificate, Presented { peer: input.peer, now }, !input.by_another);
            }
        }
    }
});
