//! Certificates that no CA has signed but a person's own key, with a PK token in them, as opkssh makes them.
//!
//! Everything is real but the identity provider: `ssh-keygen` signs the certificates and `ssh` presents them.

use std::fs;
use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use sha3::{Digest as _, Sha3_256};

use crate::house::{House, Plan, finish, keygen, text};
use crate::provider::{Provider, encode};

/// A house that believes this provider's PK tokens, with an empty list of revoked keys.
pub fn house(provider: &Provider) -> House {
    build(provider, "[\"test\"]")
}

fn build(provider: &Provider, issuers: &str) -> House {
    let url = &provider.url;
    let config = format!(
        "[issuers.test]\nurl = \"{url}\"\naudiences = [\"porthole\"]\njwks-refresh-pause = \"0s\"\n\
         [issuers.other]\nurl = \"http://127.0.0.1:1\"\naudiences = [\"porthole\"]\n\
         [certificate]\npk-token-issuers = {issuers}\npk-token-audiences = [\"opkssh\"]\n\
         revocation-lists = [\"krl\"]\n"
    );
    let before = |folder: &Path| keygen(folder, &["-q", "-k", "-f", "krl", "/dev/null"]);
    House::build(Plan { config, before: Some(Box::new(before)), ..Plan::default() })
}

/// Somebody with a key, in the house's folder, as opkssh makes one.
struct Holder {
    name: &'static str,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl Holder {
    fn new(house: &House, name: &'static str, kind: &[&str], algorithm: Algorithm) -> Holder {
        let folder = house.folder();
        keygen(folder, &[&["-q", "-N", "", "-f", name], kind].concat());
        let key = match algorithm {
            Algorithm::EdDSA => {
                let private = russh::keys::PrivateKey::read_openssh_file(house.file(name)).expect("just made");
                let seed = private.key_data().ed25519().expect("of that kind").private.to_bytes();
                // PKCS #8 (RFC 8410 section 7) around the seed.
                let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
                der.extend(seed);
                EncodingKey::from_ed_der(&der)
            }
            _ => {
                let pem = format!("{name}.pem");
                fs::copy(house.file(name), house.file(&pem)).expect("just made");
                keygen(folder, &["-q", "-p", "-m", "PKCS8", "-N", "", "-f", &pem]);
                EncodingKey::from_ec_pem(&fs::read(house.file(&pem)).expect("just made")).expect("PKCS #8")
            }
        };
        Holder { name, key, algorithm }
    }

    fn ecdsa(house: &House, name: &'static str) -> Holder {
        Holder::new(house, name, &["-t", "ecdsa", "-b", "256"], Algorithm::ES256)
    }

    /// The client instance claims.
    fn cic(&self) -> Value {
        let public = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public half");
        let mut upk = serde_json::to_value(public).expect("JSON");
        let algorithm = format!("{:?}", self.algorithm);
        upk["alg"] = json!(algorithm);
        json!({ "alg": algorithm, "rz": "c0ffee".repeat(10), "typ": "CIC", "upk": upk })
    }

    fn sign(&self, header: &Value, payload: &str) -> String {
        let message = format!("{}.{payload}", encode(header));
        jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).expect("it signs")
    }

    /// A certificate over this key, by `signer`'s, with the token in it and these options.
    fn certify(&self, house: &House, signer: &str, token: &str, options: &[&str]) {
        let extension = format!("extension:openpubkey-pkt={token}");
        let (id, key) = ("root", format!("{}.pub", self.name));
        let own = ["-q", "-s", signer, "-I", id, "-O", &extension];
        keygen(house.folder(), &[&own[..], options, &[&key]].concat());
    }

    fn ssh(&self, house: &House) -> Output {
        let file = house.file(self.name);
        let mut client = house.client("ssh");
        for (option, file) in
            [("IdentityFile", file.clone()), ("CertificateFile", house.file(&format!("{}-cert.pub", self.name)))]
        {
            client.arg("-o").arg(format!("{option}={}", file.display()));
        }
        // The house's own person must not get in in this one's place.
        for own in ["id_ed25519", "id_ed25519.pub", "id_ed25519-cert.pub"] {
            let _ = fs::remove_file(house.file(own));
        }
        finish(client.args(["demo.web@porthole", "echo in"]))
    }
}

fn commitment(cic: &Value) -> String {
    URL_SAFE_NO_PAD.encode(Sha3_256::digest(cic.to_string()))
}

