//! `ls`: the places that are open to the person, as columns or as JSON.
//!
//! Guards: a namespace that is closed to the person reads like one that is not there.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::exit::Failure;
use super::{Caller, Sessions};
use crate::audit::SessionId;
use crate::authorize::NOT_OPEN;
use crate::cluster::Place;

/// The answer as programs read it. Its names are an interface.
#[derive(Serialize)]
struct Document<'a> {
    places: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    /// The login name.
    place: String,
    namespace: &'a str,
    pod: &'a str,
    workload: Option<Workload<'a>>,
    containers: Vec<&'a str>,
    state: &'a str,
    containers_ready: usize,
    containers_total: usize,
    restarts: u32,
    created: Option<Timestamp>,
}

#[derive(Serialize)]
struct Workload<'a> {
    kind: &'a str,
    name: &'a str,
}

impl Sessions {
    pub(super) async fn list(
        &self,
        caller: &Caller,
        session: &SessionId,
        namespace: Option<&str>,
        json: bool,
    ) -> Result<String, Failure> {
        let mut open = self.open_places(caller, session).await?;
        if let Some(namespace) = namespace {
            open.retain(|place| place.namespace() == namespace);
            if open.is_empty() {
                return Err(Failure::new("nothing_open", NOT_OPEN));
            }
        }
        if json {
            let document = Document { places: open.iter().map(|place| line(place)).collect() };
            return Ok(super::plain::json(&document));
        }
        Ok(columns(&open, Timestamp::now()))
    }
}

fn line(place: &Place) -> Line<'_> {
    let shown = place.shown();
    Line {
        place: format!("{}.{}", place.namespace(), place.pod()),
        namespace: place.namespace(),
        pod: place.pod(),
        workload: place.workload().map(|(kind, name)| Workload { kind, name }),
        containers: place.containers().collect(),
        state: &shown.state,
        containers_ready: shown.ready,
        containers_total: shown.total,
        restarts: shown.restarts,
        created: shown.created,
    }
}

/// Two blanks between columns, each as wide as its widest field.
fn columns(places: &[Arc<Place>], now: Timestamp) -> String {
    let head = ["PLACE", "WORKLOAD", "READY", "STATE", "RESTARTS", "AGE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(places.iter().map(|place| {
            let shown = place.shown();
            [
                format!("{}.{}", place.namespace(), place.pod()),
                place.workload().map_or_else(|| "-".to_owned(), |(_, name)| format!("{}.{name}", place.namespace())),
                format!("{}/{}", shown.ready, shown.total),
                shown.state.clone(),
                shown.restarts.to_string(),
                shown.created.map_or_else(|| "-".to_owned(), |created| age(created, now)),
            ]
        }))
        .collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let padded: Vec<_> = row.iter().zip(widths).map(|(field, width)| format!("{field:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago, in one unit: what a person compares.
pub fn age(created: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(created).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        172_800..63_072_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_one_number_and_its_unit() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        for (created, shown) in [
            ("2026-06-01T00:00:05Z", "0s"),
            ("2026-05-31T23:59:01Z", "59s"),
            ("2026-05-31T23:59:00Z", "1m"),
            ("2026-05-31T23:00:00Z", "1h"),
            ("2026-05-30T00:00:01Z", "47h"),
            ("2026-05-30T00:00:00Z", "2d"),
            ("2024-06-01T00:00:00Z", "2y"),
        ] {
            assert_eq!(age(created.parse().unwrap(), now), shown, "{created}");
        }
    }
}
