//! What russh tells nobody but its log: certificates that it refuses by itself, and clients that take no more output.
//!
//! russh looks at a certificate's dates and at its signature by itself, and refuses without any callback: the login
//! ends, and only a line in russh's log says why. That line is written in the task of the connection, whose id we know.
//! So a subscriber layer watches for just these two lines and counts them for the connection whose task they come
//! from; `login` takes the counts whenever it is asked something next, and at the connection's end.
//!
//! The other line is of `eow@openssh.com` (OpenSSH's PROTOCOL, section 2.1): `ssh host yes | head -1` sends it when `head`
//! has gone, and goes on taking and dropping bytes for ever. russh knows no such request, and says only that.
//!
//! The texts belong to the russh that Cargo.toml pins; a test with real certificates notices when they change.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;

/// The lines, and the audit trail's word for each.
const LINES: [(&str, &str); 2] = [
    ("Certificate is expired or not yet valid", "certificate_outside_validity"),
    ("Certificate signature is invalid", "certificate_bad_signature"),
];

/// A client that has nowhere to write a channel's output to any more. Which channel, russh does not say.
const END_OF_WRITE: &str = "unknown channel request eow@openssh.com";

/// The connections that are being watched, by their task.
static CONNECTIONS: LazyLock<Mutex<HashMap<task::Id, Arc<Observed>>>> = LazyLock::new(Mutex::default);

/// What was seen of one connection.
#[derive(Debug, Default)]
pub struct Observed {
    counts: [AtomicU32; LINES.len()],
    unwanted: watch::Sender<u32>,
    task: Mutex<Option<task::Id>>,
}

impl Observed {
    /// Watches the task that this is called in, until `forget`.
    pub fn watch(self: &Arc<Self>) {
        let Some(id) = task::try_id() else { return };
        *lock(&self.task) = Some(id);
        lock(&CONNECTIONS).insert(id, Arc::clone(self));
    }

    /// Changes each time that the client takes no more output of some channel.
    pub fn unwanted(&self) -> watch::Receiver<u32> {
        self.unwanted.subscribe()
    }

    pub fn forget(&self) {
        if let Some(id) = lock(&self.task).take() {
            lock(&CONNECTIONS).remove(&id);
        }
    }

    /// The words for what was refused since the last call, one for each time.
    pub fn take(&self) -> Vec<&'static str> {
        let counted = self.counts.iter().zip(LINES);
        counted
            .flat_map(|(count, (_, code))| std::iter::repeat_n(code, count.swap(0, Ordering::Relaxed) as usize))
            .collect()
    }
}

/// The subscriber layer; `main` installs it beside the log.
#[derive(Debug, Default)]
pub struct Observer;

impl Observer {
    /// The layer with its filter, which keeps every other line of anybody's off it.
    pub fn layer<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>>() -> impl Layer<S> {
        // No lower level: else every line of russh's, down to one for each packet, would be put together for this.
        Observer.with_filter(Targets::new().with_target("russh::server", Level::WARN))
    }
}

impl<S: Subscriber> Layer<S> for Observer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let refusal = LINES.iter().position(|(known, _)| line.0 == *known);
        if refusal.is_none() && line.0 != END_OF_WRITE {
            return;
        }
        let Some(observed) = task::try_id().and_then(|task| lock(&CONNECTIONS).get(&task).cloned()) else { return };
        match refusal {
            Some(index) => drop(observed.counts[index].fetch_add(1, Ordering::Relaxed)),
            None => observed.unwanted.send_modify(|count| *count = count.wrapping_add(1)),
        }
    }
}

/// An event's message.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
