//! Any bytes are a PROXY header or none; what is read is no more than the header, and no client is somebody's invention.
#![no_main]

use libfuzzer_sys::fuzz_target;
use porthole::listen::proxy_protocol::{Header, parse, read};

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut rest = bytes;
    let streamed = runtime.block_on(read(&mut rest));
    let taken = &bytes[..bytes.len() - rest.len()];
    if let Ok(Header::Client { source, .. }) = &streamed {
        assert!(taken.len() >= 16, "{taken:?}");
        // Ours and the library's reading of the same bytes agree.
        assert_eq!(parse(taken), streamed);
        assert_eq!(source.ip(), source.ip().to_canonical());
    }
    // The parser alone, of what the reader would have stopped before.
    let _ = parse(bytes);
});
