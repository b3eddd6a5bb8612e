//! Porthole's own log, on stderr; stdout may be the audit trail's.

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::{Log, LogFormat};
use crate::ssh::Observer;

/// Installs the log for the whole process, once.
///
/// Errors: a filter that does not parse, named; or a second call.
pub fn install(log: &Log) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| format!("log.filter `{}` is no filter: {error}; use for example \"info\"", log.filter))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(Observer::layer())
        .try_init()
        .map_err(|error| error.to_string())
}
