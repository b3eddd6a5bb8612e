//! Whatever stands in a certificate's PK token is refused with a code and one plain line, while no issuer can be asked.
//!
//! Half of the inputs are the extension as a stranger would write it. As hardly any of those has five parts that can be read, the
//! other half are put together: headers and claims with odd values, in the right order, for the certificate's own key.
#![no_main]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use porthole::auth::certificate::{Presented, Verifier};
use porthole::auth::token::Tokens;
use porthole::config::{self, Config};
use russh::keys::signature::Signer as _;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, PrivateKey};
use serde_json::json;
use tokio::runtime::Runtime;

#[derive(Debug, Arbitrary)]
enum Input<'a> {
    Sent(&'a str),
    Made(Made<'a>),
}

#[derive(Debug, Arbitrary)]
struct Made<'a> {
    typ: Option<&'a str>,
    alg: &'a str,
    kid: Option<&'a str>,
    /// In place of the configured issuer's.
    issuer: Option<&'a str>,
    audience: Option<&'a str>,
    nonce: &'a str,
    iat: i64,
    cic_typ: Option<&'a str>,
    cic_alg: Option<&'a str>,
    own_key: bool,
    claim: Option<(&'a str, &'a str)>,
    provider_signature: &'a [u8],
    /// In place of the key's.
    own_signature: Option<&'a [u8]>,
    more: Option<&'a str>,
}

const ISSUER: &str = "http://127.0.0.1:9";

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[7; 32])), "").expect("an Ed25519 key")
});

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let issuer = config::Issuer {
        url: ISSUER.to_owned(),
        audiences: vec!["porthole".to_owned()],
        jwks_refresh_pause: std::time::Duration::from_secs(3600),
        ..config::Issuer::default()
    };
    let certificate = config::Certificate {
        pk_token_issuers: vec!["test".to_owned()],
        pk_token_audiences: vec!["opkssh".to_owned()],
        ..config::Certificate::default()
    };
    let config = Config { issuers: BTreeMap::from([("test".to_owned(), issuer)]), certificate, ..Config::default() };
    let tokens = Tokens::new(&config.issuers).expect("no file is needed");
    Verifier::open(&config.certificate, None).expect("no file is needed").believing(tokens.in_certificates(&config))
});

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn compact(made: &Made<'_>) -> String {
    let header = json!({ "typ": made.typ, "alg": made.alg, "kid": made.kid });
    let claims = json!({
        "iss": made.issuer.unwrap_or(ISSUER), "aud": made.audience.unwrap_or("opkssh"), "sub": "mia",
        "nonce": made.nonce, "iat": made.iat, "exp": made.iat,
    });
    let alg = made.cic_alg.unwrap_or("EdDSA");
    let key = KEY.public_key().key_data().ed25519().expect("of that kind");
    let x = if made.own_key { encode(key.0) } else { encode(made.nonce) };
    let mut cic = json!({
        "typ": made.cic_typ.unwrap_or("CIC"), "alg": alg, "rz": "00",
        "upk": { "alg": alg, "kty": "OKP", "crv": "Ed25519", "x": x },
    });
    if let Some((name, value)) = made.claim {
        cic[name] = json!(value);
    }
    let [header, claims, cic] = [header, claims, cic].map(|value| encode(value.to_string()));
    let own = match made.own_signature {
        Some(bytes) => encode(bytes),
        None => encode(KEY.try_sign(format!("{cic}.{claims}").as_bytes()).expect("it signs").as_bytes()),
    };
    let provider = encode(made.provider_signature);
    format!("{claims}:{header}:{provider}:{cic}:{own}{}", made.more.unwrap_or_default())
}

fn certificate(token: &str) -> Option<Certificate> {
    let holder = KEY.public_key().key_data().clone();
    let mut builder = Builder::new(vec![7; 32], holder, 0, u64::MAX).ok()?;
    builder.key_id("mia").ok()?.cert_type(CertType::User).ok()?.all_principals_valid().ok()?;
    builder.extension("openpubkey-pkt", token).ok()?;
    builder.sign(&*KEY).ok()
}

fuzz_target!(|input: Input<'_>| {
    let token = match &input {
        Input::Sent(text) => (*text).to_owned(),
        Input::Made(made) => compact(made),
    };
    let Some(certificate) = certificate(&token) else { return };
    let presented = Presented { peer: IpAddr::from([192, 0, 2, 7]), now: Timestamp::now() };
    let refusal = RUNTIME.block_on(VERIFIER.admit(&certificate, presented)).expect_err("nobody vouches for it");
    let code = refusal.code();
    let known = ["pk_token_", "token_", "issuer_unavailable"].iter().any(|start| code.starts_with(start));
    assert!(known, "{code}");
    assert!(!refusal.to_string().chars().any(char::is_control), "{refusal:?}");
});
