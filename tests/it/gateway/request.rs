//! A gateway's requests, written by hand: one for a WebSocket, one for a certificate.
//!
//! Each is one connection, and what comes back is told as it came: an answer is a text that begins with its status line.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::house::{PATIENCE, text};

/// A client's request for a WebSocket, but for its token and the end.
pub const UPGRADE: &str = "GET /ssh HTTP/1.1\r\nHost: porthole\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Asks for a WebSocket: the answer up to its end, or up to its headers where there is one now.
pub fn upgrade(port: u16, headers: &str) -> String {
    send(port, format!("{UPGRADE}{headers}\r\n").as_bytes())
}

/// Asks for a certificate of the key in `body`.
pub fn certificate(port: u16, headers: &str, body: &[u8]) -> String {
    let length = body.len();
    let head = format!("POST /certificate HTTP/1.1\r\nHost: porthole\r\nContent-Length: {length}\r\n{headers}\r\n");
    send(port, &[head.as_bytes(), body].concat())
}

/// Sends this request.
pub fn send(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // It may be answered before all of it is sent.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.starts_with(b"HTTP/1.1 101") || !answer.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => answer.push(byte[0]),
            Ok(_) => break,
            Err(error) => panic!("{error} after {:?}", text(&answer)),
        }
    }
    text(&answer)
}

/// What stands after an answer's headers.
pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no headers end in {answer:?}")).1
}
