//! The web server of the playground's pods: answers each request with the pod's name.
//!
//! It is the container's first process, started without a runtime; one thread a connection, and not many.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const MOST_CONNECTIONS: usize = 64;
/// A request's head, in bytes.
const LONGEST_HEAD: u64 = 16 * 1024;
const IDLE: Duration = Duration::from_secs(60);

pub(super) fn serve(listener: &TcpListener, body: &str) -> io::Result<i32> {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _) = listener.accept()?;
        if connections.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
            connections.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (body, connections) = (body.to_owned(), connections.clone());
        std::thread::spawn(move || {
            // What fails here is the client's connection.
            let _ = answer(stream, &body);
            connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn answer(stream: TcpStream, body: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut requests = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut head = (&mut requests).take(LONGEST_HEAD);
        let mut first = String::new();
        if head.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut last = first.contains("HTTP/1.0");
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            last |= line.to_ascii_lowercase().trim() == "connection: close";
        }
        let connection = if last { "close" } else { "keep-alive" };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n{body}",
            body.len(),
        )?;
        if last {
            return Ok(());
        }
    }
}
