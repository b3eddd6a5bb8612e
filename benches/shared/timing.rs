//! What every bench measures by: a command to its end, and the median of the rounds.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub const BULK_BYTES: usize = 200_000_000;

/// Runs a command to its end: the time to its first byte, and in all. A failure, or other than so many bytes, is no figure.
pub fn timed(command: &mut Command, expected: Option<usize>) -> (Duration, Duration) {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut output = child.stdout.take().expect("piped");
    let mut buffer = vec![0; 1 << 16];
    let (mut first, mut bytes) = (None, 0);
    while let Ok(read @ 1..) = output.read(&mut buffer) {
        first.get_or_insert_with(|| started.elapsed());
        bytes += read;
    }
    let status = child.wait().expect("a child of ours");
    let total = started.elapsed();
    assert!(
        status.success() && expected.is_none_or(|expected| bytes == expected),
        "{status}, {bytes} bytes: {command:?}"
    );
    (first.unwrap_or(total), total)
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// So many of `BULK_BYTES` in the median time.
pub fn rate(times: &mut [Duration]) -> String {
    format!("{:.0} MB/s", BULK_BYTES as f64 / 1e6 / median(times).as_secs_f64())
}
