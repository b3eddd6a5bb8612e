//! The images that the emulated registry holds: what runs in a container that names no command, and as whom.

use super::control::Program;
use std::net::Ipv4Addr;

pub(super) struct Image {
    /// Whether the host's programs are in it.
    pub programs: bool,
    /// Whether `sftp-server`, `scp` and `rsync` are among them.
    pub copiers: bool,
    pub start: Start,
    /// The user that the image asks for; 0 is root.
    pub uid: u32,
}

#[derive(Clone, Copy)]
pub(super) enum Start {
    Web { port: u16 },
    Pause,
    Command(&'static [&'static str]),
}

impl Start {
    pub(super) fn program(self, bind: Ipv4Addr, body: &str) -> Program {
        match self {
            Start::Web { port } => Program::Web { bind, port, body: body.into() },
            Start::Pause => Program::Pause,
            Start::Command(words) => Program::Command(words.iter().map(|word| (*word).to_owned()).collect()),
        }
    }
}

const SHELL: Start = Start::Command(&["/bin/sh"]);

/// Pulls an image.
///
/// # Errors
///
/// In the words of containerd, which a kubelet passes on.
pub(super) fn pull(reference: &str) -> Result<Image, String> {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    // As the images of the real cluster that the same tests run on are named.
    let mirrored = short.strip_prefix("porthole.test/").map(|image| format!("playground/{image}"));
    let short = mirrored.as_deref().unwrap_or(short);
    let image = |programs, start, uid| Ok(Image { programs, copiers: true, start, uid });
    match short {
        "playground/tools:1" => image(true, SHELL, 0),
        "playground/busybox:1" => Ok(Image { programs: true, copiers: false, start: SHELL, uid: 0 }),
        "playground/web:1" => image(true, Start::Web { port: 8080 }, 0),
        "playground/app:1" => image(true, Start::Web { port: 8080 }, 10001),
        "playground/db:1" => image(true, Start::Pause, 0),
        "playground/distroless:1" => image(false, Start::Pause, 0),
        _ => Err(missing(reference)),
    }
}

fn missing(reference: &str) -> String {
    let (path, tag) = match reference.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (reference, "latest"),
    };
    let registry = path.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
    let (host, path) = match registry {
        Some((host, path)) => (host, path.to_owned()),
        None if path.contains('/') => ("docker.io", path.to_owned()),
        None => ("docker.io", format!("library/{path}")),
    };
    let full = format!("{host}/{path}:{tag}");
    let why = if host == "docker.io" {
        "pull access denied, repository does not exist or may require authorization: server message: \
         insufficient_scope: authorization failed"
            .to_owned()
    } else {
        format!(
            "failed to do request: Head \"https://{host}/v2/{path}/manifests/{tag}\": dial tcp: lookup {host} on \
             10.96.0.10:53: no such host"
        )
    };
    format!("failed to pull and unpack image {full:?}: failed to resolve reference {full:?}: {why}")
}
