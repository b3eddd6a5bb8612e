//! What a newcomer gets: keys, a fresh certificate, a policy, a configuration, and an `ssh_config` to paste from. With it
//! they are two people: `dev`, by the certificate, and whomever they choose at the identity provider, by a bare key.
//!
//! Everything stands below one folder and is made anew at each start, but for the host key, which the newcomer's
//! `known_hosts` should go on to match. The keys and the certificate are made by the machine's own `ssh-keygen`, as an
//! operator would make them.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::process::Command;

use super::{Isolation, Provider};

/// Who the newcomer is, and for how long.
const PERSON: &str = "dev";
const LIFETIME: &str = "+1d";

/// The folder and what is in it.
#[derive(Debug, Clone)]
pub struct Kit {
    root: PathBuf,
}

impl Kit {
    /// Makes the folder, the keys and the certificate. Errors name the file or what `ssh-keygen` said.
    pub async fn make(root: &Path) -> io::Result<Kit> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let kit = Kit { root: fs::canonicalize(root)? };
        for key in ["user_ca", "id_ed25519", "id_login"] {
            kit.make_key(key, &["-t", "ed25519"]).await?;
        }
        kit.certify().await?;
        Ok(kit)
    }

    /// Writes the server's configuration, and returns its file.
    pub fn configure(&self, listen: SocketAddr, kubeconfig: &Path, provider: &Provider) -> io::Result<PathBuf> {
        self.write("policy.toml", POLICY)?;
        let config = include_str!("porthole.toml")
            .replace("@LISTEN@", &listen.to_string())
            .replace("@KUBECONFIG@", &kubeconfig.display().to_string())
            .replace("@ISSUER@", provider.url());
        self.write("porthole.toml", &config)?;
        Ok(self.file("porthole.toml"))
    }

    /// A fresh key for the identity provider, as PKCS #8.
    pub(super) async fn make_provider_key(&self) -> io::Result<Vec<u8>> {
        self.make_key("provider_key", &["-t", "ecdsa", "-b", "256", "-m", "PKCS8"]).await?;
        fs::read(self.file("provider_key"))
    }

    /// Keeps the identity provider's password where only this user reads it, without an end of line, for `curl`.
    pub(super) fn keep_password(&self, password: &str) -> io::Result<()> {
        self.write("password", password)
    }

    /// Writes what a client needs to know of the server that now runs, and returns the path of the `ssh_config`.
    pub async fn introduce(&self, server: SocketAddr) -> io::Result<PathBuf> {
        let host_key = self.keygen(&["-y", "-f", "ssh_host_ed25519_key"]).await?;
        self.write("known_hosts", &format!("porthole {host_key}"))?;
        self.write("ssh_config", &ssh_config(&self.root, server))?;
        Ok(self.file("ssh_config"))
    }

    async fn make_key(&self, name: &str, kind: &[&str]) -> io::Result<()> {
        for old in [name.to_owned(), format!("{name}.pub")] {
            match fs::remove_file(self.file(&old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.keygen(&[&["-q", "-N", "", "-C", name, "-f", name], kind].concat()).await.map(drop)
    }

    async fn certify(&self) -> io::Result<()> {
        let principals = format!("{PERSON},group:developers");
        let sign =
            ["-q", "-s", "user_ca", "-I", PERSON, "-n", &principals, "-V", LIFETIME, "-z", "1", "id_ed25519.pub"];
        self.keygen(&sign).await.map(drop)
    }

    async fn keygen(&self, arguments: &[&str]) -> io::Result<String> {
        let output =
            Command::new("ssh-keygen").args(arguments).current_dir(&self.root).output().await.map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot run ssh-keygen, which comes with the OpenSSH client: {error}"),
                )
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("ssh-keygen {}: {}", arguments.join(" "), said.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        use io::Write as _;
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file(name))?
            .write_all(text.as_bytes())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

const POLICY: &str = include_str!("policy.toml");

fn ssh_config(root: &Path, server: SocketAddr) -> String {
    let folder = root.display();
    // Only these keys: one of the agent that nobody knows would use up a try, or be bound to one of the made-up people.
    format!(
        "Host porthole porthole-login\n\
         \x20   HostName {}\n\
         \x20   Port {}\n\
         \x20   HostKeyAlias porthole\n\
         \x20   UserKnownHostsFile \"{folder}/known_hosts\"\n\
         \x20   GlobalKnownHostsFile /dev/null\n\
         \x20   StrictHostKeyChecking yes\n\
         \x20   IdentitiesOnly yes\n\
         \x20   IdentityAgent none\n\
         \n\
         # With a certificate, which asks nothing: the server's word on how to log in is not for it.\n\
         Host porthole\n\
         \x20   IdentityFile \"{folder}/id_ed25519\"\n\
         \x20   CertificateFile \"{folder}/id_ed25519-cert.pub\"\n\
         \x20   PreferredAuthentications publickey\n\
         \x20   LogLevel ERROR\n\
         \n\
         # With a bare key, which stands for whoever approves its login.\n\
         Host porthole-login\n\
         \x20   IdentityFile \"{folder}/id_login\"\n\
         \x20   PreferredAuthentications publickey,keyboard-interactive\n",
        server.ip(),
        server.port(),
    )
}

/// What the newcomer reads when everything runs.
#[must_use]
pub fn greeting(ssh_config: &Path, isolation: Isolation, provider: &Provider) -> String {
    let file = ssh_config.display();
    let password_file = ssh_config.with_file_name("password");
    let apart = match isolation {
        Isolation::Namespaces => {
            "They have a root folder and namespaces of their own, but no more than that keeps them apart"
        }
        Isolation::None => "Nothing keeps them apart: this machine allows no namespaces, so they see all of your files",
    };
    format!(
        "The playground runs. In another terminal:\n\n    \
         ssh -F {file} demo.web@porthole\n\n\
         Other places: demo.db-0, demo.distroless, team.api, restricted.app~restricted; demo.broken and demo.web~missing \
         have an image\nthat cannot be pulled, secret.vault is not open to you.\n\n\
         Log in as with your company's identity provider, by a key that nobody knows yet:\n\n    \
         ssh -F {file} demo.web@porthole-login\n\n\
         Open the link that it shows, be mia, noor or sam, with the password {password}. Without a browser, with the code \
         that it shows:\n\n    \
         curl -d person=mia --data-urlencode password@{password_file} -d user_code=CODE {url}/device\n\n\
         Its containers are processes of yours on this machine. {apart}.\n\
         Ctrl-C ends it, and them.",
        password = provider.password(),
        password_file = password_file.display(),
        url = provider.url(),
    )
}
