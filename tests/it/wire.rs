//! SSH by hand, up to the login: packets of any content and any count, encrypted as they should be.
//!
//! No client's library sends what its protocol does not have, so the key exchange is done here, with the one curve and
//! the one cipher that need no more than rustls has: its QUIC keys are AES-GCM with a nonce of the caller's choice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{cipher_suite::TLS13_AES_256_GCM_SHA384, kx_group::X25519};
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::quic::PacketKey;
use sha2::{Digest as _, Sha256};

use crate::house::PATIENCE;

const VERSION: &[u8] = b"SSH-2.0-wire";
const TAG_BYTES: usize = 16;

/// A connection whose key exchange is done, and which has asked for the service that logs people in.
pub struct Wire {
    stream: TcpStream,
    sent: Direction,
    received: Direction,
}

/// The cipher of one direction (RFC 5647, as `aes256-gcm@openssh.com` has it).
struct Direction {
    key: Box<dyn PacketKey>,
    /// The nonce's counter of the first packet.
    first: u64,
    packets: u64,
}

impl Wire {
    pub fn connect(port: u16) -> Wire {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream.write_all(&[VERSION, b"\r\n"].concat()).expect("open");
        let server_version = crate::house::read_until(&mut stream, "\r\n");
        let ours = kexinit();
        stream.write_all(&plain(&ours)).expect("open");
        let theirs = read_plain(&mut stream);
        let exchange = X25519.start().expect("random numbers");
        let public = exchange.pub_key().to_vec();
        stream.write_all(&plain(&[&[30], string(&public).as_slice()].concat())).expect("open");
        let reply = read_plain(&mut stream);
        let (host_key, rest) = split(&reply[1..]);
        let (their_public, _) = split(rest);
        let secret = exchange.complete(their_public).expect("a point on the curve");
        let secret = mpint(secret.secret_bytes());
        // The signature is not looked at: whoever answers here is the test's own server.
        let hashed = [VERSION, server_version.trim_end().as_bytes(), &ours, &theirs, host_key, &public, their_public];
        let hash = hashed.iter().fold(Sha256::new(), |hash, part| hash.chain_update(string(part)));
        let hash: [u8; 32] = hash.chain_update(&secret).finalize().into();
        assert_eq!(read_plain(&mut stream), [21]);
        stream.write_all(&plain(&[21])).expect("open");
        let derive = |letter: u8| -> [u8; 32] {
            Sha256::new()
                .chain_update(&secret)
                .chain_update(hash)
                .chain_update([letter])
                .chain_update(hash)
                .finalize()
                .into()
        };
        let (sent, received) = (Direction::new(derive(b'C'), derive(b'A')), Direction::new(derive(b'D'), derive(b'B')));
        let mut wire = Wire { stream, sent, received };
        assert!(wire.send(&[&[5], string(b"ssh-userauth").as_slice()].concat()));
        assert_eq!(wire.receive().and_then(|packet| packet.first().copied()), Some(6));
        wire
    }

    /// Sends one packet; false once the server takes nothing any more.
    pub fn send(&mut self, payload: &[u8]) -> bool {
        let padding = 16 - (payload.len() + 1) % 16;
        let padding = if padding < 4 { padding + 16 } else { padding };
        let mut body = [&[padding as u8], payload, &vec![0; padding]].concat();
        let length = (body.len() as u32).to_be_bytes();
        let number = self.sent.next();
        let tag = self.sent.key.encrypt_in_place(number, &length, &mut body).expect("short enough");
        self.stream.write_all(&[length.as_slice(), &body, tag.as_ref()].concat()).is_ok()
    }

    /// Sends bytes that are no packet.
    pub fn send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next packet that is about the login; none when the connection has ended.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).ok()?;
            let mut body = vec![0; u32::from_be_bytes(length) as usize + TAG_BYTES];
            self.stream.read_exact(&mut body).ok()?;
            let number = self.received.next();
            let opened = self.received.key.decrypt_in_place(number, &length, &mut body).expect("the server's own");
            let payload = opened[1..opened.len() - usize::from(opened[0])].to_vec();
            // A banner, what may be ignored, and the server's word before it hangs up.
            if ![53, 2, 4, 1].contains(&payload[0]) {
                return Some(payload);
            }
        }
    }

    /// Asks to log in by keyboard-interactive (RFC 4256 section 3.1).
    pub fn ask(&mut self, user: &str) -> bool {
        let fields = [user, "ssh-connection", "keyboard-interactive", "", ""].map(|field| string(field.as_bytes()));
        self.send(&[&[50], fields.concat().as_slice()].concat())
    }
}

impl Direction {
    fn new(key: [u8; 32], iv: [u8; 32]) -> Direction {
        let SupportedCipherSuite::Tls13(suite) = TLS13_AES_256_GCM_SHA384 else { panic!("it is TLS 1.3's") };
        let nonce: [u8; 12] = iv[..12].try_into().expect("twelve");
        let key = suite.quic.expect("it is QUIC's too").packet_key(AeadKey::from(key), Iv::from(nonce));
        let first = u64::from_be_bytes(nonce[4..].try_into().expect("eight"));
        Direction { key, first, packets: 0 }
    }

    /// The number by which QUIC's nonce, an exclusive or, becomes SSH's, a sum.
    fn next(&mut self) -> u64 {
        let number = self.first ^ self.first.wrapping_add(self.packets);
        self.packets += 1;
        number
    }
}

/// A string of RFC 4251.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn mpint(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let sign = bytes.first().is_some_and(|byte| *byte >= 0x80);
    string(&[if sign { &[0][..] } else { &[] }, bytes].concat())
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = u32::from_be_bytes(bytes[..4].try_into().expect("four")) as usize;
    (&bytes[4..4 + length], &bytes[4 + length..])
}

fn kexinit() -> Vec<u8> {
    let (cipher, mac) = ("aes256-gcm@openssh.com", "hmac-sha2-256-etm@openssh.com");
    let lists = ["curve25519-sha256", "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""];
    let lists: Vec<u8> = lists.iter().flat_map(|list| string(list.as_bytes())).collect();
    [&[20][..], &[7; 16], &lists, &[0; 5]].concat()
}

/// A packet before there are keys.
fn plain(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8;
    let padding = if padding < 4 { padding + 8 } else { padding };
    let length = ((1 + payload.len() + padding) as u32).to_be_bytes();
    [length.as_slice(), &[padding as u8], payload, &vec![0; padding]].concat()
}

fn read_plain(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a packet");
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).expect("all of it");
    body[1..body.len() - usize::from(body[0])].to_vec()
}
