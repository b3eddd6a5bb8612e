//! The PROXY protocol, versions 1 and 2: whom a load balancer says it speaks for.
//!
//! Whoever may send a header says who somebody is, by address; so only configured networks may, and from those it must
//! come. Not one byte beyond the header is read, so what follows is the next reader's. The header is bounded in size, and
//! whoever calls `read` bounds its time.
//!
//! The form is HAProxy's `doc/proxy-protocol.txt`.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader, Tlv};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How a header of version 1 begins, and one of version 2.
pub const BEGINNINGS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// What tells the versions apart, and is shorter than any header.
const START_BYTES: usize = 12;
/// A line of version 1, by the specification.
const LINE_MAX_BYTES: usize = 107;
/// Of version 2: the start, the version, the family, and two bytes of length.
const FIXED_BYTES: usize = 16;
/// What follows those. Addresses take 36 bytes (216 for Unix sockets), a client certificate's fields some hundred more;
/// the specification asks for at least 536 in all.
const VARIABLE_MAX_BYTES: usize = 4096;
/// The byte of version 2 that says version and command; this one is LOCAL.
const LOCAL: u8 = 0x20;
/// The byte of version 2 that says family and transport; this one is UNSPEC.
const UNSPECIFIED: u8 = 0x00;
/// The longest connection id, by the specification.
const REFERENCE_MAX_BYTES: usize = 128;

/// What a load balancer says of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// It is this client's.
    Client {
        source: SocketAddr,
        /// The load balancer's own name for the connection.
        reference: Option<String>,
    },
    /// It is the load balancer's own (LOCAL), or that cannot tell whose it is (UNKNOWN, UNSPEC): whoever has connected is
    /// all that is known.
    Own,
    /// None came: the peer looked whether somebody is here, and left.
    HealthCheck,
}

/// A header that cannot be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    Missing,
    Malformed,
    Truncated,
    TooLong,
    /// Its client came by a Unix socket, or by something other than TCP.
    NoAddress,
    /// It has not come by the deadline.
    Late,
}

