//! The PROXY protocol: believed from whom the configuration names, and from nobody else.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use super::programs::Gateway;
use crate::house::{House, PATIENCE, Plan, finish, text};

/// A house to which 127.0.0.1 is a load balancer.
fn house(more: &str) -> House {
    let config = format!("[listen]\nproxy-protocol-from = [\"127.0.0.1/32\"]\n{more}");
    House::build(Plan { config, ..Plan::default() })
}

/// The end of `deploy/gateway/haproxy.cfg`'s line about the server, which is the part that matters.
fn haproxy(house: &House, options: &str) -> Option<Gateway> {
    let shipped = include_str!("../../../deploy/gateway/haproxy.cfg");
    let config = shipped.replace("0.0.0.0:22", "@LISTEN@").replace("porthole:22 send-proxy-v2", options);
    Gateway::haproxy(house.folder(), &config.replace("@PORT@", &house.port.to_string()))
}

/// Says this and nothing more, and returns what came back until the end.
fn say(port: u16, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(words).expect("open");
    let mut answer = Vec::new();
    // An end or a reset; what matters is that it comes.
    let _ = stream.read_to_end(&mut answer);
    answer
}

const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

#[test]
fn behind_haproxy_the_audit_shows_the_true_address() {
    let house = house("");
    for server in ["127.0.0.1:@PORT@ send-proxy-v2 proxy-v2-options unique-id", "127.0.0.1:@PORT@ send-proxy"] {
        let Some(gateway) = haproxy(&house, server) else { return };
        let mut client = house.client("ssh");
        client.args(["-b", "127.0.0.2", "-p", &gateway.port.to_string(), "demo.web@porthole", "exit 3"]);
        let output = finish(&mut client);
        assert_eq!(output.status.code(), Some(3), "{}{}", text(&output.stderr), house.log());
        let ended = house.await_audit("end", |event| event["event"] == "connection_closed");
        let trail = house.audit();
        let find = |name: &str| trail.iter().find(|event| event["event"] == name).expect("it is there").clone();
        let opened = find("connection_opened");
        let starts = |event: &serde_json::Value, field: &str, start: &str| {
            assert!(event[field].as_str().is_some_and(|text| text.starts_with(start)), "{field}: {event}");
        };
        starts(&opened, "peer", "127.0.0.2:");
        starts(&opened, "gateway", "127.0.0.1:");
        starts(&find("login_accepted"), "peer", "127.0.0.2:");
        starts(&ended, "peer", "127.0.0.2:");
        if server.contains("unique-id") {
            assert!(opened["gateway_reference"].as_str().is_some_and(|id| id.len() == 36), "a UUID: {opened}");
        }
        std::fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
}

#[test]
fn a_health_check_is_no_failed_session() {
    let house = house("[log]\nfilter = \"info,porthole=debug\"\n");
    let looked = "a load balancer looked whether somebody is here";
    for words in [b"PROXY UNKNOWN\r\n".to_vec(), [V2_START, b"\x20\0\0\0"].concat(), Vec::new()] {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
        stream.write_all(&words).expect("open");
        stream.shutdown(Shutdown::Write).expect("open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an orderly end");
        assert_eq!(text(&answer), "", "{words:?}");
    }
    house.await_log_again(looked, 2);
    for server in ["127.0.0.1:@PORT@ send-proxy-v2", "127.0.0.1:@PORT@ send-proxy"] {
        let Some(_gateway) = haproxy(&house, server) else { break };
        house.await_log_again(looked, house.log().matches(looked).count());
    }
    assert_eq!(house.audit(), Vec::<serde_json::Value>::new());
    let log = house.log();
    assert!(!log.contains("\"ERROR\"") && !log.contains("\"WARN\""), "{log}");
}

#[test]
fn a_connection_without_a_clients_address_has_its_own_and_is_told_once_it_says_something() {
    let house = house("proxy-protocol-deadline = \"1s\"\n");
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.1 127.0.0.1 1 22\r\n".to_vec(),
        [V2_START, b"\x20\0\0\0"].concat(),
        [V2_START, b"\x20\x11\0\x0c\xc0\0\x02\x01\x7f\0\0\x01\0\x01\0\x16"].concat(),
        [V2_START, b"\x21\0\0\0"].concat(),
    ] {
        // One that speaks, and one that waits for the server to speak first.
        for words in [b"SSH-2.0-x\r\n".as_slice(), b""] {
            let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream.write_all(&[header.as_slice(), words].concat()).expect("open");
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).expect("the server's banner");
            assert_eq!(text(&answer), "SSH-2.0-", "{header:?}");
            let peer = stream.local_addr().expect("a socket").to_string();
            let opened = house.await_audit("connection", |event| {
                event["event"] == "connection_opened" && event["peer"] == peer.as_str()
            });
            assert_eq!(opened["gateway"], serde_json::Value::Null, "{opened}");
        }
    }
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn a_header_from_elsewhere_is_refused_and_others_come_in_without() {
    let house = House::build(Plan {
        config: "[listen]\nproxy-protocol-from = [\"127.0.0.9/32\"]\n".to_owned(),
        ..Plan::default()
    });
    for header in [
        b"PROXY TCP4 192.0.2.1 127.0.0.1 1 22\r\nSSH-2.0-x\r\n".to_vec(),
        [V2_START, b"\x21\x11\0\x0c\xc0\0\x02\x01\x7f\0\0\x01\0\x01\0\x16SSH-2.0-x\r\n"].concat(),
    ] {
        say(house.port, &header);
        let closed = house.await_audit("end", |event| event["event"] == "connection_closed");
        assert_eq!(closed["reason"], "proxy_header_untrusted");
        assert!(closed["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{closed}");
        std::fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
}

#[test]
fn from_a_load_balancer_only_a_whole_and_timely_header_is_taken() {
    let house = house("proxy-protocol-deadline = \"1s\"\n");
    let tail = b"\x21\x11\0\x0c\xc0\0\x02\x01\x7f\0\0\x01\0\x01\0\x16";
    for (words, stays, code) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), false, "proxy_header_missing"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false, "proxy_header_missing"),
        (b"PROXY TCP4 nobody nowhere 1 22\r\n".to_vec(), false, "proxy_header_malformed"),
        ([V2_START, &[0x41], &tail[1..]].concat(), false, "proxy_header_malformed"),
        ([V2_START, b"\x21\x11\xff\xff"].concat(), true, "proxy_header_too_long"),
        ([b"PROXY TCP4 ".as_slice(), &[b'1'; 1 << 16]].concat(), true, "proxy_header_too_long"),
        ([V2_START, &tail[..7]].concat(), false, "proxy_header_truncated"),
        ([V2_START, &tail[..7]].concat(), true, "proxy_header_late"),
        (b"PROXY TCP4 192.0.2.1 127".to_vec(), true, "proxy_header_late"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        // It may be refused before all of it is sent.
        let _ = stream.write_all(&words);
        if !stays {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let _ = stream.read_to_end(&mut Vec::new());
        let refused = house.await_audit(code, |event| event["event"] == "connection_refused");
        assert_eq!(refused["code"], code, "{words:?}");
        std::fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    // What comes with the header, in the same packet, is the client's.
    let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(&[V2_START, tail, b"SSH-2.0-x\r\n"].concat()).expect("open");
    let mut answer = vec![0; 200];
    stream.read_exact(&mut answer).expect("the server's banner, and its keys, which it sends to a client alone");
    let opened = house.await_audit("connection", |event| event["event"] == "connection_opened");
    assert_eq!(opened["peer"], "192.0.2.1:1");
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn hostile_headers_cost_no_memory_and_keep_nobody_out() {
    let half = [V2_START, b"\x21\x11\xff\xff\0\0\0"].concat();
    // The load balancer's own address, and one that may send no header.
    for from in ["127.0.0.1/32", "127.0.0.9/32"] {
        let house =
            House::build(Plan { config: format!("[listen]\nproxy-protocol-from = [\"{from}\"]\n"), ..Plan::default() });
        say(house.port, b"PROXY x\r\n");
        let before = house.memory_kib();
        // More than may be awaited at a time, each with less than a header; the connections stay.
        let held: Vec<_> = (0..600)
            .map(|n| {
                let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
                // It may be refused already.
                let _ = stream.write_all(&half[..n % half.len()]);
                stream
            })
            .collect();
        for garbage in [vec![0; 1 << 16], vec![b'P'; 1 << 16], [b"PROXY TCP4 ".as_slice(), &[b' '; 1 << 16]].concat()] {
            for _ in 0..50 {
                let mut stream = TcpStream::connect(("127.0.0.1", house.port)).expect("a server");
                let _ = stream.write_all(&garbage);
            }
        }
        let mut client = house.client("ssh");
        let output = finish(client.args(["-b", "127.0.0.2", "login@porthole", "whoami"]));
        assert!(output.status.success(), "somebody is kept out: {}", text(&output.stderr));
        let now = house.memory_kib();
        assert!(now < before + 16 * 1024, "{from}: {before} KiB before, {now} KiB with {} of them", held.len());
        drop(held);
        assert!(!house.log().contains("panicked"), "{}", house.log());
    }
}
