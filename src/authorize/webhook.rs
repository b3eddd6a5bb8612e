//! A server of the company's own that is sent the question and answers with a decision. docs/webhook.schema.json has both.
//!
//! Guards: with a key, the two know each other by it. A request is signed over its time and its body, with a nonce; an
//! answer over its own time, its body and *the request's* nonce, so that no answer to another question, and no yes of
//! yesterday, is taken for this one's. The two directions are told apart in what is signed, so neither can be sent back
//! as the other.

use std::path::{Path, PathBuf};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key, Tag};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer;
use super::guarded::{Backend, ONE_BY_ONE};
use super::http::{Answer, Http, Unusable, json_headers, read_secret};
use super::query::Timeless;
use super::{Decision, Query, Unavailable};
use crate::config;

const TIMESTAMP: &str = "x-porthole-timestamp";
const NONCE: &str = "x-porthole-nonce";
const SIGNATURE: &str = "x-porthole-signature";

/// Before the hexadecimal digits of a signature.
const SCHEME: &str = "sha256=";

/// As many bytes as the hash has: fewer would be weaker than it.
const KEY_MIN_BYTES: usize = 32;

/// How far the server's clock may differ.
const LEEWAY_SECONDS: u64 = 60;

/// Questions in one request, where the server takes lists.
const AT_ONCE: usize = 250;

/// A questioned server.
pub(super) struct Webhook {
    http: Http,
    path: Url,
    key_file: Option<PathBuf>,
    batch: bool,
}

impl Webhook {
    pub(super) fn new(config: &config::authorize::Webhook) -> Result<Webhook, Unusable> {
        let http = Http::new(&config.server)?;
        let path = http.at(&config.path)?;
        if let Some(file) = &config.hmac_key_file {
            let secret = std::fs::read_to_string(file)
                .map_err(|error| Unusable(format!("cannot read {}: {error}", file.display())))?;
            check_secret(file, secret.trim_end()).map_err(Unusable)?;
        }
        Ok(Webhook { http, path, key_file: config.hmac_key_file.clone(), batch: config.batch })
    }

    async fn exchange(&self, document: &impl Serialize) -> Result<Value, Unavailable> {
        let Some(file) = &self.key_file else { return self.http.post(&self.path, document).await?.json() };
        let secret = read_secret(file).await?;
        check_secret(file, &secret).map_err(Unavailable)?;
        let key = Key::new(HMAC_SHA256, secret.as_bytes());
        let body = serde_json::to_vec(document).map_err(|error| Unavailable(format!("cannot be asked: {error}")))?;
        let (time, nonce) = (Timestamp::now().as_second().to_string(), format!("{:032x}", rand::random::<u128>()));
        let signature = hmac::sign(&key, &signed("request", &time, &nonce, &body));
        let mut headers = json_headers();
        for (name, value) in [(TIMESTAMP, time), (NONCE, nonce.clone()), (SIGNATURE, written(&signature))] {
            let value = value.parse().map_err(|_| Unavailable("cannot be asked: a header is none".to_owned()))?;
            headers.insert(name, value);
        }
        let answer = self.http.send(Method::POST, self.path.clone(), headers, body).await?;
        verify(&key, &nonce, &answer)?;
        answer.json()
    }
}

impl Backend for Webhook {
    type Question = Timeless;
    type Answer = Decision;

    fn question(&self, query: &Query) -> Result<Timeless, String> {
        Ok(Timeless(query.clone()))
    }

    fn ask<'a>(&'a self, question: &'a Timeless) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move { answer::decision(self.exchange(question).await?).map_err(Unavailable) })
    }

    fn ask_all<'a>(&'a self, questions: &'a [Timeless]) -> Option<BoxFuture<'a, Result<Vec<Decision>, Unavailable>>> {
        self.batch.then(|| -> BoxFuture<'a, _> {
            Box::pin(async move {
                let answer = self.exchange(&json!({ "queries": questions })).await?;
                answer::decisions(answer).map_err(Unavailable)
            })
        })
    }

    fn at_once(&self) -> usize {
        if self.batch { AT_ONCE } else { ONE_BY_ONE }
    }

    fn judge(&self, _: &Query, answer: &Decision) -> Decision {
        answer.clone()
    }
}

fn check_secret(file: &Path, secret: &str) -> Result<(), String> {
    match secret.len() < KEY_MIN_BYTES {
        true => Err(format!("{} has fewer than {KEY_MIN_BYTES} bytes: use `openssl rand -hex 32`", file.display())),
        false => Ok(()),
    }
}

fn signed(direction: &str, time: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    [direction.as_bytes(), b"\n", time.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body].concat()
}

fn written(signature: &Tag) -> String {
    let digits: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SCHEME}{digits}")
}

/// Whether the server that knows the key wrote this answer to the request with this nonce, just now.
fn verify(key: &Key, nonce: &str, answer: &Answer) -> Result<(), Unavailable> {
    let no = |why: &str| Unavailable(format!("its answer is not signed as it should be: {why}"));
    let time = header(&answer.headers, TIMESTAMP).ok_or_else(|| no("it has no x-porthole-timestamp"))?;
    let seconds: i64 = time.parse().map_err(|_| no("its x-porthole-timestamp is no number of seconds"))?;
    if Timestamp::now().as_second().abs_diff(seconds) > LEEWAY_SECONDS {
        return Err(no("it is from another time"));
    }
    let signature = header(&answer.headers, SIGNATURE).and_then(|text| text.strip_prefix(SCHEME)).and_then(from_hex);
    let signature = signature.ok_or_else(|| no("it has no x-porthole-signature of the form sha256=…"))?;
    // In constant time.
    hmac::verify(key, &signed("answer", time, nonce, &answer.body), &signature).map_err(|_| no("it does not verify"))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}
