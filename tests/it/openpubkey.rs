//! A PK token of others, for real: OpenPubkey's own client gets it at a provider, as opkssh does, and it logs in here.
//!
//! `make e2e-openpubkey` builds the client and says where it is; without, this test says that it was skipped, and passes.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::house::{finish, text};
use crate::pk_token;
use crate::provider::{Answer, KEYS, Provider, TOKEN};

/// What `name` is in the query of an address, where nothing in it needs to be escaped.
fn query<'a>(address: &'a str, name: &str) -> &'a str {
    let pairs = address.split(['?', '&']).filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    found.next().unwrap_or_else(|| panic!("no {name} in {address}"))
}

#[test]
fn a_key_that_openpubkeys_own_client_has_certified_is_its_person() {
    let Some(program) = std::env::var_os("PORTHOLE_TEST_OPENPUBKEY") else {
        eprintln!("SKIPPED: OpenPubkey's client is not there (make e2e-openpubkey builds it, with Go)");
        return;
    };
    let provider = Provider::start();
    let url = &provider.url;
    let discovery = json!({
        "issuer": url, "jwks_uri": format!("{url}{KEYS}"), "token_endpoint": format!("{url}{TOKEN}"),
        "authorization_endpoint": format!("{url}/authorize"), "id_token_signing_alg_values_supported": ["ES256"],
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
    });
    provider.answer("/.well-known/openid-configuration", Answer::Json(200, discovery));
    let house = pk_token::house(&provider);
    let port = TcpListener::bind("localhost:0").and_then(|free| free.local_addr()).expect("a port").port();
    let redirect = format!("http://localhost:{port}/login-callback");
    let mut client = Command::new(program)
        .args(["-issuer", url, "-client-id", "opkssh", "-redirect", &redirect, "-file"])
        .arg(house.file("id_opk"))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let mut said = BufReader::new(client.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("Open your browser") {
        assert!(said.read_line(&mut line).expect("readable") > 0, "it ended early: {line}");
    }

    // The browser's part: to the login, from there to the provider, and back with what the provider gives.
    let browse = |arguments: &[&str], address: &str| {
        let jar = house.file("cookies").display().to_string();
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-b", &jar, "-c", &jar, "-w", "\n%{redirect_url}"]).args(arguments).arg(address);
        let output = finish(&mut curl);
        assert!(output.status.success(), "{address}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let answer = browse(&["-o", "/dev/null"], &format!("http://localhost:{port}/login"));
    let authorize = answer.trim();
    assert!(authorize.starts_with(&format!("{url}/authorize?")), "{answer}");
    let token = provider.token(|_, claims| {
        claims["aud"] = json!("opkssh");
        claims["nonce"] = json!(query(authorize, "nonce"));
    });
    provider.approve(&token);
    browse(&[], &format!("{redirect}?code=one&state={}", query(authorize, "state")));
    let rest: Vec<_> = said.lines().map_while(Result::ok).collect();
    assert!(client.wait().expect("a child of ours").success(), "{line}{}", rest.join("\n"));

    let shown = crate::issuer::show(&house, "id_opk-cert.pub");
    println!("{shown}");
    for own in ["id_ed25519", "id_ed25519.pub", "id_ed25519-cert.pub"] {
        std::fs::remove_file(house.file(own)).expect("the house has it");
    }
    let mut ssh = house.client("ssh");
    for (option, file) in [("IdentityFile", "id_opk"), ("CertificateFile", "id_opk-cert.pub")] {
        ssh.arg("-o").arg(format!("{option}={}", house.file(file).display()));
    }
    let output = finish(ssh.args(["demo.web@porthole", "echo in"]));
    assert_eq!(text(&output.stdout), "in\n", "{}\n{:#?}", text(&output.stderr), house.audit());
    let login = house.await_audit("login", |event| event["event"] == "login_accepted");
    assert_eq!((&login["subject"], &login["method"]), (&json!("mia"), &json!("certificate")), "{login}");
    println!("{login}");
}
