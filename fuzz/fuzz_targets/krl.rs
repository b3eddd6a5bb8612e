//! Any bytes are a revocation list or an error, and a list can be asked about any certificate.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use porthole::auth::certificate::Marks;
use porthole::auth::certificate::krl::Krl;
use russh::keys::ssh_key::certificate::Builder;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Algorithm, PrivateKey};

/// Of serials at the edges.
static MARKS: LazyLock<Vec<Marks>> = LazyLock::new(|| {
    let key = |seed| {
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").expect("an Ed25519 key")
    };
    assert_eq!(key(1).algorithm(), Algorithm::Ed25519);
    [0, 1, 7, 1 << 32, u64::MAX]
        .map(|serial| {
            let mut builder =
                Builder::new(vec![7; 32], key(2).public_key().key_data().clone(), 0, u64::MAX).expect("dates");
            builder.serial(serial).expect("a serial").key_id("alice").expect("a key id");
            builder.valid_principal("alice").expect("a principal");
            Marks::of(&builder.sign(&key(1)).expect("signed"))
        })
        .into()
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(krl) = Krl::parse(bytes) {
        for marks in MARKS.iter() {
            let _ = krl.revokes(marks);
        }
    }
});
