//! `porthole connect`: ssh's bytes through a gateway, as its `ProxyCommand`.
//!
//! What comes on standard input goes into a WebSocket, and what comes from there to standard output, until the server
//! ends it. It needs no configuration, and says one clear line when the gateway or the server refuses. A token never
//! stands on its command line, where everybody on the machine could read it.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::listen::Stream;
use crate::listen::websocket::tunnel::Tunnel;

mod dial;
mod standard;
mod token;

/// For name, connection, TLS and the server's answer, in which it may ask the identity provider.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the server is asked whether it lives; gateways cut a connection that is silent for a minute.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// One read of standard input, which becomes one message.
const PIECE_BYTES: usize = 32 * 1024;

/// Join standard input and output to an SSH server behind a WebSocket; for ssh's ProxyCommand.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to: ws://HOST[:PORT]/PATH or wss://HOST[:PORT]/PATH
    url: String,
    #[command(flatten)]
    token: token::Source,
    /// One more header for the gateway; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// CAs to trust beside this machine's own, in PEM
    #[arg(long, value_name = "FILE")]
    ca_file: Option<std::path::PathBuf>,
}

/// Why there was no connection, or not until its end.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Token(#[from] token::TokenError),
    #[error(transparent)]
    Dial(#[from] dial::DialError),
    #[error("the server has not answered in {} seconds: is this the gateway's address?", ANSWER_TIMEOUT.as_secs())]
    Late,
    #[error("the connection was lost: {0}")]
    Lost(#[source] io::Error),
}

/// Runs it to its end.
pub fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(connect(arguments));
    // Standard input may be waited for in a thread that nothing can interrupt.
    runtime.shutdown_background();
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("porthole: {error}");
            ExitCode::FAILURE
        }
    })
}

async fn connect(arguments: &Arguments) -> Result<(), ConnectError> {
    let token = arguments.token.read().await?;
    let dialled = dial::dial(&arguments.url, token, &arguments.headers, arguments.ca_file.as_deref());
    let io = timeout(ANSWER_TIMEOUT, dialled).await.map_err(|_| ConnectError::Late)??;
    let tunnel = Tunnel::new(io, Role::Client, PING_INTERVAL).await;
    carry(tunnel, standard::input(), standard::output()).await.map_err(ConnectError::Lost)
}

/// Until the server's end. That of standard input ends its own direction only.
async fn carry(
    tunnel: Tunnel<impl Stream>,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let (mut from_server, mut to_server) = tokio::io::split(tunnel);
    {
        let up = async {
            copy(&mut input, &mut to_server).await?;
            to_server.shutdown().await?;
            std::future::pending::<io::Result<()>>().await
        };
        let down = copy(&mut from_server, &mut output);
        tokio::select! {
            // What the server has said is written before a failure to send is told: it may be the reason.
            biased;
            ended = down => ended?,
            failed = up => failed?,
        }
    }
    from_server.unsplit(to_server).finish().await;
    Ok(())
}

/// Each piece goes out before the next is read: nothing stays behind in a buffer.
async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(piece.get(..length).unwrap_or_default()).await?;
        to.flush().await?;
    }
}
