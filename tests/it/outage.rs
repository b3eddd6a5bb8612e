//! An identity provider that is away, at any moment of a login: the person is told so, or notices nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::device::{bare, begin, begun, log_in, ssh};
use crate::gateway::request::upgrade;
use crate::house::{House, Plan, finish, text};
use crate::provider::{Answer, DEVICE, DISCOVERY, KEYS, Provider, TOKEN};

/// A house that has no patience with its provider, and asks each time.
fn house(provider: &Provider, device: &str) -> House {
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\njwks-refresh-pause = \"0s\"\n\
         request-timeout = \"1s\"\n[device]\nissuer = \"test\"\nbinding-lifetime = \"0s\"\n{device}\
         [http]\naddress = \"127.0.0.1:0\"\ntrusted-networks = [\"127.0.0.0/8\"]\n",
        provider.url
    );
    let house = House::build(Plan { config, ..Plan::default() });
    bare(&house);
    house
}

#[test]
fn a_provider_that_hangs_keeps_nobody_out_who_comes_by_a_known_key() {
    let provider = Provider::start();
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\nrequest-timeout = \"5m\"\n\
         jwks-refresh-interval = \"1ms\"\njwks-refresh-pause = \"0s\"\n\
         [http]\naddress = \"127.0.0.1:0\"\ntrusted-networks = [\"127.0.0.0/8\"]\n",
        provider.url
    );
    let house = House::build(Plan { config, ..Plan::default() });
    let log_in = || {
        let token = format!("Authorization: Bearer {}\r\n", provider.token(|_, _| {}));
        upgrade(house.gateway_port(), &token)
    };
    assert!(log_in().starts_with("HTTP/1.1 101 "));
    // Its keys are old at once, and newer ones are asked for in vain.
    provider.answer(KEYS, Answer::Silence);
    for _ in 0..2 {
        let answer = log_in();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    }
}

/// The ways of being away.
fn outages() -> [Answer; 4] {
    [Answer::Gone, Answer::Silence, Answer::Raw(502, b"<h1>bad gateway".to_vec()), Answer::Raw(503, Vec::new())]
}

fn forget(house: &House) {
    std::fs::write(house.file("audit.jsonl"), "").expect("writable");
}

#[test]
fn a_provider_that_is_away_at_the_beginning_is_said_in_time_and_asked_again_the_next_time() {
    let provider = Provider::start();
    let house = house(&provider, "");
    let good = provider.token(|_, _| {});
    // Nothing is known of it yet.
    for path in [DISCOVERY, KEYS, DEVICE] {
        for outage in outages() {
            provider.answer(path, outage);
            let began = Instant::now();
            let output = finish(&mut ssh(&house, "demo.web", "echo in"));
            // A second of this is how long the provider may take, and half of one each refused attempt.
            assert!(began.elapsed() < Duration::from_secs(4), "{path}: it took {:?}", began.elapsed());
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(255), "{path}: {said}");
            assert!(said.contains("porthole: your identity provider does not answer: try again"), "{path}: {said}");
            let refused = house.await_audit("refusal", |event| event["event"] == "login_refused");
            assert_eq!(refused["code"], "device_provider_unavailable", "{path}: {refused}");
            forget(&house);
        }
        provider.answer(path, Answer::Well);
    }
    assert_eq!(text(&log_in(&house, &provider, &good).stdout), "in\n");
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn a_provider_that_goes_away_while_somebody_waits_is_waited_for_as_well() {
    for outage in outages() {
        let provider = Provider::start();
        let house = house(&provider, "");
        let client = begin(&house, "demo.web", "echo in");
        house.await_audit("pending login", begun);
        provider.answer(TOKEN, outage);
        provider.await_asked(TOKEN, 1);
        provider.approve(&provider.token(|_, _| {}));
        let output = client.wait_with_output().expect("a child of ours");
        assert_eq!(text(&output.stdout), "in\n", "{}", text(&output.stderr));
    }
}

#[test]
fn a_provider_that_stays_away_is_said_at_the_deadline_and_no_longer_asked() {
    let provider = Provider::start();
    let house = house(&provider, "deadline = \"2s\"\n");
    for (answer, code, line) in [
        (Answer::Gone, "device_provider_unavailable", "your identity provider does not answer"),
        (Answer::Json(400, json!({ "error": "authorization_pending" })), "device_expired", "nobody approved"),
    ] {
        provider.answer(TOKEN, answer);
        let output = finish(&mut ssh(&house, "demo.web", "echo in"));
        assert!(text(&output.stderr).contains(line), "{code}: {}", text(&output.stderr));
        let refused = house.await_audit("refusal", |event| event["event"] == "login_refused");
        assert_eq!(refused["code"], code, "{refused}");
        forget(&house);
    }
    let asked = provider.asked(TOKEN);
    assert_eq!(text(&log_in(&house, &provider, &provider.token(|_, _| {})).stdout), "in\n");
    assert!(provider.asked(TOKEN) <= asked + 2, "somebody went on asking");
}

#[test]
fn a_provider_that_wants_no_pause_is_asked_once_a_second_all_the_same() {
    let provider = Provider::start();
    let house = house(&provider, "");
    provider.answer(
        DEVICE,
        Answer::Json(
            200,
            json!({ "device_code": "a", "user_code": "b", "verification_uri": provider.url, "expires_in": 60, "interval": 0 }),
        ),
    );
    let client = begin(&house, "demo.web", "echo in");
    house.await_audit("pending login", begun);
    let (began, before) = (Instant::now(), provider.asked(TOKEN));
    provider.await_asked(TOKEN, 3);
    assert!(began.elapsed() > Duration::from_millis(1500), "three requests took {:?}", began.elapsed());
    assert!(provider.asked(TOKEN) <= before + 4);
    provider.approve(&provider.token(|_, _| {}));
    assert_eq!(text(&client.wait_with_output().expect("a child of ours").stdout), "in\n");
}

#[test]
fn a_new_key_that_cannot_be_asked_for_is_nobodys_fault_and_known_ones_stay_good() {
    let provider = Provider::start();
    let house = house(&provider, "");
    let ask = |token: &str| upgrade(house.gateway_port(), &format!("Authorization: Bearer {token}\r\n"));
    let before = provider.token(|_, _| {});
    assert!(ask(&before).starts_with("HTTP/1.1 101 "));
    provider.rotate("second");
    let after = provider.token(|_, _| {});
    for outage in outages() {
        provider.answer(KEYS, outage);
        let answer = ask(&after);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"code\":\"issuer_unavailable\""), "{answer}");
        assert!(ask(&before).starts_with("HTTP/1.1 101 "), "what is known stays in force");
    }
    provider.answer(KEYS, Answer::Well);
    assert!(ask(&after).starts_with("HTTP/1.1 101 "));
    assert!(ask(&before).contains("\"code\":\"token_retired_key\""));
}
