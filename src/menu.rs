//! The menu: what a person sees who logs in without a place, and goes in from.
//!
//! `Sessions::view` says what there is to see, `state` what of it is shown and selected, `draw` or `lines` how. One task
//! does it all: a frame is written, and only when the client's window has taken it is there a next one, so a slow line is
//! behind by one frame at most. Whoever goes in goes the usual way, and is asked about again there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::audit::SessionId;
use crate::session::{
    Caller, Client, ClientGone, Failure, Outlet, Request, Seen, Sessions, Terminal, What, shutting_down,
};
use crate::target::{LoginName, TargetName};

mod choice;
mod draw;
pub mod keys;
mod lines;
mod screen;
mod state;
mod terminal;

use draw::Look;
use keys::Keys;
use lines::Lines;
use screen::Screen;
use state::{State, Step};
use terminal::Features;

/// An escape that nothing follows for so long is the key; a slow line has the rest of a sequence in the same packet.
const ESCAPE: Duration = Duration::from_millis(50);

/// How old an age on the screen may become.
const TICK: Duration = Duration::from_secs(10);

/// Keys that are taken before the screen is drawn again, and others get their turn: each may look at all places.
const KEYS_PER_FRAME: usize = 64;

/// Who forgets the menu holds a channel, and costs the authorizer a question now and then.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// How a menu ends.
pub enum Chosen {
    /// In this place the same channel goes on.
    Place(TargetName),
    /// The person left it.
    Left,
    Failed(Failure),
    ClientLeft,
}

/// The terminal of a request that the menu answers: no place, no command, and somebody who may choose.
pub fn terminal<'a>(caller: &Caller, request: &'a Request) -> Option<&'a Terminal> {
    let lobby = matches!(caller.place, Ok(LoginName::Lobby)) && request.what == What::Shell;
    request.terminal.as_ref().filter(|_| lobby && caller.identity.force_command().is_none())
}

/// What a menu needs beside its client.
pub struct Menu<'a> {
    pub sessions: &'a Sessions,
    pub caller: &'a Caller,
    pub session: &'a SessionId,
    pub request: &'a Request,
    /// Cancelled when nothing new may begin: a menu has nothing to finish.
    pub draining: &'a CancellationToken,
}

impl Menu<'_> {
    /// Shows itself until it ends, and leaves the terminal as it was. What was typed after the choice stays in the client's
    /// input.
    pub async fn choose<O: Outlet>(self, terminal: &Terminal, client: &mut Client<O>) -> Chosen {
        let view = self.sessions.view(self.caller, self.session);
        let features = Features::of(&terminal.name, &self.request.env);
        let mut screen = Screen::new(features.colors);
        let gone = client.gone.clone();
        let mut dialogue = Dialogue {
            state: State::new(self.sessions.profile_names().into_iter().map(str::to_owned).collect()),
            seen: view.seen(),
            subject: self.caller.identity.subject(),
            unicode: features.unicode,
            keys: Keys::default(),
            idle: Instant::now() + IDLE,
            client,
        };
        let shown = async {
            match features.screen {
                true => dialogue.by_screen(&mut screen).await,
                false => dialogue.by_lines().await,
            }
        };
        let chosen = tokio::select! {
            chosen = shown => chosen.unwrap_or(Chosen::ClientLeft),
            never = view.keep() => match never {},
            () = gone.cancelled() => Chosen::ClientLeft,
            () = self.draining.cancelled() => Chosen::Failed(shutting_down()),
            failure = self.sessions.over(self.caller) => Chosen::Failed(failure),
        };
        dialogue.client.input.put_back(&dialogue.keys.rest());
        if let Chosen::Failed(failure) = &chosen {
            let session = self.session;
            tracing::info!(%session, code = failure.code, detail = failure.operator, "the menu ended");
        }
        let mut last = screen.end().to_owned();
        if let Chosen::Place(place) = &chosen {
            last.push_str(&format!("{place}\r\n"));
        }
        let farewell = dialogue.client.output.stdout(Bytes::from(last));
        tokio::select! {
            said = farewell => if said.is_ok() { chosen } else { Chosen::ClientLeft },
            () = gone.cancelled() => Chosen::ClientLeft,
        }
    }
}

