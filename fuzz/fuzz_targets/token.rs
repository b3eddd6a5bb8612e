//! Whatever a stranger calls an `id_token` is refused with a code and one plain line, and never more than read.
//!
//! No issuer is configured, so no token can be believed: what runs is everything before a key would be looked for.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use porthole::auth::token::Tokens;

fuzz_target!(|token: &str| {
    let tokens = Tokens::new(&BTreeMap::new()).expect("no issuer needs no file");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let refusal = runtime.block_on(tokens.verify(token)).expect_err("nobody vouches for it");
    assert!(refusal.code().starts_with("token_"));
    assert!(!refusal.to_string().chars().any(char::is_control));
});
