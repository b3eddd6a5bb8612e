//! A stream on which no PROXY protocol header may come (any more).
//!
//! A client that could send one would choose its own address. No SSH client begins so (RFC 4253 section 4.2), hence one
//! that does is caught at its first bytes, whatever reads them. Waiting for those bytes before would stop clients that
//! wait for the server's banner, so they are looked at as they pass.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Fault;
use super::proxy_protocol::BEGINNINGS;

/// The stream.
pub struct Unannounced<T> {
    io: T,
    /// The first bytes, for as long as they could be a header's; then none.
    first: Option<Vec<u8>>,
}

impl<T> Unannounced<T> {
    pub fn new(io: T) -> Unannounced<T> {
        Unannounced { io, first: Some(Vec::new()) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Unannounced<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        let Some(first) = &mut self.first else { return Poll::Ready(Ok(())) };
        let longest = BEGINNINGS.iter().map(|beginning| beginning.len()).max().unwrap_or(0);
        let came = buffer.filled().get(before..).unwrap_or_default();
        first.extend(came.iter().take(longest.saturating_sub(first.len())));
        if BEGINNINGS.iter().any(|beginning| first.starts_with(beginning)) {
            return Poll::Ready(Err(Fault::ProxyHeaderUntrusted.into()));
        }
        if !BEGINNINGS.iter().any(|beginning| beginning.starts_with(first)) {
            self.first = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Unannounced<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Reads `bytes` through the stream, a piece at a time.
    async fn read(bytes: &[u8], piece: usize) -> Result<Vec<u8>, Option<Fault>> {
        let mut stream = Unannounced::new(bytes);
        let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return Ok(all),
                Ok(length) => all.extend_from_slice(&buffer[..length]),
                Err(error) => return Err(Fault::of(&error)),
            }
        }
    }

    #[tokio::test]
    async fn a_header_is_caught_however_it_is_cut_and_all_else_passes() {
        for piece in [1, 3, 5, 100] {
            for header in [b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n".as_slice(), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0"] {
                assert_eq!(read(header, piece).await, Err(Some(Fault::ProxyHeaderUntrusted)), "{header:?}");
            }
            for other in [b"SSH-2.0-x\r\nPROXY TCP4".as_slice(), b"PROXIES", b"\r\n\r\nhello", b"P", b""] {
                assert_eq!(read(other, piece).await, Ok(other.to_vec()));
            }
        }
    }
}