/// The menu's side of a conversation.
struct Dialogue<'a, O> {
    state: State,
    seen: watch::Receiver<Arc<Seen>>,
    subject: &'a str,
    unicode: bool,
    keys: Keys,
    idle: Instant,
    client: &'a mut Client<O>,
}

/// What the person, their terminal or the cluster did.
enum News {
    Typed,
    Seen,
    /// The size, or nothing but the time.
    Look,
    End(Chosen),
}

impl<O: Outlet> Dialogue<'_, O> {
    async fn by_screen(&mut self, screen: &mut Screen) -> Result<Chosen, ClientGone> {
        loop {
            let size = *self.client.sizes.borrow_and_update();
            let look = Look { subject: self.subject, now: Timestamp::now(), unicode: self.unicode };
            let state = &mut self.state;
            let frame = screen.frame(size, |area, buffer| draw::draw(state, &look, area, buffer));
            if !frame.is_empty() {
                self.client.output.stdout(Bytes::from(frame)).await?;
            }
            match self.news(TICK).await {
                News::Typed => {
                    for _ in 0..KEYS_PER_FRAME {
                        let Some(key) = self.keys.next() else { break };
                        match self.state.press(key) {
                            Step::Stay => {}
                            Step::Redraw => screen.forget(),
                            Step::Enter(place) => return Ok(Chosen::Place(place)),
                            Step::Leave => return Ok(Chosen::Left),
                        }
                    }
                }
                News::Seen => self.state.see(Arc::clone(&self.seen.borrow_and_update())),
                News::Look => {}
                News::End(chosen) => return Ok(chosen),
            }
        }
    }

    async fn by_lines(&mut self) -> Result<Chosen, ClientGone> {
        let mut lines = Lines::default();
        self.say("looking for the places that are open to you\r\n".to_owned()).await?;
        // The sender lives as long as the menu.
        let _ = self.seen.wait_for(|seen| !seen.looking).await;
        loop {
            if lines.begins() {
                self.state.see(Arc::clone(&self.seen.borrow_and_update()));
            }
            let size = *self.client.sizes.borrow_and_update();
            self.say(lines.page(&self.state, size, Timestamp::now())).await?;
            loop {
                let Some(key) = self.keys.next() else {
                    match self.news(IDLE).await {
                        News::End(chosen) => return Ok(chosen),
                        News::Typed | News::Look => {}
                        // A list that is printed stays.
                        News::Seen => drop(self.seen.borrow_and_update()),
                    }
                    continue;
                };
                let (echo, step) = lines.press(key, &mut self.state);
                self.say(echo).await?;
                match step {
                    None | Some(Step::Redraw) => {}
                    Some(Step::Stay) => break,
                    Some(Step::Enter(place)) => return Ok(Chosen::Place(place)),
                    Some(Step::Leave) => return Ok(Chosen::Left),
                }
            }
        }
    }

    async fn say(&self, text: String) -> Result<(), ClientGone> {
        match text.is_empty() {
            true => Ok(()),
            false => self.client.output.stdout(Bytes::from(text)).await,
        }
    }

    /// Waits for something to happen, or for the time that a frame is good for.
    async fn news(&mut self, tick: Duration) -> News {
        // More keys than one frame takes: the loop is not left to them alone.
        if self.keys.ready() {
            tokio::task::yield_now().await;
            return News::Typed;
        }
        tokio::select! {
            piece = self.client.input.next() => {
                let Some(piece) = piece else { return News::End(Chosen::Left) };
                self.keys.push(&piece);
                self.idle = Instant::now() + IDLE;
                News::Typed
            }
            () = tokio::time::sleep(ESCAPE), if self.keys.waits() => {
                self.keys.settle();
                News::Typed
            }
            Ok(()) = self.seen.changed() => News::Seen,
            Ok(()) = self.client.sizes.changed() => News::Look,
            () = tokio::time::sleep(tick) => News::Look,
            () = tokio::time::sleep_until(self.idle) => {
                let line = "nothing was typed for half an hour, so the menu is closed: log in again";
                News::End(Chosen::Failed(Failure::new("menu_idle", line)))
            }
        }
    }
}
