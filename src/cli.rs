//! The command line: `serve`, `login`, `check`, `connect`, `revoke`, `playground`.
//!
//! Exit codes: 0 done, 1 a failure at run time (`check`: denied), 2 a wrong command line, configuration or policy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::auth::binding::Binding;
use crate::authorize::check::{Question, check};
use crate::cluster::{Named, revoke};
use crate::config::{BindingStore, Config};
use crate::login::Login;
use crate::server::Server;
use crate::{connect, login, playground, telemetry};

/// What went wrong before anything ran: a usage, configuration or policy error.
const EXIT_USAGE: u8 = 2;

/// An SSH bastion into Kubernetes pods, through ephemeral containers.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the bastion.
    Serve(Serve),
    /// Get a certificate from a Porthole, or renew it, and have ssh use it.
    Login(Login),
    /// Ask the policy a question, and see which rule decides.
    Check(Box<Question>),
    /// Join standard input and output to an SSH server behind a WebSocket; for ssh's ProxyCommand.
    Connect(connect::Arguments),
    /// Take back the keys that stand for a person after a device login, and end the sessions that came by them.
    Revoke(Revoke),
    /// Try it on this machine: an emulated cluster, an identity provider, a certificate, and the bastion before them.
    Playground(Playground),
    /// A process of the playground's; not for people.
    #[command(hide = true)]
    PlaygroundContainer,
}

#[derive(Args)]
struct Serve {
    /// The configuration file; config/porthole.toml documents every key.
    #[arg(long, env = "PORTHOLE_CONFIG", default_value = "/etc/porthole/porthole.toml")]
    config: PathBuf,
    #[command(flatten)]
    ending: Ending,
}

#[derive(Args)]
struct Revoke {
    /// The configuration file of the servers.
    #[arg(long, env = "PORTHOLE_CONFIG", default_value = "/etc/porthole/porthole.toml")]
    config: PathBuf,
    #[command(flatten)]
    whose: Whose,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Every key of this person.
    #[arg(long)]
    subject: Option<String>,
    /// This key, as `ssh-keygen -l` prints it: SHA256:…
    #[arg(long)]
    fingerprint: Option<String>,
}

#[derive(Args)]
struct Playground {
    /// The folder for its keys, files and state.
    #[arg(long, default_value = "target/playground")]
    root: PathBuf,
    /// Where the bastion listens. Whoever logs in runs commands as you: keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:2222")]
    listen: SocketAddr,
    #[command(flatten)]
    ending: Ending,
}

#[derive(Args)]
struct Ending {
    /// Stop when standard input ends, so that it does not outlive the program that started it.
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Runs the program; the whole of `main`.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    // A container's process changes its namespaces, which needs a process with one thread: before any runtime.
    if let Command::PlaygroundContainer = command {
        playground::container_main();
    }
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("porthole: {error:#}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arguments) => {
            let config = Config::load(&arguments.config)?;
            prepare(&config)?;
            runtime()?.block_on(async {
                let stop = arguments.ending.token()?;
                // From here on a hang-up ends nothing, even before there is a trail to open again.
                let hangups = signal(SignalKind::hangup())?;
                let server = Server::start(config).await?;
                tokio::spawn(reopen(server.audit(), hangups));
                tracing::info!(address = %server.address()?, "listening");
                server.run(stop).await;
                Ok(ExitCode::SUCCESS)
            })
        }
        Command::Login(arguments) => match login::run(&arguments) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                eprintln!("porthole: {error}");
                Ok(ExitCode::FAILURE)
            }
        },
        Command::Check(question) => {
            install_provider()?;
            let answer = check(&question);
            match answer.code {
                EXIT_USAGE => eprint!("{}", answer.text),
                _ => print!("{}", answer.text),
            }
            Ok(ExitCode::from(answer.code))
        }
        Command::Connect(arguments) => {
            install_provider()?;
            Ok(connect::run(&arguments)?)
        }
        Command::Revoke(arguments) => runtime()?.block_on(take_back(arguments)),
        Command::Playground(arguments) => runtime()?.block_on(play(arguments)),
        Command::PlaygroundContainer => unreachable!("main has run it before"),
    }
}

