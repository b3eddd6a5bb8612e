//! The places that one person may know of, as they come and go.
//!
//! Guards: a place is in the view only while the `Gate`'s last word on it is a yes. It is asked in parts of a size that its
//! authorizer takes well; about what is new or has changed at once, and about everything when its answers may have changed and
//! after each interval. What nobody could answer for is taken out. Nothing that is closed to the person shows: neither by a
//! count nor by a sign of work, once the first look is over.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::exit::Failure;
use super::run::shutting_down;
use super::{Caller, Sessions};
use crate::audit::SessionId;
use crate::authorize::{Changes, Looking};
use crate::cluster::{Place, Places};

mod answers;

use answers::Answers;

/// Changes of the cluster are gathered for so long: more often than that nobody reads a list.
const PACE: Duration = Duration::from_millis(300);

/// Between two questions to an authorizer that gave no answer.
const RETRY: Duration = Duration::from_secs(5);

/// What there is to see.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By namespace, then by workload, then by name.
    pub places: Vec<Arc<Place>>,
    /// The first look is not over.
    pub looking: bool,
    /// Why places may be missing or old, for the person.
    pub note: Option<String>,
}

/// Looks for a person, for as long as `keep` is polled.
pub struct View<'a> {
    sessions: &'a Sessions,
    caller: &'a Caller,
    session: &'a SessionId,
    answers: Answers,
    seen: watch::Sender<Arc<Seen>>,
}

impl Sessions {
    /// A view for this person; nothing is asked before `keep`.
    pub fn view<'a>(&'a self, caller: &'a Caller, session: &'a SessionId) -> View<'a> {
        let seen = watch::Sender::new(Arc::new(Seen { looking: true, ..Seen::default() }));
        View { sessions: self, caller, session, answers: Answers::default(), seen }
    }

    /// All that this person may know of now. Everything is asked about, whatever part of it is wanted: how long it takes
    /// tells nothing of what is there.
    pub(super) async fn open_places(&self, caller: &Caller, session: &SessionId) -> Result<Vec<Arc<Place>>, Failure> {
        let places = self.cluster.places();
        let mut open = Vec::new();
        for part in places.all.chunks(self.gate.at_once()) {
            let answers = self.ask_visible(caller, session, part).await?;
            open.extend(part.iter().zip(answers).filter(|(_, open)| *open).map(|(place, _)| Arc::clone(place)));
        }
        Ok(open)
    }

    async fn ask_visible(
        &self,
        caller: &Caller,
        session: &SessionId,
        part: &[Arc<Place>],
    ) -> Result<Vec<bool>, Failure> {
        let (profile, image) = self.default_profile();
        let looking = Looking {
            connection: &caller.connection,
            session,
            identity: &caller.identity,
            profile,
            image,
            source: caller.source,
        };
        let targets: Vec<_> = part.iter().map(|place| Arc::clone(place.target())).collect();
        self.gate.visible(looking, &targets).await.map_err(|refusal| Failure {
            code: refusal.code(),
            person: refusal.person(),
            operator: refusal.to_string(),
        })
    }

    /// Returns when nothing goes on for this person, whatever it is: their login counts no more, or Porthole stops.
    pub async fn over(&self, caller: &Caller) -> Failure {
        if let Err(failure) = self.refuse_expired(caller) {
            return failure;
        }
        tokio::select! {
            failure = self.discounted(caller) => failure,
            failure = self.credential_over(caller) => failure,
            () = self.closing.cancelled() => shutting_down(),
        }
    }
}

impl View<'_> {
    /// What is seen, as it changes.
    pub fn seen(&self) -> watch::Receiver<Arc<Seen>> {
        self.seen.subscribe()
    }

    /// Keeps the view true.
    pub async fn keep(mut self) -> Infallible {
        let sessions = self.sessions;
        let interval = sessions.recheck_interval;
        let mut changes = sessions.gate.changes();
        let mut again = Instant::now() + interval;
        let mut aged = false;
        loop {
            let places = sessions.cluster.places();
            let refused = self.ask(&places, &mut changes).await.err();
            if std::mem::take(&mut aged) {
                // From the end of a round: one that takes long is not followed by the next at once.
                again = Instant::now() + interval;
            }
            let note = match &refused {
                Some(failure) => Some(failure.person.clone()),
                None if places.stale => Some("the cluster does not answer, so this may be old".to_owned()),
                None => None,
            };
            self.tell(&places, false, note);
            let changed = async {
                // Who gave no answer is not asked about each change.
                match refused.is_some() {
                    true => tokio::time::sleep(RETRY).await,
                    false => {
                        sessions.cluster.places_changed(&places).await;
                        tokio::time::sleep(PACE).await;
                    }
                }
            };
            tokio::select! {
                () = changed => {}
                () = changes.next() => self.answers.age(),
                () = tokio::time::sleep_until(again) => {
                    self.answers.age();
                    aged = true;
                }
            }
        }
    }

    /// Asks about all that has no answer that counts.
    async fn ask(&mut self, places: &Places, changes: &mut Changes) -> Result<(), Failure> {
        self.answers.keep(&places.all);
        let first = self.answers.is_empty();
        let mut told = Instant::now();
        loop {
            let due = self.answers.due(&places.all);
            let mut moved = false;
            for part in due.chunks(self.sessions.gate.at_once()) {
                match self.sessions.ask_visible(self.caller, self.session, part).await {
                    Ok(open) => self.answers.learn(part, open),
                    Err(failure) => {
                        self.answers.forget_old();
                        return Err(failure);
                    }
                }
                moved = changes.next().now_or_never().is_some();
                if moved {
                    self.answers.age();
                    break;
                }
                if first && told.elapsed() >= PACE {
                    self.tell(places, true, None);
                    told = Instant::now();
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    /// Shows what is open, where that is another thing than before.
    fn tell(&self, places: &Places, looking: bool, note: Option<String>) {
        let seen = Seen { places: self.answers.open(&places.all), looking, note };
        self.seen.send_if_modified(|before| {
            let same = before.looking == seen.looking
                && before.note == seen.note
                && before.places.len() == seen.places.len()
                && before.places.iter().zip(&seen.places).all(|(one, other)| Arc::ptr_eq(one, other));
            if !same {
                *before = Arc::new(seen);
            }
            !same
        });
    }
}
