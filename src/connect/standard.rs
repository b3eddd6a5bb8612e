//! Standard input and output, as fast as what they are allows.
//!
//! ssh gives its `ProxyCommand` two pipes, which the runtime can wait for by itself. Anything else (a file, a terminal) is
//! read and written in a thread.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::pipe;

pub fn input() -> Box<dyn AsyncRead + Unpin> {
    match own(io::stdin()).and_then(pipe::Receiver::from_owned_fd) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdin()),
    }
}

pub fn output() -> Box<dyn AsyncWrite + Unpin> {
    match own(io::stdout()).and_then(pipe::Sender::from_owned_fd) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(tokio::io::stdout()),
    }
}

fn own(stream: impl AsFd) -> io::Result<std::os::fd::OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}