/// An `id_token` that commits to these claims of a client, but for what `change` does to it.
fn id_token(provider: &Provider, cic: &Value, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    provider.token(|header, claims| {
        claims["aud"] = json!("opkssh");
        claims["nonce"] = json!(commitment(cic));
        change(header, claims);
    })
}

fn compact(id_token: &str, cic: &Value, signature: &str) -> String {
    let parts: Vec<_> = id_token.split('.').collect();
    format!("{}:{}:{}:{}:{signature}", parts[1], parts[0], parts[2], encode(cic))
}

fn payload(id_token: &str) -> &str {
    id_token.split('.').nth(1).expect("three parts")
}

/// A PK token as it should be.
fn pk_token(provider: &Provider, holder: &Holder) -> String {
    let cic = holder.cic();
    let id_token = id_token(provider, &cic, |_, _| {});
    compact(&id_token, &cic, &holder.sign(&cic, payload(&id_token)))
}

/// The code by which the trail says that the login was refused, or who got in.
fn outcome(house: &House, output: &Output) -> String {
    let event = house.await_audit("login", |event| {
        event["event"] == "login_accepted" || event["event"] == "login_refused" && event["method"] == "certificate"
    });
    fs::write(house.file("audit.jsonl"), "").expect("writable");
    let accepted = event["event"] == "login_accepted";
    assert_eq!(text(&output.stdout) == "in\n", accepted, "{event}: {}", text(&output.stderr));
    let word = event[if accepted { "subject" } else { "code" }].as_str();
    word.expect("a word").to_owned()
}

