//! Gateways of others, each with a configuration in the house's folder and a socket that is open before it starts.
//!
//! The socket is bound here and handed over, so that its port is nobody else's, and a client may come at once.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A gateway that runs until it is dropped.
pub struct Gateway {
    process: Child,
    pub port: u16,
}

impl Gateway {
    /// HAProxy with this configuration, in which `@LISTEN@` is where it listens. None where it is not installed.
    pub fn haproxy(folder: &Path, config: &str) -> Option<Gateway> {
        let program = find("haproxy")?;
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config.replace("@LISTEN@", "fd@0")).expect("writable");
        Some(Gateway::start(Command::new(program).arg("-db").arg("-f").arg(file)))
    }

    /// nginx with this configuration's `http` block, in which `@LISTEN@` is where it listens. None where it is not
    /// installed.
    pub fn nginx(folder: &Path, config: &str) -> Option<Gateway> {
        let program = find("nginx")?;
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let file = folder.join("nginx.conf");
        let text = config.replace("@LISTEN@", &socket.local_addr().expect("bound").to_string());
        // Everything that it would write beside its log, in the house's folder.
        let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", folder.join(kind).display()))
            .join(" ");
        let text = text.replacen("http {", &format!("http {{ access_log off; {folders}"), 1);
        let pid = folder.join("nginx.pid").display().to_string();
        fs::write(&file, format!("daemon off; user root; error_log stderr; pid {pid};\n{text}")).expect("writable");
        // It takes over the sockets that this names, as it does from its own predecessor.
        let mut command = Command::new(program);
        command.env("NGINX", "0;").arg("-p").arg(folder).arg("-c").arg(file);
        Some(Gateway::start_on(socket, &mut command))
    }

    fn start(command: &mut Command) -> Gateway {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        Gateway::start_on(socket, command)
    }

    fn start_on(socket: TcpListener, command: &mut Command) -> Gateway {
        let port = socket.local_addr().expect("bound").port();
        let command = command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::inherit());
        Gateway { process: command.spawn().expect("the gateway starts"), port }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // By the signal that lets it end its workers; one that has ended by itself needs no end.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// A program of the machine's, also where only root's `PATH` has it.
fn find(name: &str) -> Option<std::path::PathBuf> {
    let folders = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = folders.split(':').map(|folder| Path::new(folder).join(name)).find(|file| file.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed (apt-get install {name})");
    }
    found
}
