//! SSH in a WebSocket: who comes by the gateway with a token is asked nothing, and who comes otherwise is told why not.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use super::issuer::{Issuer, now};
use super::programs::Gateway;
use super::request::upgrade;
use crate::forwards::Forwarder;
use crate::house::{House, PROGRAM, Plan, Preparation, cluster, finish, finish_with, read_until, text};

/// A house that takes gateways from loopback, or as `http` says instead.
pub fn house(issuer: &Issuer, http: &str) -> House {
    build(issuer, http, None)
}

fn build(issuer: &Issuer, http: &str, before: Option<Preparation>) -> House {
    let trusted = if http.contains("trusted-networks") { "" } else { "trusted-networks = [\"127.0.0.0/8\"]\n" };
    let config = format!("[http]\naddress = \"127.0.0.1:0\"\n{trusted}{http}\n{}", issuer.config());
    House::build(Plan { config, before, ..Plan::default() })
}

/// The shipped configuration of nginx, before this house.
pub fn nginx(house: &House, proxy: &str, more: &str) -> Option<Gateway> {
    let shipped = include_str!("../../../deploy/gateway/nginx.conf");
    let upstream = format!("{proxy}://127.0.0.1:{};\n{more}", house.gateway_port());
    Gateway::nginx(
        house.folder(),
        &shipped.replace("0.0.0.0:8443", "@LISTEN@").replace("http://porthole:8080;", &upstream),
    )
}

/// ssh or scp through a WebSocket, with nothing but the token, which is in the house's file `token`.
fn client(house: &House, program: &str, url: &str) -> Command {
    let token = house.file("token");
    let proxy = format!("ProxyCommand={PROGRAM} connect {url} --token-file {}", token.display());
    let mut client = house.client(program);
    client.args(["-o", &proxy, "-o", "PreferredAuthentications=none"]);
    client
}

fn ssh(house: &House, url: &str, command: &str) -> Output {
    finish(client(house, "ssh", url).args(["demo.web@porthole", command]))
}

fn bring(house: &House, token: &str) {
    fs::write(house.file("token"), token).expect("writable");
}

