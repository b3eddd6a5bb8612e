//! An authorization server of our own: it answers by a function, and misbehaves in every way that is asked for.
//!
//! One request a connection, a thread each. It can be killed, and come back under the same address.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::openssl;
use crate::house::PATIENCE;

/// How it treats the next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    Well,
    /// Takes the connection and never says a word.
    Hangs,
    /// Answers well, and ten seconds late.
    Slow,
    Status500,
    /// A 200 that is no document.
    Nonsense,
    /// A document of 50 MB.
    Huge,
    /// To itself, where it would answer well.
    Redirects,
    /// Shows a certificate that is over.
    Expired,
    /// Is not there.
    Killed,
}

impl Mode {
    pub const FAILURES: [Mode; 8] = [
        Mode::Killed,
        Mode::Hangs,
        Mode::Slow,
        Mode::Status500,
        Mode::Nonsense,
        Mode::Huge,
        Mode::Redirects,
        Mode::Expired,
    ];
}

#[derive(Debug)]
pub struct Request {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(document: &serde_json::Value) -> Reply {
        Reply { status: 200, headers: Vec::new(), body: document.to_string().into_bytes() }
    }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

pub struct Server {
    pub port: u16,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    handler: Box<Handler>,
    /// What a client sees of its certificate: the good one, and the one that is over.
    tls: Option<[Arc<rustls::ServerConfig>; 2]>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    mode: Mode,
    asked: usize,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Server {
    /// Without TLS.
    pub fn plain(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::start(Box::new(handler), None)
    }

    /// With TLS, by certificates of the CA that it leaves as `ca.pem` in the folder.
    pub fn encrypted(folder: &Path, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::start(Box::new(handler), Some(certificates(folder)))
    }

    /// With TLS, for clients with a certificate of that CA: it leaves one as `client.pem`, with `client.key`.
    pub fn knowing_its_clients(folder: &Path, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        certificates(folder);
        openssl(folder, &format!("req {NEW_KEY} -keyout client.key -out client.csr -subj /CN=client"));
        openssl(
            folder,
            "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out client.pem -days 2 -extfile names",
        );
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).expect("a certificate")).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let config = tls(folder, "good", Some(verifier.build().expect("it has a root")));
        Server::start(Box::new(handler), Some([Arc::clone(&config), config]))
    }

    fn start(handler: Box<Handler>, tls: Option<[Arc<rustls::ServerConfig>; 2]>) -> Server {
        let state = Mutex::new(State { mode: Mode::Well, asked: 0 });
        let shared = Arc::new(Shared { handler, tls, state, changed: Condvar::new() });
        let mut server = Server { port: 0, shared, accepting: None };
        server.listen();
        server
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port is free");
        self.port = listener.local_addr().expect("bound").port();
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.state().mode == Mode::Killed {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that goes away early is no fault of ours.
                std::thread::spawn(move || shared.serve(stream));
            }
        }));
    }

    /// From now on, for those who wait too.
    pub fn set(&mut self, mode: Mode) {
        self.shared.state().mode = mode;
        self.shared.changed.notify_all();
        if mode == Mode::Killed {
            // Wakes it up, so that it sees that it is dead.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
            self.accepting.take().expect("it lived").join().expect("no panic");
        } else if self.accepting.is_none() {
            self.listen();
        }
    }

    /// Waits until there were so many requests.
    pub fn await_asked(&self, count: usize) {
        let state = self.shared.state();
        let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, |state| state.asked < count);
        assert!(!waited.expect("not poisoned").1.timed_out(), "nobody asked");
    }

    /// The requests so far.
    pub fn asked(&self) -> usize {
        self.shared.state().asked
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.accepting.is_some() {
            self.set(Mode::Killed);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mode = self.state().mode;
        match &self.tls {
            Some([good, over]) => {
                let config = if mode == Mode::Expired { over } else { good };
                let connection = rustls::ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
                self.answer(mode, rustls::StreamOwned::new(connection, stream))
            }
            None => self.answer(mode, stream),
        }
    }

    fn answer(&self, mode: Mode, stream: impl Stream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let request = read(&mut stream)?;
        self.state().asked += 1;
        self.changed.notify_all();
        let moved = request.path.ends_with("/moved");
        let reply = match mode {
            Mode::Hangs => {
                self.wait(Duration::from_secs(3600));
                return Ok(());
            }
            Mode::Slow => {
                self.wait(Duration::from_secs(10));
                (self.handler)(&request)
            }
            Mode::Status500 => Reply { status: 500, ..Reply::json(&serde_json::json!({ "result": true })) },
            Mode::Nonsense => Reply { status: 200, headers: Vec::new(), body: b"<html>true</html>".to_vec() },
            Mode::Huge => Reply { status: 200, headers: Vec::new(), body: vec![b' '; 50_000_000] },
            Mode::Redirects if !moved => {
                let headers = vec![("Location", format!("{}{}/moved", self.own_url(&request), request.path))];
                Reply { status: 307, headers, body: Vec::new() }
            }
            Mode::Well | Mode::Redirects | Mode::Expired | Mode::Killed => (self.handler)(&request),
        };
        let mut head = format!("HTTP/1.1 {} it\r\nConnection: close\r\n", reply.status);
        // A length would be refused by itself; without one, only what arrives tells how long it is.
        if mode != Mode::Huge {
            head += &format!("Content-Length: {}\r\n", reply.body.len());
        }
        reply.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let stream = stream.get_mut();
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(&reply.body)?;
        stream.flush()
    }

    fn own_url(&self, request: &Request) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", request.headers.get("host").map(String::as_str).unwrap_or_default())
    }

    /// Until that time is over or the mode is another.
    fn wait(&self, time: Duration) {
        let state = self.state();
        let mode = state.mode;
        let _ = self.changed.wait_timeout_while(state, time, |state| state.mode == mode).expect("not poisoned");
    }
}

fn read(stream: &mut BufReader<impl Stream>) -> std::io::Result<Request> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Request { path, headers, body })
}

const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// A certificate that is good, and one that ended yesterday, of the same CA.
fn certificates(folder: &Path) -> [Arc<rustls::ServerConfig>; 2] {
    openssl(folder, &format!("req -x509 {NEW_KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:false")
        .expect("writable");
    openssl(folder, &format!("req {NEW_KEY} -keyout server.key -out server.csr -subj /CN=server"));
    [("good", 2), ("over", -1)].map(|(name, days)| {
        openssl(
            folder,
            &format!(
                "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days {days} \
                 -extfile names"
            ),
        );
        tls(folder, name, None)
    })
}

fn tls(
    folder: &Path,
    name: &str,
    clients: Option<Arc<dyn rustls::server::danger::ClientCertVerifier>>,
) -> Arc<rustls::ServerConfig> {
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{name}.pem"))).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them");
    let config = match clients {
        Some(verifier) => config.with_client_cert_verifier(verifier),
        None => config.with_no_client_auth(),
    };
    Arc::new(config.with_single_cert(vec![certificate], key).expect("they belong together"))
}
