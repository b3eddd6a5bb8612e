//! Many device logins at once, from many addresses: the limits hold, it costs little, and whoever has a credential gets in.
//!
//! `PORTHOLE_TEST_STRANGERS` is how many wait; a thousand take a minute.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use russh::client::{self, Handle, KeyboardInteractiveAuthResponse};
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::hostile::Trusting;
use crate::house::{House, Plan, await_change, finish, text};
use crate::provider::{Answer, DEVICE, Provider};

/// How many may wait from one address.
const PER_ADDRESS: usize = 5;
/// How many come at the same moment.
const AT_ONCE: usize = 16;
/// How often such a crowd comes. The first two fill what the allocator keeps, and the third finds it there.
const TURNS: u8 = 3;
/// What one that waits may cost: its connection's buffers, and a request to the provider.
const EACH_KIB: u64 = 512;

fn strangers() -> usize {
    std::env::var("PORTHOLE_TEST_STRANGERS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

/// Somebody who has asked: what they were told, and their connection while there is more to come.
struct Visitor {
    said: String,
    waits: Option<Handle<Trusting>>,
}

/// Comes from this address and asks to log in.
async fn visit(port: u16, source: Ipv4Addr) -> Visitor {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from((source, 0))).expect("all of 127.0.0.0/8 is this machine's");
    let stream = socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.expect("a server");
    let config = Arc::new(client::Config::default());
    let mut handle = client::connect_stream(config, stream, Trusting).await.expect("an SSH server");
    let asked = handle.authenticate_keyboard_interactive_start("demo.web", None).await.expect("an answer");
    let KeyboardInteractiveAuthResponse::InfoRequest { instructions: said, prompts, .. } = asked else {
        panic!("nothing is said to {source}");
    };
    assert!(prompts.is_empty(), "somebody is asked for something");
    if said.contains("open this link within") {
        return Visitor { said, waits: Some(handle) };
    }
    assert!(!go_on(handle).await, "somebody was let in");
    Visitor { said, waits: None }
}

/// Answers as a client does, until there is nothing to answer: whether that let anybody in.
async fn go_on(mut handle: Handle<Trusting>) -> bool {
    loop {
        match handle.authenticate_keyboard_interactive_respond(Vec::new()).await {
            Ok(KeyboardInteractiveAuthResponse::InfoRequest { .. }) => {}
            answer => return matches!(answer, Ok(KeyboardInteractiveAuthResponse::Success)),
        }
    }
}

/// The addresses of a crowd: `PER_ADDRESS` from each, in 127.`network`.0.0/16.
fn addresses(network: u8, count: usize) -> impl Iterator<Item = Ipv4Addr> {
    (0..count).map(move |n| {
        let [high, low] = u16::try_from(n / PER_ADDRESS + 1).expect("not so many").to_be_bytes();
        Ipv4Addr::new(127, network, high, low)
    })
}

/// Lets a crowd come; returns those who wait, who answer from then on, and what the others were told.
async fn come(port: u16, crowd: impl Iterator<Item = Ipv4Addr>) -> (JoinSet<bool>, Vec<String>) {
    let mut visitors = stream::iter(crowd.map(|source| visit(port, source))).buffer_unordered(AT_ONCE);
    let (mut waiting, mut refused) = (JoinSet::new(), Vec::new());
    while let Some(Visitor { said, waits }) = visitors.next().await {
        match waits {
            Some(handle) => drop(waiting.spawn(go_on(handle))),
            None => refused.push(said),
        }
    }
    (waiting, refused)
}

fn count(house: &House, code: &str) -> usize {
    let trail = std::fs::read_to_string(house.file("audit.jsonl")).expect("there");
    trail.matches(&format!("\"code\":\"{code}\"")).count()
}

/// How long a person with a certificate takes from the start of `ssh` to the end of a word of Porthole's own.
fn log_in_by_certificate(house: &House) -> Duration {
    let began = Instant::now();
    let output = finish(house.client("ssh").args(["login@porthole", "whoami"]));
    assert!(output.status.success() && text(&output.stdout).contains("dev"), "{}", text(&output.stderr));
    began.elapsed()
}

#[test]
fn a_crowd_that_waits_is_within_its_limits_and_keeps_nobody_out() {
    let strangers = strangers();
    let provider = Provider::start();
    let answer = json!({
        "device_code": "a-device-code", "user_code": "WDJB-MJHT", "verification_uri": format!("{}/device", provider.url),
        "expires_in": 1800, "interval": 5,
    });
    provider.answer(DEVICE, Answer::Json(200, answer));
    let most = strangers * 2 + 100;
    let config = format!(
        "[issuers.test]\nurl = \"{}\"\naudiences = [\"porthole\"]\n[device]\nissuer = \"test\"\n\
         max-pending = {strangers}\nmax-pending-per-address = {PER_ADDRESS}\n\
         [ssh]\nmax-unauthenticated = {most}\nmax-connections = {most}\n",
        provider.url
    );
    let house = House::build(Plan { config, ..Plan::default() });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let alone = (0..5).map(|_| log_in_by_certificate(&house)).max().expect("some");
    let mut memory = vec![house.memory_kib()];
    let began = Instant::now();
    for turn in 1..=TURNS {
        // As many as may wait, but for one address that has more than may from there.
        // Each turn from addresses of its own, for what is left unfinished counts for its address.
        let crowded = Ipv4Addr::new(127, 1, 0, turn);
        let first = [crowded; PER_ADDRESS].into_iter().chain(addresses(10 + turn, strangers - PER_ADDRESS - 1));
        let (mut waiting, refused) = runtime.block_on(come(house.port, first));
        assert_eq!((waiting.len(), refused.len()), (strangers - 1, 0));
        let (more, refused) = runtime.block_on(come(house.port, [crowded; PER_ADDRESS].into_iter()));
        assert_eq!((more.len(), refused.len()), (0, PER_ADDRESS));
        assert!(refused.iter().all(|said| said.starts_with("porthole: too many logins wait at your address")));
        let (mut last, _) = runtime.block_on(come(house.port, [Ipv4Addr::new(127, 2, 0, turn)].into_iter()));
        assert_eq!(last.len(), 1, "there was one place left");
        // And now as many again as a quarter of them, each from elsewhere: they find a place, and those who share an
        // address with many lose theirs.
        let elsewhere = (1..=strangers / 4).map(|n| {
            let [high, low] = u16::try_from(n).expect("not so many").to_be_bytes();
            Ipv4Addr::new(127, 20 + turn, high, low)
        });
        let (mut more, refused) = runtime.block_on(come(house.port, elsewhere));
        assert_eq!((more.len(), refused.len()), (strangers / 4, 0));
        for _ in 0..strangers / 4 {
            let displaced = runtime.block_on(waiting.join_next()).expect("somebody").expect("no panic");
            assert!(!displaced, "somebody was let in");
        }

        memory.push(house.memory_kib());
        let meanwhile = (0..5).map(|_| log_in_by_certificate(&house)).max().expect("some");
        println!(
            "turn {turn}: {strangers} wait, {} were refused or displaced, {:?} since the first; a certificate's login took {meanwhile:?} \
             at most, {alone:?} when nobody waits; memory so far {memory:?} KiB",
            strangers / 4 + PER_ADDRESS,
            began.elapsed()
        );
        assert!(meanwhile < Duration::from_secs(1), "a person with a certificate waited for {meanwhile:?}");
        // None of them is let in, or leaves by itself.
        let left = [&mut waiting, &mut more, &mut last].into_iter().any(|who| who.try_join_next().is_some());
        assert!(!left && waiting.len() + more.len() + last.len() == strangers, "one of them did not wait");
        runtime.block_on(async { tokio::join!(waiting.shutdown(), more.shutdown(), last.shutdown()) });
        let (turn, left) = (usize::from(turn), "device_client_left");
        let gone = await_change(house.folder(), || (count(&house, left) == strangers * turn).then_some(()));
        assert!(gone.is_some(), "{} of {} have left", count(&house, left), strangers * turn);
        assert_eq!(count(&house, "device_started"), (strangers + strangers / 4) * turn);
        assert_eq!(count(&house, "device_too_many_here"), PER_ADDRESS * turn);
        assert_eq!(count(&house, "device_displaced"), strangers / 4 * turn);
        assert_eq!(provider.asked(DEVICE), (strangers + strangers / 4) * turn, "a code for each that had a place");
    }
    memory.push(house.memory_kib());
    println!("memory: {memory:?} KiB");
    let [before, first, second, third, after] = memory[..] else { panic!("{memory:?}") };
    assert!(first < before + EACH_KIB * strangers as u64, "each costs too much: {memory:?}");
    assert!(second < first + first / 6 && third.max(after) < second + second / 16, "it grows: {memory:?}");
    assert!(!house.log().contains("panicked"), "{}", house.log());
}
