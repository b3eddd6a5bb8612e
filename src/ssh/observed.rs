//! What russh refuses before it asks us, so that the audit trail has it.
//!
//! russh looks at a certificate's dates and at its signature by itself, and refuses without any callback: the login
//! ends, and only a line in russh's log says why. That line is written in the task of the connection, whose id we know.
//! So a subscriber layer watches for just these two lines and counts them for the connection whose task they come
//! from; `login` takes the counts whenever it is asked something next, and at the connection's end.
//!
//! The texts belong to the russh that Cargo.toml pins; a test with real certificates notices when they change.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

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

/// The connections that are being watched, by their task.
static CONNECTIONS: LazyLock<Mutex<HashMap<task::Id, Arc<Observed>>>> = LazyLock::new(Mutex::default);

/// What was seen of one connection.
#[derive(Debug, Default)]
pub struct Observed {
    counts: [AtomicU32; LINES.len()],
    task: Mutex<Option<task::Id>>,
}

impl Observed {
    /// Watches the task that this is called in, until `forget`.
    pub fn watch(self: &Arc<Self>) {
        let Some(id) = task::try_id() else { return };
        *lock(&self.task) = Some(id);
        lock(&CONNECTIONS).insert(id, Arc::clone(self));
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
        let mut line = Line(None);
        event.record(&mut line);
        if let (Some(index), Some(task)) = (line.0, task::try_id())
            && let Some(observed) = lock(&CONNECTIONS).get(&task)
        {
            observed.counts[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Finds which of `LINES` a message is.
struct Line(Option<usize>);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let text = format!("{value:?}");
            self.0 = LINES.iter().position(|(line, _)| text == *line);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
