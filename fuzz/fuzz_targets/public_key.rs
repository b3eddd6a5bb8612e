//! No line makes the reader of keys panic, and what it takes for a key is one: short, strong, and read again as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::auth::issuer::{PUBLIC_KEY_MAX_BYTES, parse_public_key};

fuzz_target!(|bytes: &[u8]| {
    match parse_public_key(bytes) {
        Ok(key) => {
            assert!(bytes.len() <= PUBLIC_KEY_MAX_BYTES);
            let line = key.to_openssh().expect("it came from one");
            assert!(!line.contains(char::is_control) && !key.algorithm().as_str().contains("-cert-"), "{line:?}");
            let again = parse_public_key(line.as_bytes()).expect("its own form");
            assert_eq!(again.key_data(), key.key_data());
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control), "{error:?}"),
    }
});