impl HeaderError {
    /// The audit trail's word for it.
    pub fn code(self) -> &'static str {
        match self {
            HeaderError::Missing => "proxy_header_missing",
            HeaderError::Malformed => "proxy_header_malformed",
            HeaderError::Truncated => "proxy_header_truncated",
            HeaderError::TooLong => "proxy_header_too_long",
            HeaderError::NoAddress => "proxy_header_no_address",
            HeaderError::Late => "proxy_header_late",
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HeaderError::Missing => {
                "its network must send a PROXY protocol header, and this connection begins otherwise"
            }
            HeaderError::Malformed => "its PROXY protocol header cannot be understood",
            HeaderError::Truncated => "it ended in the middle of its PROXY protocol header",
            HeaderError::TooLong => "its PROXY protocol header is longer than what is taken",
            HeaderError::NoAddress => "its PROXY protocol header names no TCP client",
            HeaderError::Late => "its PROXY protocol header did not come in time (listen.proxy-protocol-deadline)",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Reads one header and nothing beyond it. A peer that leaves without a byte was looking whether somebody is here.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Header, HeaderError> {
    let mut header = vec![0; START_BYTES];
    let first = io.read(&mut header).await.map_err(|_| HeaderError::Truncated)?;
    if first == 0 {
        return Ok(Header::HealthCheck);
    }
    let rest = header.get_mut(first..).unwrap_or_default();
    let complete = io.read_exact(rest).await;
    let begins = |beginning: &[u8]| header.iter().zip(beginning).take(first).all(|(came, due)| came == due);
    if !BEGINNINGS.into_iter().any(begins) {
        return Err(HeaderError::Missing);
    }
    complete.map_err(truncated)?;
    if header.starts_with(BEGINNINGS[0]) {
        read_line(io, &mut header).await?;
    } else {
        read_block(io, &mut header).await?;
    }
    parse(&header)
}

/// Version 1: up to a line's end. A byte at a time, since only its end says how long it is.
async fn read_line(io: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> Result<(), HeaderError> {
    while header.last() != Some(&b'\n') {
        if header.len() >= LINE_MAX_BYTES {
            return Err(HeaderError::TooLong);
        }
        header.push(io.read_u8().await.map_err(truncated)?);
    }
    Ok(())
}

/// Version 2: as much as it says.
async fn read_block(io: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> Result<(), HeaderError> {
    let mut fixed = [0; FIXED_BYTES - START_BYTES];
    io.read_exact(&mut fixed).await.map_err(truncated)?;
    let [_, _, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > VARIABLE_MAX_BYTES {
        return Err(HeaderError::TooLong);
    }
    header.extend_from_slice(&fixed);
    header.resize(FIXED_BYTES + length, 0);
    let variable = header.get_mut(FIXED_BYTES..).unwrap_or_default();
    io.read_exact(variable).await.map_err(truncated)?;
    Ok(())
}

fn truncated(_: io::Error) -> HeaderError {
    HeaderError::Truncated
}

/// Understands a whole header.
pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
    // Whether it is whole is known from its own words, so "too short" means that those are wrong.
    let (header, length) = ProxyHeader::parse(bytes, ParseConfig::default()).map_err(|_| HeaderError::Malformed)?;
    if length != bytes.len() {
        return Err(HeaderError::Malformed);
    }
    let Some(address) = header.proxied_address() else {
        let unknown = bytes.starts_with(BEGINNINGS[0]) || bytes.get(START_BYTES + 1) == Some(&UNSPECIFIED);
        let local = bytes.get(START_BYTES) == Some(&LOCAL);
        return if unknown || local { Ok(Header::Own) } else { Err(HeaderError::NoAddress) };
    };
    if address.protocol != Protocol::Stream {
        return Err(HeaderError::NoAddress);
    }
    let mut reference = None;
    for field in header.tlvs() {
        if let Tlv::UniqueId(id) = field.map_err(|_| HeaderError::Malformed)? {
            reference = Some(shown(&id));
        }
    }
    let source = SocketAddr::new(address.source.ip().to_canonical(), address.source.port());
    Ok(Header::Client { source, reference })
}

/// A load balancer's name for a connection, fit for the audit trail.
fn shown(id: &[u8]) -> String {
    let id = id.get(..REFERENCE_MAX_BYTES).unwrap_or(id);
    match std::str::from_utf8(id) {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => text.to_owned(),
        _ => id.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn v2(command: u8, family: u8, variable: &[u8]) -> Vec<u8> {
        let length = u16::try_from(variable.len()).expect("short").to_be_bytes();
        [V2_START, &[command, family], &length, variable].concat()
    }

    const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 8, 0xae];

    async fn read_all(bytes: &[u8]) -> (Result<Header, HeaderError>, usize) {
        let mut rest = bytes;
        let header = read(&mut rest).await;
        (header, rest.len())
    }

    fn client(source: &str, reference: Option<&str>) -> Result<Header, HeaderError> {
        let source = source.parse().expect("an address");
        Ok(Header::Client { source, reference: reference.map(str::to_owned) })
    }

    #[tokio::test]
    async fn a_header_is_read_and_not_a_byte_more() {
        let id = [&ADDRESSES[..], &[5, 0, 4], b"ab-1", &[4, 0, 1, 0]].concat();
        let binary = [&ADDRESSES[..], &[5, 0, 2, 0, 255]].concat();
        let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 7], &[0; 16], &[0x30, 0x39, 0, 22]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 2222\r\n".to_vec(), client("192.0.2.7:12345", None)),
            (b"PROXY TCP6 2001:db8::1 ::1 12345 2222\r\n".to_vec(), client("[2001:db8::1]:12345", None)),
            (v2(0x21, 0x11, &ADDRESSES), client("192.0.2.7:12345", None)),
            (v2(0x21, 0x21, &mapped), client("192.0.2.7:12345", None)),
            (v2(0x21, 0x11, &id), client("192.0.2.7:12345", Some("ab-1"))),
            (v2(0x21, 0x11, &binary), client("192.0.2.7:12345", Some("00ff"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(Header::Own)),
            (b"PROXY UNKNOWN ff:: ff:: 1 2\r\n".to_vec(), Ok(Header::Own)),
            (v2(0x20, 0, &[]), Ok(Header::Own)),
            (v2(0x20, 0x11, &ADDRESSES), Ok(Header::Own)),
            (v2(0x21, 0x00, &[]), Ok(Header::Own)),
        ] {
            let banner = b"SSH-2.0-x\r\n";
            let (read, left) = read_all(&[&header, &banner[..]].concat()).await;
            assert_eq!((read, left), (expected, banner.len()), "{header:?}");
        }
        assert_eq!(read_all(b"").await.0, Ok(Header::HealthCheck));
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_for_its_own_reason() {
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        let long = [V2_START, &[0x21, 0x11, 0xff, 0xff]].concat();
        let short_of_addresses = v2(0x21, 0x11, &ADDRESSES[..4]);
        let broken_field = v2(0x21, 0x11, &[&ADDRESSES[..], &[5, 0, 9, 1]].concat());
        for (bytes, expected) in [
            (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), HeaderError::Missing),
            (b"SSH-".to_vec(), HeaderError::Missing),
            (b"PROXYTCP4 1.1.1.1 1.1.1.1 1 1\r\n".to_vec(), HeaderError::Missing),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345".to_vec(), HeaderError::Truncated),
            (b"PROX".to_vec(), HeaderError::Truncated),
            (b"\r\n\r\n".to_vec(), HeaderError::Truncated),
            (v2(0x21, 0x11, &ADDRESSES)[..20].to_vec(), HeaderError::Truncated),
            (endless, HeaderError::TooLong),
            (long, HeaderError::TooLong),
            (b"PROXY TCP4 localhost 10.0.0.1 12345 22\r\n".to_vec(), HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 22\n".to_vec(), HeaderError::Malformed),
            (b"PROXY TCP4 192.0.2.7 10.0.0.1 123456 22\r\n".to_vec(), HeaderError::Malformed),
            (b"PROXY TCP4\r\n\r\n\r\n\r\n".to_vec(), HeaderError::Malformed),
            (v2(0x31, 0x11, &ADDRESSES), HeaderError::Malformed),
            (v2(0x22, 0x11, &ADDRESSES), HeaderError::Malformed),
            (short_of_addresses, HeaderError::Malformed),
            (broken_field, HeaderError::Malformed),
            (v2(0x21, 0x12, &ADDRESSES), HeaderError::NoAddress),
            (v2(0x21, 0x31, &[1; 216]), HeaderError::NoAddress),
        ] {
            assert_eq!(read_all(&bytes).await.0, Err(expected), "{:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
