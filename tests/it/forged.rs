//! Forged and broken tokens: one table, and each of them refused for its own reason on every way in.
//!
//! A token comes in by the device login, in the gateway's request for a WebSocket, and in its request for a certificate.
//! There is one place that believes them, and this is what shows that no way goes past it.

use std::fs;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::device::{bare, log_in};
use crate::gateway::request;
use crate::house::{House, Plan, keygen, text};
use crate::provider::{Provider, encode};

/// How a token comes in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Device,
    WebSocket,
    Certificate,
}

const WAYS: [Way; 3] = [Way::Device, Way::WebSocket, Way::Certificate];

/// A house with all three ways in, and no memory of who has logged in.
fn house(provider: &Provider) -> House {
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\njwks-refresh-pause = \"0s\"\n\
         [device]\nissuer = \"test\"\nbinding-lifetime = \"0s\"\n[certificate-authority]\nkeys = [\"own_ca\"]\n\
         [http]\naddress = \"127.0.0.1:0\"\ntrusted-networks = [\"127.0.0.1/32\"]\n",
        provider.url
    );
    let before = |folder: &std::path::Path| keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-f", "own_ca"]);
    let house = House::build(Plan { config, before: Some(Box::new(before)), ..Plan::default() });
    bare(&house);
    house
}

/// Brings a token in: whether somebody was let in by it, and what they were told.
fn bring(house: &House, provider: &Provider, way: Way, token: &str) -> (bool, String) {
    let header = format!("Authorization: Bearer {token}\r\n");
    match way {
        Way::Device => {
            let output = log_in(house, provider, token);
            let said = text(&output.stderr);
            assert_eq!(output.status.success(), text(&output.stdout) == "in\n", "{said}");
            (output.status.success(), said)
        }
        Way::WebSocket => {
            let answer = request::upgrade(house.gateway_port(), &header);
            (answer.starts_with("HTTP/1.1 101 "), answer)
        }
        Way::Certificate => {
            let key = fs::read(house.file("id_ed25519.pub")).expect("the house has it");
            let answer = request::certificate(house.gateway_port(), &header, &key);
            let certified = request::body(&answer).starts_with("ssh-ed25519-cert-v01@openssh.com ");
            assert_eq!(answer.starts_with("HTTP/1.1 200 "), certified, "{answer}");
            (certified, answer)
        }
    }
}

fn forget(house: &House) {
    fs::write(house.file("audit.jsonl"), "").expect("writable");
}

