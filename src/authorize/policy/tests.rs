//! The policy as its author sees it: a file, questions, answers.

use super::*;

#[test]
fn the_example_loads() {
    Policy::load(concat!(env!("CARGO_MANIFEST_DIR"), "/config/policy.toml").as_ref())
        .unwrap_or_else(|error| panic!("{error}"));
}