async fn take_back(arguments: Revoke) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config)?;
    prepare(&config)?;
    anyhow::ensure!(
        config.device.bindings == BindingStore::Cluster,
        "the bindings are kept in the server's memory (device.bindings), and a restart is what ends them"
    );
    let Whose { subject, fingerprint } = arguments.whose;
    let named = match (subject, fingerprint) {
        (Some(subject), _) => Named::Subject(subject),
        (None, fingerprint) => Named::Fingerprint(fingerprint.unwrap_or_default()),
    };
    let now = Timestamp::now();
    match revoke(&config.cluster, config.device.bindings_namespace.as_deref(), &named).await {
        Ok(revoked) if revoked.is_empty() => {
            eprintln!("porthole: there is no binding of {named}");
            Ok(ExitCode::FAILURE)
        }
        Ok(revoked) => {
            for binding in &revoked {
                println!("{}", taken_back(binding, now));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("porthole: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The line of a binding that is taken back. Whoever does that means to end what came by it, and sessions of a login that
/// was over by then go on (`Bindings::still_holds`).
fn taken_back(binding: &Binding, now: Timestamp) -> String {
    let over = match binding.until <= now {
        true => " (its login was over already: sessions of it that still run are not ended by this)",
        false => "",
    };
    format!("{} {}{over}", binding.fingerprint, binding.subject)
}

/// SIGHUP, by which a rotation says that the file has a new name: the next event goes to the one that has the old.
async fn reopen(audit: Arc<Audit>, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        match audit.reopen().await {
            Ok(()) => tracing::info!("SIGHUP: the audit trail's file is opened again"),
            Err(error) => tracing::error!(%error, "SIGHUP: the audit trail's file cannot be opened again"),
        }
    }
}

async fn play(arguments: Playground) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let isolation = playground::probe(&program);
    let options = playground::Options {
        root: arguments.root.clone(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        isolation,
        program,
    };
    let stop = arguments.ending.token()?;
    let emulator = playground::Emulator::start(options).await.context("cannot start the emulated cluster")?;
    emulator.settled().await;
    let kit = playground::Kit::make(&arguments.root).await?;
    let provider = playground::Provider::start(&kit).await.context("cannot start the identity provider")?;
    let config = Config::load(&kit.configure(arguments.listen, emulator.kubeconfig(), &provider)?)?;
    prepare(&config)?;
    let server = Server::start(config).await?;
    let ssh_config = kit.introduce(server.address()?).await?;
    println!("{}", playground::greeting(&ssh_config, isolation, &provider));
    server.run(stop).await;
    provider.stop().await;
    emulator.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// What a server needs of the process: its log, and the one crypto provider.
fn prepare(config: &Config) -> anyhow::Result<()> {
    telemetry::install(&config.log).map_err(anyhow::Error::msg)?;
    install_provider()
}

fn install_provider() -> anyhow::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

impl Ending {
    /// A token that SIGTERM or SIGINT cancels, and, where it was asked for, the end of standard input.
    fn token(&self) -> std::io::Result<CancellationToken> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = CancellationToken::new();
        let cancelled = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            cancelled.cancel();
        });
        if self.until_stdin_ends {
            let cancelled = stop.clone();
            // A thread of its own: a read of tokio's would keep the runtime from ending.
            std::thread::spawn(move || {
                // An input that cannot be read has ended too.
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                cancelled.cancel();
            });
        }
        Ok(stop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn a_binding_whose_login_was_over_is_said_to_end_no_session() {
        let now = Timestamp::now();
        let binding = |until: Timestamp| Binding {
            fingerprint: "SHA256:x".to_owned(),
            subject: "mia".to_owned(),
            name: None,
            email: None,
            groups: Vec::new(),
            issuer: None,
            address: IpAddr::from([192, 0, 2, 1]),
            until,
        };
        assert_eq!(taken_back(&binding(Timestamp::MAX), now), "SHA256:x mia");
        for over in [Timestamp::MIN, now] {
            let said = taken_back(&binding(over), now);
            assert!(said.starts_with("SHA256:x mia (its login was over already"), "{said}");
        }
    }
}
