//! `POST /certificate`: a tool that has a person's token gets a certificate for a key, and nobody else gets one.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::issuer::{Issuer, now};
use super::request::{body, certificate, send};
use super::websocket::nginx;
use crate::house::{House, Plan, finish, finish_with, keygen, text};
use crate::issuer::{client, line, show};

/// A house that takes gateways from loopback, or as `http` says instead, and issues certificates.
fn house(issuer: &Issuer, http: &str) -> House {
    let trusted = if http.contains("trusted-networks") { "" } else { "trusted-networks = [\"127.0.0.0/8\"]\n" };
    let config = format!(
        "[certificate-authority]\nkeys = [\"own_ca\"]\n[http]\naddress = \"127.0.0.1:0\"\n{trusted}{http}\n{}",
        issuer.config()
    );
    House::build(Plan { config, before: Some(Box::new(keys)), ..Plan::default() })
}

/// A CA's key, and one to be certified.
fn keys(folder: &Path) {
    for name in ["own_ca", "fresh"] {
        keygen(folder, &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name]);
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn read(house: &House, name: &str) -> Vec<u8> {
    fs::read(house.file(name)).expect("the house has it")
}

#[test]
fn a_token_gets_a_certificate_that_ssh_logs_in_with() {
    let issuer = Issuer::start();
    let house = house(&issuer, "");
    let until = now() + 300;
    let token = issuer.token(json!({ "exp": until, "email": "dev@example.com" }));
    let key = text(&read(&house, "fresh.pub"));
    let as_json = json!({ "key": key }).to_string().into_bytes();
    for (kind, sent) in [("", key.clone().into_bytes()), ("Content-Type: application/json; charset=utf-8\r\n", as_json)]
    {
        let answer = certificate(house.gateway_port(), &(bearer(&token) + kind), &sent);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let head = answer.to_ascii_lowercase();
        assert!(head.contains("cache-control: no-store") && head.contains("content-type: text/plain"), "{answer}");
        fs::write(house.file("fresh-cert.pub"), body(&answer)).expect("writable");
        let shown = show(&house, "fresh-cert.pub");
        let issued = house.await_audit("certificate", |event| event["event"] == "certificate_issued");
        assert_eq!(line(&shown, "Serial:"), issued["serial"].to_string());
        assert_eq!(issued["principals"], json!(["user:dev", "group:developers"]));
        assert!(issued["credential"].as_str().is_some_and(|it| it.starts_with("id_token of ")), "{issued}");
        assert!(issued["peer"] == "127.0.0.1" && !issued.to_string().contains("eyJ"), "{issued}");
        let ends = issued["valid_until"].as_str().and_then(|date| date.parse::<jiff::Timestamp>().ok());
        assert_eq!(ends.expect("a date").as_second(), until as i64, "it must not outlive the token");

        let output = finish(client(&house, "fresh").args(["demo.web@127.0.0.1", "echo in"]));
        assert_eq!(text(&output.stdout), "in\n", "{}\n{}", text(&output.stderr), house.log());
        let login = house.await_audit("login", |event| event["event"] == "login_accepted");
        assert_eq!((&login["subject"], &login["method"]), (&json!("dev"), &json!("certificate")));
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
}

#[test]
fn through_nginx_curl_gets_one_as_the_documentation_says() {
    let issuer = Issuer::start();
    let house = house(&issuer, "client-address-header = \"X-Forwarded-For\"\n");
    let Some(gateway) = nginx(&house, "http", "") else { return };
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "-H", &format!("Authorization: Bearer {}", issuer.token(json!({})))]);
    curl.args(["--data-binary", "@-"]).arg(format!("http://127.0.0.1:{}/tools/certificate", gateway.port));
    let output = finish_with(&mut curl, &read(&house, "fresh.pub"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::write(house.file("fresh-cert.pub"), &output.stdout).expect("writable");
    let output = finish(client(&house, "fresh").args(["login@127.0.0.1", "whoami"]));
    assert_eq!(line(&text(&output.stdout), "subject"), "dev", "{}", text(&output.stderr));
}

#[test]
fn what_is_no_key_is_told_so_and_certified_never() {
    let issuer = Issuer::start();
    let house = house(&issuer, "");
    keygen(house.folder(), &["-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", "short"]);
    let token = bearer(&issuer.token(json!({})));
    let json_kind = format!("{token}Content-Type: application/json\r\n");
    let json_key = |extra: Value| {
        let mut sent = json!({ "key": text(&read(&house, "fresh.pub")) });
        sent.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
        sent.to_string().into_bytes()
    };
    for (headers, sent, status, code) in [
        (&token, Vec::new(), 400, "no_key"),
        (&token, b"\xff\xfe\0".to_vec(), 400, "key_malformed"),
        (&token, b"ssh-ed25519 AAAA".to_vec(), 400, "key_malformed"),
        (&token, json_key(json!({})), 400, "key_malformed"),
        (&token, [read(&house, "fresh.pub"), read(&house, "id_ed25519.pub")].concat(), 400, "many_keys"),
        (&token, read(&house, "fresh"), 400, "private_key"),
        (&token, read(&house, "id_ed25519-cert.pub"), 400, "key_is_certificate"),
        (&token, read(&house, "short.pub"), 400, "key_weak"),
        (&json_kind, read(&house, "fresh.pub"), 400, "key_malformed"),
        (&json_kind, json_key(json!({ "principals": ["root"] })), 400, "key_malformed"),
        (&json_kind, b"{\"key\":7}".to_vec(), 400, "key_malformed"),
        (&json_kind, "[".repeat(40_000).into_bytes(), 400, "key_malformed"),
        (&token, vec![b'A'; 9_000], 413, "key_too_long"),
        (&token, vec![b'A'; 4 << 20], 413, "key_too_long"),
    ] {
        fs::write(house.file("audit.jsonl"), "").expect("writable");
        let answer = certificate(house.gateway_port(), headers, &sent);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {answer}");
        let said: Value = serde_json::from_str(body(&answer)).expect("JSON");
        assert!(said["code"] == code && said["message"].is_string(), "{code}: {answer}");
        let refused = house.await_audit(code, |event| event["event"] == "certificate_refused");
        assert_eq!((&refused["code"], &refused["subject"]), (&json!(code), &json!("dev")));
    }
    // One that would end with the token before anybody could use it, though the token itself is still believed.
    let ending = bearer(&issuer.token(json!({ "exp": now() + 20 })));
    let answer = certificate(house.gateway_port(), &ending, &read(&house, "fresh.pub"));
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"code\":\"login_over\""), "{answer}");
    assert!(!house.audit().iter().any(|event| event["event"] == "certificate_issued"));
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn a_body_without_end_costs_no_memory() {
    let issuer = Issuer::start();
    let house = house(&issuer, "request-deadline = \"2s\"\n");
    let token = bearer(&issuer.token(json!({})));
    let port = house.gateway_port();
    certificate(port, &token, b"");
    let before = house.memory_kib();
    // 64 MiB in chunks, and 64 MiB by its length.
    let chunk = [b"100000\r\n".as_slice(), &vec![b'A'; 1 << 20], b"\r\n"].concat();
    let head = format!("POST /certificate HTTP/1.1\r\nHost: porthole\r\nTransfer-Encoding: chunked\r\n{token}\r\n");
    let answers =
        [send(port, &[head.as_bytes(), &chunk.repeat(64)].concat()), certificate(port, &token, &vec![0; 64 << 20])];
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("\"key_too_long\""), "{answer}");
    }
    // One that announces a body and does not send it.
    let slow = format!("POST /certificate HTTP/1.1\r\nHost: porthole\r\nContent-Length: 80\r\n{token}\r\nssh-ed25519 ");
    assert_eq!(send(port, slow.as_bytes()), "", "it was answered, or waited for");
    let after = house.memory_kib();
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn only_a_gateway_may_ask_and_no_browser_and_only_so() {
    let issuer = Issuer::start();
    let token = bearer(&issuer.token(json!({})));
    let refusal = |house: &House, headers: &str, status: u16, code: &str| {
        let answer = certificate(house.gateway_port(), headers, &read(house, "fresh.pub"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")) && !answer.contains("ssh-ed25519-cert"), "{answer}");
        house.await_audit(code, |event| event["code"] == code);
    };
    let elsewhere = house(&issuer, "trusted-networks = [\"127.0.0.9/32\"]");
    refusal(&elsewhere, &token, 403, "gateway_untrusted");
    let house = house(&issuer, "");
    for origin in ["https://evil.example", "null", ""] {
        refusal(&house, &format!("{token}Origin: {origin}\r\n"), 403, "browser_refused");
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    refusal(&house, "", 401, "token_missing");
    refusal(&house, &format!("{token}{token}"), 401, "token_ambiguous");
    for method in ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"] {
        let request = format!("{method} /certificate HTTP/1.1\r\nHost: porthole\r\n{token}\r\n");
        let answer = send(house.gateway_port(), request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("allow: post\r\n"), "{method}: {answer}");
    }
    assert!(!house.audit().iter().any(|event| event["event"] == "certificate_issued"));
    // Where there is no CA there is no such address.
    let closed = super::websocket::house(&issuer, "");
    let answer = certificate(closed.gateway_port(), &token, &read(&house, "fresh.pub"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}
