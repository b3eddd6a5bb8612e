//! The provider changes its keys while people log in: nobody is refused once that is known, and it is not asked too often.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::gateway::request::upgrade;
use crate::house::{House, Plan};
use crate::provider::{KEYS, Provider};

/// `jwks-refresh-pause` of this house.
const PAUSE: Duration = Duration::from_secs(1);
/// How long each key is in use.
const TERM: Duration = Duration::from_secs(2);
const PEOPLE: usize = 6;

/// One login.
struct Login {
    began: Instant,
    ended: Instant,
    key: String,
    /// What the server answered: nothing, if it let them in.
    refused: Option<String>,
}

/// Logs in once, by a token that the provider has just made.
fn log_in(house: &House, provider: &Provider) -> Login {
    let mut key = String::new();
    let token = provider.token(|header, _| key = header["kid"].as_str().expect("it names its key").to_owned());
    let began = Instant::now();
    let answer = upgrade(house.gateway_port(), &format!("Authorization: Bearer {token}\r\n"));
    let ended = Instant::now();
    let entered = answer.starts_with("HTTP/1.1 101 ");
    Login { began, ended, key, refused: (!entered).then_some(answer) }
}

#[test]
fn under_load_a_rotation_refuses_nobody_once_it_is_known_and_the_provider_is_asked_seldom() {
    let provider = Provider::start();
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\njwks-refresh-pause = \"1s\"\n\
         [http]\naddress = \"127.0.0.1:0\"\ntrusted-networks = [\"127.0.0.0/8\"]\n",
        provider.url
    );
    let house = House::build(Plan { config, ..Plan::default() });
    let (over, forged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (told, logins) = mpsc::sync_channel(1024);
    let began = Instant::now();
    // Since when each key may be in use; the first one's own time does not matter.
    let mut rotations = BTreeMap::from([("first".to_owned(), began)]);
    let mut all = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..PEOPLE {
            let told = told.clone();
            let (house, provider, over) = (&house, &provider, &over);
            scope.spawn(move || while !over.load(Ordering::Relaxed) && told.send(log_in(house, provider)).is_ok() {});
        }
        // Somebody who makes up keys, so that there is always a reason to ask.
        let (house, provider, over, forged) = (&house, &provider, &over, &forged);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let count = forged.fetch_add(1, Ordering::Relaxed);
                let token = provider.token(|header, _| header["kid"] = json!(format!("made up {count}")));
                let answer = upgrade(house.gateway_port(), &format!("Authorization: Bearer {token}\r\n"));
                assert!(answer.contains("\"code\":\"token_unknown_key\""), "{answer}");
            }
        });
        drop(told);
        for login in logins {
            let age = login.began - began;
            all.push(login);
            for (turn, id) in (1_u32..).zip(["second", "third"]) {
                if age > TERM * turn && !rotations.contains_key(id) {
                    rotations.insert(id.to_owned(), Instant::now());
                    provider.rotate(id);
                }
            }
            if age > TERM * 3 {
                over.store(true, Ordering::Relaxed);
            }
        }
    });
    let elapsed = began.elapsed();

    for (id, used) in &rotations {
        let of_this = || all.iter().filter(|login| login.key == *id);
        let known = of_this().filter(|login| login.refused.is_none()).map(|login| login.ended).min();
        let known = known.unwrap_or_else(|| panic!("nobody ever came in by the key {id}"));
        let late = known.saturating_duration_since(*used);
        assert!(late < PAUSE * 2, "the key {id} was learnt only after {late:?}");
        let withdrawn = rotations.values().filter(|at| *at > used).min();
        for login in of_this() {
            let Some(refused) = &login.refused else { continue };
            // It came before somebody was in by this key, or the key was withdrawn while it was on its way.
            let too_early = login.began <= known && refused.contains("\"token_unknown_key\"");
            let too_late = withdrawn.is_some_and(|at| login.ended >= *at) && refused.contains("\"token_retired_key\"");
            assert!(too_early || too_late, "by {id}, {:?} after it was known: {refused}", login.began - known);
        }
    }
    let (asked, most) = (provider.asked(KEYS), elapsed.as_secs() as usize / PAUSE.as_secs() as usize + 2);
    println!(
        "{} logins and {} forged tokens in {elapsed:?}: {asked} requests for keys",
        all.len(),
        forged.load(Ordering::Relaxed)
    );
    assert!((3..=most).contains(&asked), "{asked} requests in {elapsed:?}");
    assert!(all.len() > 100, "no load: {} logins", all.len());
}
