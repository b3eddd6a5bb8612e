//! Any bytes are frames of a client or an error, in bounded memory, and no more comes out than went in.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use porthole::listen::websocket::tunnel::Tunnel;
use tokio::io::AsyncReadExt as _;
use tokio_tungstenite::tungstenite::protocol::Role;

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let out = runtime.block_on(async {
        let io = tokio::io::join(bytes, tokio::io::sink());
        let mut tunnel = Tunnel::new(io, Role::Server, Duration::from_secs(3600)).await;
        let mut out = Vec::new();
        // The end, or why there is none.
        let _ = tunnel.read_to_end(&mut out).await;
        out.len()
    });
    assert!(out <= bytes.len(), "{out} bytes out of {}", bytes.len());
});
