//! Any login name parses or is refused, and one that parses reads the same when it is written out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::target::{LOGIN_NAME_MAX_BYTES, LoginName};

fuzz_target!(|login: &str| {
    match LoginName::parse(login) {
        Ok(LoginName::Place(name)) => {
            let written = name.to_string();
            assert!(written.len() <= LOGIN_NAME_MAX_BYTES);
            assert_eq!(LoginName::parse(&written), Ok(LoginName::Place(name)));
            assert!(written.bytes().all(|byte| byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'-' | b'.' | b'+' | b'~')));
        }
        Ok(LoginName::Lobby) => assert!(!login.contains('.')),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
});
