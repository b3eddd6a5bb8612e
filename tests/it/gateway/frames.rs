//! WebSocket frames as no client would send them: each ends its own connection, with its reason, and nothing else.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::Command;

use serde_json::json;

use super::issuer::Issuer;
use super::request::UPGRADE;
use super::websocket::house;
use crate::house::{House, PATIENCE, finish, text};

/// A WebSocket whose frames are written by hand.
fn open(house: &House, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", house.gateway_port())).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "{UPGRADE}Authorization: Bearer {token}\r\n\r\n").expect("open");
    let answer = crate::house::read_until(&mut stream, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // RFC 6455 section 1.3 has this key and its answer.
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame");
    let mut banner = vec![0; usize::from(head[1])];
    stream.read_exact(&mut banner).expect("all of it");
    assert!(head[0] == 0x82 && banner.starts_with(b"SSH-2.0-") && banner.ends_with(b"\r\n"), "{}", text(&banner));
    stream
}

/// A client's frame: its first byte, and its payload under a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ ..=125 => vec![0x80 | short as u8],
        long => [&[0xff][..], &(long as u64).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

#[test]
fn hostile_frames_end_their_own_connection_with_a_reason() {
    let issuer = Issuer::start();
    let house = house(&issuer, "");
    let token = issuer.token(json!({}));
    let unmasked = [&[0x82, 5][..], b"hello"].concat();
    let endless_length = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let first = frame(0x02, b"SSH-");
    let endless_fragments: Vec<u8> =
        std::iter::once(first).chain((0..80).map(|_| frame(0, &[b'x'; 4096]))).flatten().collect();
    for (frames, reason, code) in [
        (frame(0x81, b"SSH-2.0-x\r\n"), "websocket_text", 1003),
        (frame(0x81, &[0xff, 0xfe]), "websocket_text", 1003),
        (endless_length, "websocket_too_long", 1009),
        (frame(0x82, &[0; 300_000]), "websocket_too_long", 1009),
        (endless_fragments, "websocket_too_long", 1009),
        (unmasked, "websocket_protocol", 1002),
        (frame(0xc2, b"x"), "websocket_protocol", 1002),
        (frame(0x83, b"x"), "websocket_protocol", 1002),
        (frame(0x8b, b"x"), "websocket_protocol", 1002),
        (frame(0x89, &[0; 126]), "websocket_protocol", 1002),
        (frame(0x09, b"x"), "websocket_protocol", 1002),
        (frame(0x80, b"x"), "websocket_protocol", 1002),
        (frame(0x88, b"x"), "websocket_protocol", 1002),
    ] {
        let mut stream = open(&house, &token);
        // It may be refused before all of it is sent, and then the goodbye may be lost with the rest.
        let whole = stream.write_all(&frames).is_ok() && frames.len() < 1000;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let closed = house.await_audit(reason, |event| event["event"] == "connection_closed");
        assert_eq!(closed["reason"], reason, "{:?}", frames.get(..20));
        if whole {
            let said = answer.windows(4).any(|part| part[0] == 0x88 && part[2..] == u16::to_be_bytes(code));
            assert!(said, "no close code {code}: {answer:?}");
        }
        std::fs::write(house.file("audit.jsonl"), "").expect("writable");
    }
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    assert!(!house.log().contains("panicked"), "{}", house.log());
}

#[test]
fn floods_cost_no_memory() {
    let issuer = Issuer::start();
    let house = house(&issuer, "");
    let token = issuer.token(json!({}));
    let pings = frame(0x89, &[0; 125]).repeat(1000);
    let empty = [frame(0x02, b""), frame(0, b"").repeat(10_000)].concat();
    open(&house, &token).shutdown(Shutdown::Both).expect("open");
    let before = house.memory_kib();
    for flood in [pings, empty] {
        let mut stream = open(&house, &token);
        stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).expect("a socket");
        // 27 MB of pings whose answers nobody reads; fragments that never come to anything.
        for _ in 0..200 {
            if stream.write_all(&flood).is_err() {
                break;
            }
        }
        // While the connection is still there.
        let after = house.memory_kib();
        assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
    }
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
}

#[test]
fn a_client_that_answers_no_ping_is_gone_and_one_that_does_stays() {
    let issuer = Issuer::start();
    let house = house(&issuer, "ping-interval = \"200ms\"");
    let token = issuer.token(json!({}));
    let stream = open(&house, &token);
    let mut other = open(&house, &token);
    // Answers until the silent one is gone.
    for _ in 0..6 {
        let mut ping = [0; 2];
        other.read_exact(&mut ping).expect("a ping");
        assert_eq!(ping, [0x89, 0]);
        other.write_all(&frame(0x8a, b"")).expect("open");
    }
    let closed = house.await_audit("end", |event| event["event"] == "connection_closed");
    assert_eq!(closed["reason"], "websocket_silent");
    other.write_all(&frame(0x88, b"")).expect("it is still open");
    let mut rest = Vec::new();
    other.read_to_end(&mut rest).expect("an orderly end");
    assert!(rest.contains(&0x88), "{rest:?}");
    drop(stream);
}

#[test]
fn a_request_that_does_not_come_is_not_waited_for() {
    let issuer = Issuer::start();
    let house = house(&issuer, "request-deadline = \"1s\"\nmax-connections = 2");
    let port = house.gateway_port();
    let slow: Vec<_> = ["", "GET /ssh HTTP/1.1\r\nHost: x\r\n"]
        .into_iter()
        .map(|words| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream.write_all(words.as_bytes()).expect("open");
            stream
        })
        .collect();
    for mut stream in slow {
        // An end or a reset, and not the patience of this test.
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it was waited for");
    }
    // A head without end, and one with too much in it.
    for head in [format!("GET /{} HTTP/1.1\r\n", "a".repeat(100_000)), "x: y\r\n".repeat(20_000)] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    }
    open(&house, &issuer.token(json!({})));
}

#[test]
fn strangers_take_no_gateways_place() {
    let issuer = Issuer::start();
    let house =
        house(&issuer, "trusted-networks = [\"127.0.0.2/32\"]\nmax-connections = 1\nrequest-deadline = \"5m\"\n");
    let port = house.gateway_port();
    let mut silent = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    silent.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let late = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    // The newest of the strangers has the place.
    let ended = silent.read_to_end(&mut Vec::new());
    assert!(!ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "there was room for one more");
    // A gateway's request is answered, if only to say that it brings no token.
    let mut gateway = Command::new("curl");
    gateway.args(["-sS", "--interface", "127.0.0.2", "-w", "\n%{http_code}", &format!("http://127.0.0.1:{port}/ssh")]);
    let answer = text(&finish(&mut gateway).stdout);
    assert!(answer.contains("token_missing") && answer.ends_with("\n401"), "{answer}");
    drop(late);
}
