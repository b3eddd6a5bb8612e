//! Which algorithms are spoken: modern ones, a post-quantum key exchange first, and nothing with SHA-1.
//!
//! The client's order decides among what is offered here (RFC 4253 section 7.1), so a weak entry would be used.

use std::borrow::Cow;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey};
use russh::server::Config;
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, mac};

use super::flow;
use crate::config;

/// OpenSSH's client tells only a server of this name that nobody takes a channel's output any more (its `compat.c` and
/// `nchan.c`), which is what ends the program of `ssh host yes | head -1` (see `observed`).
const SERVER_ID: &str = "SSH-2.0-OpenSSH_Porthole";

/// No finite-field Diffie-Hellman: a stranger would make the server compute for most of a second by one packet, and every
/// client since OpenSSH 6.5 knows a curve. The two last ones are no key exchanges: they announce RFC 8308's extensions and
/// strict key exchange.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

const CIPHERS: &[cipher::Name] =
    &[cipher::CHACHA20_POLY1305, cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::AES_256_CTR];

const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// Host keys and, by `server-sig-algs`, users' signatures: no `ssh-rsa`, which is RSA with SHA-1.
const KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

/// Compression costs processor time and tells secrets by their length.
const COMPRESSION: &[compression::Name] = &[compression::NONE];

/// New keys at the latest after so many bytes: RFC 4253 section 9 recommends one gigabyte.
const REKEY_BYTES: usize = 1 << 30;

/// A refused attempt is answered after this time, whatever the reason was, so that the time tells nothing.
const REJECTION_TIME: Duration = Duration::from_millis(500);

/// Messages from channels to the connection that may wait; each is at most one packet.
const OUTGOING_MESSAGES: usize = 64;

/// russh's configuration for these settings. Keyboard-interactive is offered only where it leads somewhere.
pub fn config(settings: &config::Ssh, keys: Vec<PrivateKey>, interactive: bool) -> Config {
    let mut methods = MethodSet::from([MethodKind::PublicKey].as_slice());
    if interactive {
        methods.push(MethodKind::KeyboardInteractive);
    }
    Config {
        server_id: SshId::Standard(Cow::Borrowed(SERVER_ID)),
        methods,
        auth_rejection_time: REJECTION_TIME,
        // Every OpenSSH client asks with `none` first, to learn the methods.
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, settings.rekey_interval),
        window_size: flow::WINDOW_BYTES,
        preferred: Preferred {
            kex: Cow::Borrowed(KEX),
            key: Cow::Borrowed(KEYS),
            cipher: Cow::Borrowed(CIPHERS),
            mac: Cow::Borrowed(MACS),
            compression: Cow::Borrowed(COMPRESSION),
            ..Preferred::DEFAULT
        },
        max_auth_attempts: settings.max_auth_tries,
        event_buffer_size: OUTGOING_MESSAGES,
        // russh's own timer counts any packet as activity; keep-alives find the dead, and idling is no fault.
        inactivity_timeout: None,
        keepalive_interval: Some(settings.keepalive_interval),
        keepalive_max: settings.keepalive_max,
        nodelay: true,
        ..Config::default()
    }
}