/// The broken tokens of this provider, each with its code, and a part of what the operator reads that tells it from
/// others of the code. The provider has had another key before, by which `retired` is signed.
fn broken(provider: &Provider, retired: String) -> Vec<(&'static str, &'static str, String)> {
    let other = Provider::start();
    let good = provider.token(|_, _| {});
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let header = message.split_once('.').expect("two parts").0;
    let tampered = {
        let mut claims = provider.claims();
        claims["groups"] = json!(["admins"]);
        format!("{header}.{}.{signature}", encode(&claims))
    };
    let unsigned = |algorithm: &str, signature: &str| {
        let header = json!({ "alg": algorithm, "kid": provider.key().0 });
        format!("{}.{}.{signature}", encode(&header), encode(&provider.claims()))
    };
    let symmetric = {
        let message = unsigned("HS256", "");
        let message = message.trim_end_matches('.');
        let key = EncodingKey::from_secret(provider.public().to_string().as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("it signs");
        format!("{message}.{signature}")
    };
    let at = |seconds: i64| json!(provider.claims()["iat"].as_i64().expect("a date") + seconds);
    let claim = |name: &str, value: Value| provider.token(|_, claims| claims[name] = value);
    let without =
        |name: &str| provider.token(|_, claims| drop(claims.as_object_mut().expect("they are an object").remove(name)));
    vec![
        ("token_algorithm", "algorithm \"none\"", unsigned("none", "")),
        ("token_algorithm", "algorithm \"none\"", unsigned("none", signature)),
        ("token_algorithm", "algorithm \"nOnE\"", unsigned("nOnE", "")),
        ("token_algorithm", "algorithm \"HS256\"", symmetric),
        ("token_algorithm", "for another", provider.token(|header, _| header["alg"] = json!("RS256"))),
        ("token_algorithm", "not configured", provider.token(|header, _| header["alg"] = json!("ES384"))),
        ("token_issuer", "elsewhere", claim("iss", json!("https://elsewhere.example.com"))),
        ("token_issuer", "127.0.0.1", claim("iss", json!(format!("{}/", provider.url)))),
        ("token_malformed", "names no issuer", claim("iss", Value::Null)),
        (
            "token_signature",
            "made up",
            other.token(|header, claims| {
                header["kid"] = json!(provider.key().0);
                claims["iss"] = json!(provider.url);
            }),
        ),
        ("token_signature", "changed", tampered),
        ("token_signature", "changed", format!("{message}.")),
        ("token_audience", "\"another\"", claim("aud", json!("another"))),
        ("token_audience", "nobody", claim("aud", json!([]))),
        ("token_authorized_party", "\"another\"", claim("azp", json!("another"))),
        ("token_authorized_party", "none named", claim("aud", json!(["porthole", "another"]))),
        ("token_expired", "ended at", claim("exp", at(-120))),
        ("token_not_yet_valid", "begins at", claim("nbf", at(120))),
        ("token_not_yet_valid", "begins at", claim("iat", at(120))),
        ("token_claims", "exp", claim("exp", json!("tomorrow"))),
        ("token_claims", "nbf", claim("nbf", json!({}))),
        ("token_claims", "exp", claim("exp", Value::Null)),
        ("token_claims", "claim exp is of no use: it is not there", without("exp")),
        ("token_claims", "claim iat is of no use: it is not there", without("iat")),
        ("token_claims", "sub", claim("sub", json!(""))),
        ("token_claims", "groups", claim("groups", json!(["a", 1]))),
        ("token_unknown_key", "nobody's", provider.token(|header, _| header["kid"] = json!("nobody's"))),
        ("token_retired_key", "withdrawn", retired),
        ("token_malformed", "", provider.token(|header, _| header["crit"] = json!(["x"]))),
        ("token_malformed", "", "a.b.c".to_owned()),
        ("token_too_large", "are the most", claim("name", json!("x".repeat(20_000)))),
    ]
}

#[test]
fn each_forged_token_is_refused_for_its_own_reason_on_every_way_in() {
    let provider = Provider::start();
    let house = house(&provider);
    let retired = provider.token(|_, _| {});
    for way in WAYS {
        assert!(bring(&house, &provider, way, &retired).0, "{way:?}: it is good before its key is withdrawn");
    }
    provider.rotate("second");
    assert!(bring(&house, &provider, Way::WebSocket, &provider.token(|_, _| {})).0, "the new key is known");
    forget(&house);
    let table = broken(&provider, retired);
    for (code, why, token) in &table {
        for way in WAYS {
            let (entered, said) = bring(&house, &provider, way, token);
            assert!(!entered, "{way:?} {code}: {said}");
            let refused = house.await_audit(code, |event| event["event"] == "login_refused");
            let method = if way == Way::Device { "device" } else { "token" };
            assert_eq!((&refused["code"], &refused["method"]), (&json!(code), &json!(method)), "{way:?}: {refused}");
            assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{way:?}: {refused}");
            // What the person is told: a line at the end of ssh, or a reason beside a 401.
            let told = match way {
                Way::Device => {
                    said.lines().any(|line| line.starts_with("porthole: ") && !line.contains("open this link"))
                }
                _ => said.starts_with("HTTP/1.1 401 ") && said.contains(&format!("\"code\":\"{code}\"")),
            };
            assert!(told, "{way:?} {code}: {said}");
            let trail = fs::read_to_string(house.file("audit.jsonl")).expect("there");
            assert!(!trail.contains("login_accepted") && !trail.contains("certificate_issued"), "{way:?}: {trail}");
            // A token is a secret, even one that is refused.
            let signature = token.rsplit('.').next().unwrap_or_default();
            let secret = signature.len() >= 8 && (trail.contains(signature) || house.log().contains(signature));
            assert!(!secret, "{way:?} {code}: the token is where others read");
            forget(&house);
        }
    }
    for way in WAYS {
        let (entered, said) = bring(&house, &provider, way, &provider.token(|_, _| {}));
        assert!(entered, "{way:?}: a good one still is: {said}");
    }
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn clocks_that_differ_by_up_to_a_minute_are_forgiven_and_no_more() {
    let provider = Provider::start();
    let house = house(&provider);
    // The provider's clock, in seconds before ours; the leeway is a minute, and some seconds are for this machine.
    let token = |ahead: i64, begins: i64, ends: i64| {
        provider.token(|_, claims| {
            let now = claims["iat"].as_i64().expect("a date") + ahead;
            claims["iat"] = json!(now + begins);
            claims["nbf"] = json!(now + begins);
            claims["exp"] = json!(now + ends);
        })
    };
    for way in WAYS {
        for (what, (ahead, begins, ends), code) in [
            ("the provider is ahead", (55, 0, 300), None),
            ("the provider is behind", (-55, 0, 300), None),
            ("the provider is behind, and the token just over", (-50, -300, 0), None),
            ("the provider is further ahead", (70, 0, 300), Some("token_not_yet_valid")),
            ("the token is over for longer", (-65, -300, 0), Some("token_expired")),
        ] {
            let (entered, said) = bring(&house, &provider, way, &token(ahead, begins, ends));
            match code {
                // No certificate is made that would be over at once, though the token itself is believed.
                None if way == Way::Certificate && what.ends_with("over") => {
                    assert!(said.contains("\"code\":\"login_over\""), "{way:?}, {what}: {said}");
                }
                None => assert!(entered, "{way:?}, {what}: {said}"),
                Some(code) => {
                    assert!(!entered, "{way:?}, {what}");
                    house.await_audit(code, |event| event["event"] == "login_refused" && event["code"] == code);
                }
            }
            forget(&house);
        }
    }
}
