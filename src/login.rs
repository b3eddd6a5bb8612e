//! `porthole login`: a certificate for the person at this machine, got and renewed by the machine's own `ssh`.
//!
//! The way in is `ssh login@HOST cert`, so whatever `ssh` can do to log in (a device login, another certificate, a
//! `ProxyCommand`, a jump host) works here too, and nothing about it is known here. The key, the agent and the client's
//! configuration are likewise left to `ssh-keygen`, `ssh-add` and `ssh`.
//!
//! Invariant: what was there before stays in place until something better is whole, also where the person interrupts: a
//! certificate and a configuration are replaced at one stroke, and only by one that was read and fits.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::auth::certificate::Label;

mod anew;
mod block;
mod file;
mod key;
mod tools;

use block::Block;
use key::Key;
use tools::{Attempt, Tools};

/// The longest name of a host, as DNS has it.
const HOST_MAX_BYTES: usize = 253;

/// What to log in to, and what to do with the certificate.
#[derive(Debug, Args)]
pub struct Login {
    /// Porthole's name, as you give it to ssh.
    host: String,
    /// Its port, where that is not in your ssh configuration.
    #[arg(short, long)]
    port: Option<u16>,
    /// Certify this key of yours; without, one of its own is made below ~/.ssh/porthole.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Do not put the key and its certificate into the ssh-agent.
    #[arg(long)]
    no_agent: bool,
    /// Do not write a block for the host into your ssh configuration.
    #[arg(long)]
    no_config: bool,
    /// Your ssh configuration; without, ~/.ssh/config.
    #[arg(short = 'F', long)]
    ssh_config: Option<PathBuf>,
    /// Log in anew, also where the certificate is good for long.
    #[arg(long)]
    force: bool,
}

/// Why there is no certificate, or why it is not where it should be. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("`{host}` is no name of a host: use the name that you give to ssh")]
    Host { host: String },
    #[error("there is no home folder: set HOME, or name the files with --key and --ssh-config")]
    NoHome,
    #[error("cannot run {program}, which comes with OpenSSH: {source}")]
    Program { program: &'static str, source: io::Error },
    #[error("{program} failed: {said}")]
    Tool { program: &'static str, said: String },
    #[error("{file}: {source}")]
    File { file: PathBuf, source: io::Error },
    #[error("there is no key {file}: leave --key out to have one made")]
    NoKey { file: PathBuf },
    #[error("no certificate came from {host}: what ssh says above is why")]
    Refused { host: String },
    #[error("what came from {host} is no certificate for {file}: {problem}")]
    Unfit { host: String, file: PathBuf, problem: String },
    #[error("{file}: {problem}")]
    Config { file: PathBuf, problem: &'static str },
}

/// Gets what is needed, puts it where it belongs, and says so on standard output.
pub fn run(login: &Login) -> Result<(), LoginError> {
    check_host(&login.host)?;
    let key = match &login.key {
        Some(file) => Key::given(file)?,
        None => Key::own(&home()?.join(".ssh/porthole"), &login.host)?,
    };
    let tools = Tools { host: &login.host, port: login.port, config: login.ssh_config.as_deref() };
    let present = key.certificate().filter(|label| label.covers(Timestamp::now()));
    let label = match present {
        Some(label) if is_fresh(&label) && !login.force => label,
        present => renew(login, &key, &tools, present)?,
    };
    println!("certificate {:?} for {} is valid until {}", label.key_id, login.host, local(label.until));
    if !login.no_agent {
        into_agent(&key, &label, login.key.is_some())?;
    }
    if !login.no_config {
        let file = match &login.ssh_config {
            Some(file) => file.clone(),
            None => home()?.join(".ssh/config"),
        };
        let block = Block::new(&login.host, login.port, &key);
        if block.write(&file)? {
            println!("{} has a block for {}: ssh NAMESPACE.POD@{0}", file.display(), login.host);
        }
    }
    Ok(())
}

/// More than a third of its life is left.
fn is_fresh(label: &Label) -> bool {
    let left = label.until.duration_since(Timestamp::now());
    left > label.until.duration_since(label.from) / 3
}

/// A new certificate. The present one may log in, but it brings none that lasts beyond the login that it came from, and none
/// at all in that login's last minute; then the person is asked. Where a key is what the login was with, it is the same login
/// without the certificate too, until it ends: what the server says of it is all that helps.
fn renew(login: &Login, key: &Key, tools: &Tools<'_>, present: Option<Label>) -> Result<Label, LoginError> {
    let first = tools.certify(key, Attempt::AsConfigured)?;
    let first = first.map(|line| fit(login, key, &line).map(|label| (line, label))).transpose()?;
    let better = |label: &Label| present.as_ref().is_none_or(|present| label.until > present.until);
    let (line, label) = match first {
        Some((line, label)) if better(&label) => (line, label),
        first => {
            let again = if present.is_some() { tools.certify(key, Attempt::Anew)? } else { None };
            match again {
                Some(line) => fit(login, key, &line).map(|label| (line, label))?,
                // No better than what is there, but no worse either.
                None => first.ok_or_else(|| LoginError::Refused { host: login.host.clone() })?,
            }
        }
    };
    file::replace(&key.certificate_file(), line.as_bytes(), 0o644)?;
    Ok(label)
}

fn fit(login: &Login, key: &Key, line: &str) -> Result<Label, LoginError> {
    let unfit = |problem: String| LoginError::Unfit { host: login.host.clone(), file: key.file().to_owned(), problem };
    let label = Label::read(line, key.public()).map_err(unfit)?;
    if !label.covers(Timestamp::now()) {
        return Err(unfit("it is not valid now: is this machine's clock right?".to_owned()));
    }
    Ok(label)
}

fn into_agent(key: &Key, label: &Label, given: bool) -> Result<(), LoginError> {
    if std::env::var_os("SSH_AUTH_SOCK").is_none_or(|socket| socket.is_empty()) {
        println!("there is no ssh-agent, so the key stays in {}", key.file().display());
        return Ok(());
    }
    // A key of the person's own that is in the agent already would get the certificate's end as its own.
    if given && tools::agent_holds(key)? {
        println!("your key is in the agent already; ssh takes the certificate beside {}", key.file().display());
        return Ok(());
    }
    tools::into_agent(key, label.until.duration_since(Timestamp::now()))?;
    println!("key and certificate are in the agent until then");
    Ok(())
}

/// What may stand in `ssh`'s arguments, its configuration and a file's name, each as itself.
fn check_host(host: &str) -> Result<(), LoginError> {
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    if plain && !host.is_empty() && host.len() <= HOST_MAX_BYTES && !host.starts_with(['-', '.']) {
        return Ok(());
    }
    Err(LoginError::Host { host: host.chars().filter(|c| !c.is_control()).take(64).collect() })
}

fn home() -> Result<PathBuf, LoginError> {
    std::env::home_dir().filter(|home| home.is_absolute()).ok_or(LoginError::NoHome)
}

fn local(time: Timestamp) -> String {
    let left = time.duration_since(Timestamp::now()).max(SignedDuration::ZERO);
    let (hours, minutes) = (left.as_hours(), left.as_mins() % 60);
    format!("{} ({hours}h {minutes:02}m left)", time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z"))
}

impl LoginError {
    fn file(file: &Path) -> impl FnOnce(io::Error) -> LoginError {
        move |source| LoginError::File { file: file.to_owned(), source }
    }
}
