//! Where the lines go: a thread of its own, which alone touches the file.
//!
//! A write to a pipe that nobody reads, or to a disk that has gone away, may wait for ever, and what waits inside the
//! runtime keeps it from ending. So the thread waits, and nobody waits for the thread longer than the deadline. Guards: a
//! line is whole or has failed, the next one begins at a line's start, and it goes to the file that has the path *now*,
//! whoever renamed or deleted the one before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Lines that may wait for the thread: a burst of logins, and a few megabytes at the very most.
const WAITING_LINES: usize = 128;

/// The way to the thread, which ends when this is dropped.
pub struct Sink {
    orders: mpsc::Sender<Order>,
    /// Set when a deadline has passed, and by the thread's next success unset: meanwhile nobody waits.
    stalled: Arc<AtomicBool>,
    deadline: Duration,
}

enum Order {
    Write(Vec<u8>, Done),
    Reopen(Done),
}

type Done = oneshot::Sender<io::Result<()>>;

/// What the thread owns.
struct Trail {
    /// None is stdout, which nobody rotates.
    path: Option<PathBuf>,
    file: File,
    identity: (u64, u64),
    /// Whether the file ends in the middle of a line.
    torn: bool,
}

impl Sink {
    /// Opens the file, or stdout, within `deadline`: a pipe opens only when somebody reads it.
    pub async fn open(path: Option<PathBuf>, deadline: Duration) -> io::Result<Sink> {
        let (orders, taken) = mpsc::channel(WAITING_LINES);
        let (done, opened) = oneshot::channel();
        let stalled = Arc::new(AtomicBool::new(false));
        let moves = Arc::clone(&stalled);
        thread::Builder::new().name("audit".to_owned()).spawn(move || follow(path, taken, done, &moves))?;
        match timeout(deadline, opened).await {
            Ok(opened) => opened.unwrap_or_else(|_| Err(ended()))?,
            Err(_) => return Err(late()),
        }
        Ok(Sink { orders, stalled, deadline })
    }

    pub async fn write(&self, line: Vec<u8>) -> io::Result<()> {
        self.order(|done| Order::Write(line, done)).await
    }

    pub async fn reopen(&self) -> io::Result<()> {
        self.order(Order::Reopen).await
    }

    async fn order(&self, order: impl FnOnce(Done) -> Order) -> io::Result<()> {
        let (done, finished) = oneshot::channel();
        let order = order(done);
        if self.stalled.load(Ordering::Relaxed) {
            // It counts as failed, and is there all the same once the thread moves again, if there is room.
            let _ = self.orders.try_send(order);
            return Err(late());
        }
        let carried_out = async {
            self.orders.send(order).await.map_err(|_| ended())?;
            finished.await.unwrap_or_else(|_| Err(ended()))
        };
        timeout(self.deadline, carried_out).await.unwrap_or_else(|_| {
            self.stalled.store(true, Ordering::Relaxed);
            Err(late())
        })
    }
}

/// The thread's whole life.
fn follow(path: Option<PathBuf>, mut orders: mpsc::Receiver<Order>, opened: Done, stalled: &AtomicBool) {
    let mut trail = match Trail::open(path) {
        Ok(trail) => trail,
        Err(error) => return drop(opened.send(Err(error))),
    };
    // Whoever has given up the wait hears nothing more.
    let _ = opened.send(Ok(()));
    while let Some(order) = orders.blocking_recv() {
        let (result, done) = match order {
            Order::Write(line, done) => (trail.write(&line), done),
            Order::Reopen(done) => (trail.reopen(), done),
        };
        stalled.store(false, Ordering::Relaxed);
        let _ = done.send(result);
    }
}

impl Trail {
    fn open(path: Option<PathBuf>) -> io::Result<Trail> {
        let file = match &path {
            Some(path) => OpenOptions::new().create(true).append(true).mode(0o600).open(path)?,
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        let metadata = file.metadata()?;
        let torn = metadata.is_file() && path.as_deref().is_some_and(|path| ends_within_a_line(path).unwrap_or(false));
        Ok(Trail { identity: (metadata.dev(), metadata.ino()), path, file, torn })
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Trail::open(self.path.clone())?;
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_replaced() {
            self.reopen()?;
        }
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the path is no longer this file's: it was rotated away or deleted.
    fn is_replaced(&self) -> bool {
        let Some(path) = &self.path else { return false };
        !fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }
}

/// Whether a crash, or a full disk, has left half a line at the end.
fn ends_within_a_line(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "it takes nothing (audit.deadline)")
}

fn ended() -> io::Error {
    io::Error::other("its thread has ended")
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_line_after_half_a_line_begins_a_new_one() {
        // A socket that does not wait takes part of a long line and then fails, as a full disk does.
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a socket");
        let mut trail = Trail { path: None, file: File::from(OwnedFd::from(ours)), identity: (0, 0), torn: false };
        let long = vec![b'x'; 8 << 20];
        assert_eq!(trail.write(&long).expect_err("too much for it").kind(), io::ErrorKind::WouldBlock);
        assert!(trail.torn);
        let mut taken = vec![0; 8 << 20];
        theirs.set_nonblocking(true).expect("a socket");
        while theirs.read(&mut taken).is_ok() {}
        trail.write(b"whole\n").expect("there is room");
        let length = theirs.read(&mut taken).expect("it is there");
        assert_eq!(taken.get(..length), Some(&b"\nwhole\n"[..]));
        assert!(!trail.torn);
    }

    #[tokio::test]
    async fn half_a_line_of_an_earlier_run_is_ended_first() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "{\"half\":").expect("writable");
        let sink = Sink::open(Some(file.path().to_owned()), Duration::from_secs(60)).await.expect("open");
        sink.write(b"whole\n".to_vec()).await.expect("written");
        assert_eq!(fs::read_to_string(file.path()).expect("text"), "{\"half\":\nwhole\n");
    }
}