#[test]
fn a_pk_token_is_its_person_with_each_kind_of_key() {
    let provider = Provider::start();
    let house = house(&provider);
    let ed25519 = Holder::new(&house, "ed25519", &["-t", "ed25519"], Algorithm::EdDSA);
    for holder in [Holder::ecdsa(&house, "ecdsa"), ed25519] {
        holder.certify(&house, holder.name, &pk_token(&provider, &holder), &[]);
        let output = holder.ssh(&house);
        assert_eq!(text(&output.stdout), "in\n", "{}: {}", holder.name, house.log());
        let login = house.await_audit("login", |event| event["event"] == "login_accepted");
        let named = [&login["subject"], &login["method"], &login["groups"]];
        assert_eq!(named, [&json!("mia"), &json!("certificate"), &json!(["developers"])], "not the key id's: {login}");
        let credential = login["credential"].as_str().expect("a text");
        assert!(credential.contains(&provider.url) && credential.contains("CA SHA256:"), "{credential}");
        // A day after its issue, though the id_token itself ends after minutes.
        let until: jiff::Timestamp = login["valid_until"].as_str().expect("a date").parse().expect("a date");
        let left = until.duration_since(jiff::Timestamp::now()).as_hours();
        assert_eq!(left, 23, "{login}");
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
}

#[test]
fn without_an_issuer_for_it_a_pk_token_is_nothing() {
    let provider = Provider::start();
    let house = build(&provider, "[]");
    let holder = Holder::ecdsa(&house, "mia");
    holder.certify(&house, "mia", &pk_token(&provider, &holder), &[]);
    assert_eq!(outcome(&house, &holder.ssh(&house)), "certificate_wrong_ca");
}

/// What somebody can do who has seen another's certificate, which any server shows that its owner has logged in to.
#[test]
fn nobody_gets_in_with_somebody_elses_pk_token() {
    let provider = Provider::start();
    let house = house(&provider);
    let (mia, mallory) = (Holder::ecdsa(&house, "mia"), Holder::ecdsa(&house, "mallory"));
    let good = pk_token(&provider, &mia);
    let hers = mia.cic();
    let id_token = id_token(&provider, &hers, |_, _| {});
    let own = mallory.cic();
    let mut borrowed = own.clone();
    borrowed["upk"] = hers["upk"].clone();
    let table = [
        ("her token as it is", good.clone(), "pk_token_other_key"),
        (
            "her id_token under his own claims",
            compact(&id_token, &own, &mallory.sign(&own, payload(&id_token))),
            "token_nonce",
        ),
        (
            "her claims, signed by his key",
            compact(&id_token, &hers, &mallory.sign(&hers, payload(&id_token))),
            "pk_token_other_key",
        ),
        (
            "her key in claims of his",
            compact(&id_token, &borrowed, &mallory.sign(&borrowed, payload(&id_token))),
            "pk_token_other_key",
        ),
    ];
    for (what, token, expected) in table {
        mallory.certify(&house, mallory.name, &token, &[]);
        assert_eq!(outcome(&house, &mallory.ssh(&house)), expected, "{what}");
    }
    // A CA that is trusted names whom it names; the token in its certificate is nobody's concern.
    mallory.certify(&house, "user_ca", &good, &["-n", "anybody,group:developers"]);
    assert_eq!(outcome(&house, &mallory.ssh(&house)), "root", "the CA's key id, not the token's person");
    // Signed by his key over hers, it is no certificate of her key's own, and he is no CA.
    mia.certify(&house, "mallory", &good, &[]);
    assert_eq!(outcome(&house, &mia.ssh(&house)), "certificate_wrong_ca");
    mia.certify(&house, "mia", &good, &[]);
    assert_eq!(outcome(&house, &mia.ssh(&house)), "mia");
}

#[test]
fn every_broken_pk_token_is_refused_for_its_own_reason() {
    let provider = Provider::start();
    let house = house(&provider);
    let mia = Holder::ecdsa(&house, "mia");
    let other = Holder::ecdsa(&house, "other");
    let cic = mia.cic();
    let now = jiff::Timestamp::now().as_second();
    // With the provider's part changed, and the key's as it should be.
    let issued = |change: &dyn Fn(&mut Value, &mut Value)| {
        let id_token = id_token(&provider, &cic, change);
        compact(&id_token, &cic, &mia.sign(&cic, payload(&id_token)))
    };
    // With the client's claims changed, and all else made for them.
    let claimed = |change: &dyn Fn(&mut Value)| {
        let mut cic = mia.cic();
        change(&mut cic);
        let id_token = id_token(&provider, &cic, |_, _| {});
        compact(&id_token, &cic, &mia.sign(&cic, payload(&id_token)))
    };
    let good = pk_token(&provider, &mia);
    let parts: Vec<_> = good.split(':').collect();
    let id_token = id_token(&provider, &cic, |_, _| {});
    let mut tampered = provider.claims();
    tampered["aud"] = json!("opkssh");
    tampered["sub"] = json!("root");
    tampered["nonce"] = json!(commitment(&cic));
    let tampered = encode(&tampered);
    let none = encode(&json!({ "alg": "none", "typ": "JWT" }));
    let table = [
        ("nothing", String::from("x"), "pk_token_malformed"),
        ("no client's part", parts[..3].join(":"), "pk_token_malformed"),
        ("no base64", format!("{}:!:{}", parts[..3].join(":"), parts[4]), "pk_token_malformed"),
        ("padded", format!("{}:{}=:{}", parts[..3].join(":"), parts[3], parts[4]), "pk_token_malformed"),
        ("a cosigner", format!("{good}:{}:{}", parts[3], parts[4]), "pk_token_unsupported"),
        ("a refreshed token", format!("{good}.{id_token}"), "pk_token_unsupported"),
        ("oversize", format!("{good}{}", "x".repeat(25_000)), "pk_token_too_large"),
        ("oversize claims", claimed(&|cic| cic["more"] = json!("x".repeat(5_000))), "pk_token_malformed"),
        ("an oversize id_token", issued(&|_, claims| claims["more"] = json!("x".repeat(16_000))), "token_too_large"),
        ("the client's type", claimed(&|cic| cic["typ"] = json!("JWT")), "pk_token_type"),
        ("the provider's type", issued(&|header, _| header["typ"] = json!("CIC")), "pk_token_type"),
        (
            "no random number",
            claimed(&|cic| drop(cic.as_object_mut().map(|cic| cic.remove("rz")))),
            "pk_token_malformed",
        ),
        ("critical claims", claimed(&|cic| cic["crit"] = json!(["b64"])), "pk_token_malformed"),
        ("two algorithms", claimed(&|cic| cic["alg"] = json!("EdDSA")), "pk_token_malformed"),
        (
            "no algorithm",
            claimed(&|cic| (cic["alg"], cic["upk"]["alg"]) = (json!("none"), json!("none"))),
            "pk_token_algorithm",
        ),
        (
            "a secret's algorithm",
            claimed(&|cic| (cic["alg"], cic["upk"]["alg"]) = (json!("HS256"), json!("HS256"))),
            "pk_token_algorithm",
        ),
        (
            "another kind of key",
            claimed(&|cic| (cic["alg"], cic["upk"]["alg"]) = (json!("EdDSA"), json!("EdDSA"))),
            "pk_token_other_key",
        ),
        ("another curve", claimed(&|cic| cic["upk"]["crv"] = json!("P-384")), "pk_token_other_key"),
        (
            "half of the key",
            claimed(&|cic| drop(cic["upk"].as_object_mut().map(|upk| upk.remove("y")))),
            "pk_token_other_key",
        ),
        (
            "signed by another key",
            compact(&id_token, &cic, &other.sign(&cic, payload(&id_token))),
            "pk_token_signature",
        ),
        (
            "signed for another payload",
            compact(&id_token, &cic, parts[4].trim_end_matches('x').get(..20).expect("longer")),
            "pk_token_signature",
        ),
        (
            "tampered claims, signed by the key",
            format!("{tampered}:{}:{}:{}:{}", parts[1], parts[2], parts[3], mia.sign(&cic, &tampered)),
            "token_signature",
        ),
        (
            "a provider's header without an algorithm",
            format!("{tampered}:{none}::{}:{}", parts[3], mia.sign(&cic, &tampered)),
            "token_algorithm",
        ),
        ("a shared secret's", issued(&|header, _| header["alg"] = json!("HS256")), "token_algorithm"),
        ("an unknown key", issued(&|header, _| header["kid"] = json!("nobody's")), "token_unknown_key"),
        (
            "no nonce",
            issued(&|_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("nonce")))),
            "token_nonce",
        ),
        ("a nonce that is none", issued(&|_, claims| claims["nonce"] = json!(7)), "token_nonce"),
        ("another's nonce", issued(&|_, claims| claims["nonce"] = json!(commitment(&other.cic()))), "token_nonce"),
        ("another issuer", issued(&|_, claims| claims["iss"] = json!("https://evil.example")), "token_issuer"),
        (
            "an issuer not configured for it",
            issued(&|_, claims| claims["iss"] = json!("http://127.0.0.1:1")),
            "token_issuer",
        ),
        // A token that logs in by itself, which a gateway has, must make no certificate.
        ("a login's audience", issued(&|_, claims| claims["aud"] = json!("porthole")), "token_audience"),
        ("issued to another", issued(&|_, claims| claims["azp"] = json!("porthole")), "token_authorized_party"),
        (
            "too old",
            issued(&|_, claims| (claims["iat"], claims["exp"]) = (json!(now - 90_000), json!(now + 90_000))),
            "token_expired",
        ),
        ("not yet", issued(&|_, claims| claims["iat"] = json!(now + 600)), "token_not_yet_valid"),
        (
            "over, and young",
            issued(&|_, claims| (claims["iat"], claims["exp"]) = (json!(now - 7200), json!(now - 3600))),
            "mia",
        ),
        ("no type", issued(&|header, _| drop(header.as_object_mut().map(|header| header.remove("typ")))), "mia"),
    ];
    for (what, token, expected) in &table {
        mia.certify(&house, "mia", token, &[]);
        assert_eq!(outcome(&house, &mia.ssh(&house)), *expected, "{what}");
    }
    // What the certificate itself restricts, its holder has wished.
    for (options, expected) in [
        (["-O", "critical:unheard-of@example.com=x"], "certificate_unknown_critical_option"),
        (["-O", "source-address=192.0.2.0/24"], "certificate_source_address"),
        (["-V", "19700102:20200101"], "certificate_outside_validity"),
    ] {
        mia.certify(&house, "mia", &good, &options);
        assert_eq!(outcome(&house, &mia.ssh(&house)), expected, "{options:?}");
    }
    mia.certify(&house, "mia", &good, &[]);
    provider.rotate("second");
    assert_eq!(outcome(&house, &mia.ssh(&house)), "mia", "the keys are known, and none is asked for");
    mia.certify(&house, "mia", &issued(&|_, _| {}), &[]);
    assert_eq!(outcome(&house, &mia.ssh(&house)), "mia", "a rotated key");
    mia.certify(&house, "mia", &good, &[]);
    assert_eq!(outcome(&house, &mia.ssh(&house)), "token_retired_key");
    mia.certify(&house, "mia", &issued(&|_, _| {}), &[]);
    keygen(house.folder(), &["-q", "-k", "-f", "fresh", "mia.pub"]);
    fs::rename(house.file("fresh"), house.file("krl")).expect("the same folder");
    house.await_log("re-read");
    assert_eq!(outcome(&house, &mia.ssh(&house)), "certificate_revoked");
    assert!(!house.log().contains("panicked"), "{}", house.log());
}
