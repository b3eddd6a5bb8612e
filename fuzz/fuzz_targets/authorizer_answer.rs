//! Whatever an authorization server answers, and whatever an operator writes as a template: no panic, and no yes that
//! does not say so.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::authorize::answer::{decision, decisions};
use porthole::authorize::template::Template;

fuzz_target!(|text: &str| {
    if let Ok(answer) = serde_json::from_str::<serde_json::Value>(text) {
        let says_yes = answer.as_bool() == Some(true) || answer["allow"].as_bool() == Some(true);
        assert!(decision(answer.clone()).is_ok_and(|decision| decision.allow) <= says_yes);
        let _ = decisions(answer);
    }
    if let Ok(template) = Template::parse(text) {
        assert!(template.texts().all(|text| !text.contains(['{', '}'])));
    }
});