#[test]
fn through_nginx_a_token_is_a_login_and_nothing_is_asked() {
    let issuer = Issuer::start();
    let http = "trusted-networks = [\"127.0.0.9/32\"]\nclient-address-header = \"X-Forwarded-For\"\n";
    let house = house(&issuer, http);
    let Some(gateway) = nginx(&house, "http", "proxy_bind 127.0.0.9;") else { return };
    bring(&house, &issuer.token(json!({})));
    let output = ssh(&house, &format!("ws://127.0.0.1:{}/tools/ssh", gateway.port), "echo in; exit 3");
    assert_eq!((text(&output.stdout), output.status.code()), ("in\n".into(), Some(3)), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    house.await_audit("end", |event| event["event"] == "connection_closed");
    let trail = house.audit();
    let find = |name: &str| trail.iter().find(|event| event["event"] == name).expect("it is there");
    let opened = find("connection_opened");
    assert_eq!(opened["peer"], "127.0.0.1:0", "the client's own address: {opened}");
    assert!(opened["gateway"].as_str().is_some_and(|gateway| gateway.starts_with("127.0.0.9:")), "{opened}");
    let login = find("login_accepted");
    assert_eq!(
        (&login["subject"], &login["method"], &login["login"]),
        (&"dev".into(), &"token".into(), &"demo.web".into())
    );
    assert_eq!(login["connection"], opened["connection"]);
}

#[test]
fn through_nginx_files_arrive_whole_and_ports_are_reached() {
    let issuer = Issuer::start();
    // Each session has a container and files of its own; the target's volumes outlive it.
    let shared = format!("[profiles.shared]\nimage = \"{}\"\ntarget-mounts = true\n", cluster().tools);
    let house = house(&issuer, &shared);
    let Some(gateway) = nginx(&house, "http", "") else { return };
    bring(&house, &issuer.token(json!({})));
    let url = format!("ws://127.0.0.1:{}/tools/ssh", gateway.port);

    let forward = Forwarder::open_by(client(&house, "ssh", &url), &house, "mux", "-L", ":localhost:8080");
    let mut stream = forward.connect();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("open");
    let mut page = Vec::new();
    stream.read_to_end(&mut page).expect("an end");
    assert!(text(&page).starts_with("HTTP/1."), "{}", text(&page));

    let mut random = fs::File::open("/dev/urandom").expect("it is there").take(200 << 20);
    let mut sent = fs::File::create(house.file("sent")).expect("writable");
    std::io::copy(&mut random, &mut sent).expect("writable");
    let remote = format!("/data/gateway-{}", house.port);
    let place = format!("demo.web~shared@porthole:{remote}");
    for (from, to) in
        [(house.file("sent").display().to_string(), place.clone()), (place, house.file("back").display().to_string())]
    {
        let output = finish(client(&house, "scp", &url).args([&from, &to]));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let sum = |name: &str| {
        text(&finish(Command::new("sha256sum").stdin(fs::File::open(house.file(name)).expect("there"))).stdout)
    };
    assert_eq!(sum("sent"), sum("back"));
    house.ssh("demo.web~shared", &format!("rm {remote}"));
}

#[test]
fn each_refusal_has_its_reason_for_the_person_and_for_the_operator() {
    let issuer = Issuer::start();
    let house = house(&issuer, "");
    let port = house.gateway_port();
    let bearer = |claims: Value| format!("Authorization: Bearer {}\r\n", issuer.token(claims));
    let good = bearer(json!({}));
    let none = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.";
    for (headers, status, code) in [
        (String::new(), 401, "token_missing"),
        ("Authorization: Basic ZGV2OmRldg==\r\n".to_owned(), 401, "token_missing"),
        ("Authorization: Bearer nonsense\r\n".to_owned(), 401, "token_malformed"),
        (format!("Authorization: Bearer {none}\r\n"), 401, "token_issuer"),
        (format!("Authorization: Bearer {}\r\n", "a".repeat(20_000)), 401, "token_too_large"),
        (format!("Authorization: Bearer {}\r\n", issuer.forged()), 401, "token_signature"),
        (bearer(json!({ "exp": now() - 120 })), 401, "token_expired"),
        (bearer(json!({ "nbf": now() + 120 })), 401, "token_not_yet_valid"),
        (bearer(json!({ "aud": "payroll" })), 401, "token_audience"),
        (bearer(json!({ "iss": "http://elsewhere" })), 401, "token_issuer"),
        (format!("{good}{good}"), 401, "token_ambiguous"),
        (format!("{good}Origin: https://evil.example\r\n"), 403, "browser_refused"),
    ] {
        let answer = upgrade(port, &headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")) && answer.contains("\"message\":\""), "{answer}");
        let challenge = answer.to_ascii_lowercase().contains("www-authenticate: bearer");
        assert_eq!(challenge, status == 401, "{answer}");
        assert_eq!(answer.contains("error=\"invalid_token\""), challenge && code != "token_missing", "{answer}");
        let refused = house.await_audit(code, |event| event["event"] == "login_refused");
        assert_eq!((&refused["code"], &refused["method"]), (&code.into(), &"token".into()));
        assert!(!refused.to_string().contains("eyJ"), "a token is in the audit trail: {refused}");
        fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    assert!(upgrade(port, &good).starts_with("HTTP/1.1 101 "));
    assert!(upgrade(port, &good.replace("Bearer", "bearer")).starts_with("HTTP/1.1 101 "));
    assert!(!house.log().contains("eyJ"), "a token is in the log");

    // What the person sees of it, at the end of a ProxyCommand.
    bring(&house, &issuer.token(json!({ "exp": now() - 120 })));
    let output = ssh(&house, &format!("ws://127.0.0.1:{port}/ssh"), "true");
    assert_eq!(output.status.code(), Some(255));
    let said = text(&output.stderr);
    let line = format!(
        "porthole: 127.0.0.1:{port} refused with 401 Unauthorized: your login is over: log in again (token_expired)"
    );
    assert!(said.contains(&line), "{said}");
}

#[test]
fn another_program_that_carries_binary_messages_serves_as_well() {
    if !Command::new("websocat").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: websocat is not installed");
        return;
    }
    let issuer = Issuer::start();
    let house = house(&issuer, "");
    let (token, port) = (issuer.token(json!({})), house.gateway_port());
    // As README has it.
    let proxy = format!(
        "ProxyCommand=websocat --binary --header=\"Authorization: Bearer {token}\" ws://127.0.0.1:{port}/tools/ssh"
    );
    let mut client = house.client("ssh");
    client.args(["-o", &proxy, "-o", "PreferredAuthentications=none", "demo.web@porthole", "sha256sum; exit 3"]);
    let sent: Vec<u8> = (0..8_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let output = finish_with(&mut client, &sent);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    fs::write(house.file("sent"), &sent).expect("writable");
    let sum = text(&finish(Command::new("sha256sum").arg(house.file("sent"))).stdout);
    assert_eq!(text(&output.stdout).split(' ').next(), sum.split(' ').next());
}

#[test]
fn only_a_trusted_gateway_may_bring_a_token() {
    let issuer = Issuer::start();
    let house = house(&issuer, "trusted-networks = [\"127.0.0.9/32\"]");
    let answer = upgrade(house.gateway_port(), &format!("Authorization: Bearer {}\r\n", issuer.token(json!({}))));
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("gateway_untrusted"), "{answer}");
    house.await_audit("refusal", |event| event["code"] == "gateway_untrusted");
}

#[test]
fn a_gateway_is_trusted_by_its_certificate_too() {
    let issuer = Issuer::start();
    let http = "trusted-networks = []\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient-ca = \"ca.pem\"\n\
                max-connections = 2\nrequest-deadline = \"5m\"";
    let house = build(&issuer, http, Some(Box::new(certificates)));
    // Strangers who show nothing take no place from those who will.
    let silent: Vec<_> =
        (0..5).map(|_| TcpStream::connect(("127.0.0.1", house.gateway_port())).expect("a server")).collect();
    let file = |name: &str| house.file(name).display().to_string();
    bring(&house, &issuer.token(json!({})));
    let direct = format!("wss://localhost:{}/ssh --ca-file {}", house.gateway_port(), file("ca.pem"));
    let output = ssh(&house, &direct, "exit 3");
    assert!(text(&output.stderr).contains("(gateway_untrusted)"), "without a certificate: {}", text(&output.stderr));
    let show = format!(
        "proxy_ssl_certificate {}; proxy_ssl_certificate_key {}; proxy_ssl_trusted_certificate {}; \
         proxy_ssl_verify on; proxy_ssl_name localhost;",
        file("gateway.pem"),
        file("gateway.key"),
        file("ca.pem")
    );
    let Some(gateway) = nginx(&house, "https", &show) else { return };
    let output = ssh(&house, &format!("ws://127.0.0.1:{}/tools/ssh", gateway.port), "exit 3");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    drop(silent);
}

#[test]
fn a_gateway_that_has_shown_its_certificate_loses_its_place_to_no_stranger() {
    let issuer = Issuer::start();
    let http = "trusted-networks = []\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient-ca = \"ca.pem\"\n\
                max-connections = 2\nrequest-deadline = \"5m\"";
    let house = build(&issuer, http, Some(Box::new(certificates)));
    let mut early = early_gateway(&house);
    let silent: Vec<_> =
        (0..5).map(|_| TcpStream::connect(("127.0.0.1", house.gateway_port())).expect("a server")).collect();
    let mut request = early.stdin.take().expect("piped");
    write!(request, "GET /ssh HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is still open");
    let answer = read_until(early.stdout.as_mut().expect("piped"), "\r\n");
    assert!(answer.ends_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
    early.kill().expect("a child of ours");
    early.wait().expect("a child of ours");
    drop(silent);
}

/// One that has shown its certificate, and has yet to ask.
fn early_gateway(house: &House) -> Child {
    let file = |name: &str| house.file(name).display().to_string();
    // Else it keeps its words until its end.
    let mut client = Command::new("stdbuf");
    client.args([
        "-oL",
        "openssl",
        "s_client",
        "-connect",
        &format!("localhost:{}", house.gateway_port()),
        "-CAfile",
        &file("ca.pem"),
    ]);
    client.args(["-cert", &file("gateway.pem"), "-key", &file("gateway.key")]);
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut client = client.expect("openssl is installed");
    // The server gives a ticket once the handshake is whole, the client's certificate included.
    read_until(client.stdout.as_mut().expect("piped"), "New Session Ticket arrived");
    client
}

/// A CA, and what it has signed for a server and for a gateway.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split(' ')).current_dir(folder).output().expect("openssl is installed");
        assert!(output.status.success(), "openssl {arguments}: {}", text(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    for (name, extension) in [("server", "subjectAltName=DNS:localhost"), ("gateway", "extendedKeyUsage=clientAuth")] {
        openssl(&format!(
            "req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name} -CA ca.pem -CAkey ca.key \
             -addext {extension} -addext basicConstraints=critical,CA:false"
        ));
    }
}

#[test]
fn the_session_ends_when_the_token_does_where_that_is_configured() {
    let issuer = Issuer::start();
    let config = format!(
        "[http]\naddress = \"127.0.0.1:0\"\ntrusted-networks = [\"127.0.0.0/8\"]\n{}end-session-at-expiry = true\n",
        issuer.config()
    );
    let house = House::build(Plan { config, ..Plan::default() });
    bring(&house, &issuer.token(json!({ "exp": now() + 3 })));
    let output = ssh(&house, &format!("ws://127.0.0.1:{}/ssh", house.gateway_port()), "sleep 600");
    assert_eq!(output.status.code(), Some(254));
    assert!(
        text(&output.stderr).contains("your login has ended, and this session with it"),
        "{}",
        text(&output.stderr)
    );
    house.await_audit("end", |event| event["code"] == "credential_expired");
}

#[test]
fn the_token_may_come_from_a_command_or_the_environment_and_in_any_header() {
    let issuer = Issuer::start();
    let house = house(&issuer, "token-header = \"X-Id-Token\"\ntoken-prefix = \"\"\n");
    let token = issuer.token(json!({}));
    bring(&house, &token);
    let url = format!("ws://127.0.0.1:{}/any/prefix/ssh", house.gateway_port());
    let command = format!("--token-command 'cat {}'", house.file("token").display());
    for (options, variable) in [(command.as_str(), ""), ("", token.as_str())] {
        let proxy = format!("ProxyCommand={PROGRAM} connect {url} --token-header X-Id-Token {options}");
        let mut client = house.client("ssh");
        if !variable.is_empty() {
            client.env("PORTHOLE_TOKEN", variable);
        }
        let output = finish(client.args(["-o", &proxy, "demo.web@porthole", "exit 3"]));
        assert_eq!(output.status.code(), Some(3), "{options}: {}", text(&output.stderr));
    }
}

#[test]
fn porthole_connect_says_in_one_line_what_is_wrong() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let page = std::thread::spawn(move || {
        for stream in silent.incoming().take(1).map_while(Result::ok) {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 20\r\n\r\n<h1>no\x1b[2J</h1>\nhere");
        }
    });
    for (arguments, status, line) in [
        (format!("ws://127.0.0.1:{port}/ssh"), 1, "refused with 404 Not Found: <h1>no[2J</h1> here"),
        ("http://127.0.0.1/ssh".to_owned(), 1, "is no address: use ws://HOST[:PORT]/PATH"),
        ("ws://127.0.0.1:1/ssh".to_owned(), 1, "cannot connect to 127.0.0.1:1: "),
        ("ws://127.0.0.1:1/ --header x".to_owned(), 1, "a --header is none: use 'NAME: VALUE'"),
        ("ws://127.0.0.1:1/ --token-file /nowhere".to_owned(), 1, "cannot read the token from /nowhere"),
        ("ws://127.0.0.1:1/ --token-command false".to_owned(), 1, "the token command failed with exit status: 1"),
        ("--token-file x".to_owned(), 2, "required arguments were not provided"),
    ] {
        let mut command = Command::new(PROGRAM);
        let output = finish(command.arg("connect").args(arguments.split(' ')).stdin(Stdio::null()));
        let said = text(&output.stderr);
        assert!(said.contains(line) && output.status.code() == Some(status), "{arguments}: {said}");
        assert!(status == 2 || said.trim_end().lines().count() == 1, "{said}");
    }
    page.join().expect("no panic");
}
