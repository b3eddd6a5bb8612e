//! An image registry on this machine, with one image: enough of the distribution API for a container runtime to pull it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Serves one image; a runtime takes a registry on the loopback address without TLS.
pub struct Registry {
    port: u16,
}

struct Blob {
    media_type: &'static str,
    bytes: Vec<u8>,
}

impl Registry {
    /// With an image whose one layer has this many bytes.
    pub fn with_layer(bytes: usize) -> Registry {
        let mut blobs = HashMap::new();
        let mut add = |media_type: &'static str, bytes: Vec<u8>| {
            let digest = Sha256::digest(&bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a string takes it");
                text
            });
            let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
            blobs.insert(digest.clone(), Blob { media_type, bytes });
            (digest, descriptor)
        };
        let (layer, described) = add("application/vnd.oci.image.layer.v1.tar", vec![0; bytes]);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [layer] },
        });
        let (_, config) = add("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [described] });
        let (manifest, _) = add(media_type, manifest.to_string().into_bytes());

        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let blobs = Arc::new(blobs);
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (blobs, manifest) = (Arc::clone(&blobs), manifest.clone());
                // A runtime that gives up a download closes its connection.
                std::thread::spawn(move || answer(connection, &blobs, &manifest).ok());
            }
        });
        Registry { port }
    }

    /// The reference by which the image is pulled.
    pub fn image(&self) -> String {
        format!("127.0.0.1:{}/big:1", self.port)
    }
}

/// Answers one request and closes.
fn answer(mut connection: TcpStream, blobs: &HashMap<String, Blob>, manifest: &str) -> std::io::Result<()> {
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let Some(Ok(request)) = lines.next() else {
        // A runtime tries TLS first, and goes on without it when it is answered in plain HTTP.
        return connection.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    };
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let digest = match path.rsplit('/').next().unwrap_or_default() {
        "1" => manifest,
        name => name,
    };
    match blobs.get(digest) {
        Some(Blob { media_type, bytes }) => {
            write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n",
                bytes.len()
            )?;
            if request.starts_with("GET") { connection.write_all(bytes) } else { Ok(()) }
        }
        None => {
            let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
            write!(connection, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
    }
}
