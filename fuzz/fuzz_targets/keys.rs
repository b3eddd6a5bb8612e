//! Whatever a terminal sends, in whatever pieces: every byte is read once, and what is left is the end of what came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::menu::keys::Keys;

fuzz_target!(|pieces: Vec<&[u8]>| {
    let mut keys = Keys::default();
    let mut sent = Vec::new();
    for piece in pieces {
        keys.push(piece);
        sent.extend_from_slice(piece);
        while keys.next().is_some() {}
        assert!(!keys.ready(), "it waits for nothing");
    }
    if keys.waits() {
        keys.settle();
        keys.next();
        assert!(!keys.waits() && !keys.ready());
    }
    keys.push(&sent);
    keys.next();
    assert!(sent.ends_with(&keys.rest()));
});
