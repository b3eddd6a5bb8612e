//! Hostile keyboard-interactive: counts that lie, answers that nobody asked for, and answers without an end.
//!
//! The link is all that anybody gets by it: no login, no second code, no memory, and no word of a server that fell.

use crate::device::house;
use crate::house::House;
use crate::provider::{DEVICE, Provider};
use crate::wire::{Wire, string};

/// SSH's numbers: RFC 4252 and RFC 4256.
const FAILURE: u8 = 51;
const SUCCESS: u8 = 52;
const INFO_REQUEST: u8 = 60;
const INFO_RESPONSE: u8 = 61;

/// What memory may come and go meanwhile, in KiB.
const SLACK_KIB: u64 = 8 * 1024;

/// An answer that says it has so many responses, and goes on with these bytes.
fn answer(count: u32, rest: &[u8]) -> Vec<u8> {
    [&[INFO_RESPONSE][..], &count.to_be_bytes(), rest].concat()
}

/// A client that has asked, and has the link.
fn asked(house: &House) -> Wire {
    let mut client = Wire::connect(house.port);
    assert!(client.ask("demo.web"));
    let link = client.receive().expect("the link");
    assert!(link[0] == INFO_REQUEST && String::from_utf8_lossy(&link).contains("open this link"), "{link:?}");
    client
}

#[test]
fn answers_whose_count_lies_let_nobody_in_and_cost_no_memory() {
    let provider = Provider::start();
    let house = house(&provider, "max-pending-per-address = 50\n");
    let empty = string(b"");
    let endless_string = [&u32::MAX.to_be_bytes()[..], b"x"].concat();
    drop(asked(&house));
    let before = house.memory_kib();
    for (what, sent) in [
        ("a count of four billion, and nothing", answer(u32::MAX, b"")),
        ("a count of four billion, and one response", answer(u32::MAX, &empty)),
        ("a count of four billion, and sixty thousand", answer(u32::MAX, &empty.repeat(60_000))),
        ("sixty thousand, and as many as it says", answer(60_000, &empty.repeat(60_000))),
        ("one large response", answer(1, &string(&vec![b'x'; 240_000]))),
        ("a response of four gigabytes", answer(1, &endless_string)),
        ("many responses of four gigabytes", answer(60_000, &endless_string.repeat(20_000))),
        ("fewer than there are", answer(1, &empty.repeat(2))),
        ("none, and yet some", answer(0, &empty.repeat(60_000))),
        ("half a count", vec![INFO_RESPONSE, 0, 0]),
        ("nothing at all", vec![INFO_RESPONSE]),
    ] {
        for _ in 0..2 {
            let mut client = asked(&house);
            assert!(client.send(&sent), "{what}");
            // The next round, a line that tells why not, a no, or the end.
            let next = client.receive().and_then(|packet| packet.first().copied());
            assert!([None, Some(INFO_REQUEST), Some(FAILURE)].contains(&next), "{what}: {next:?}");
        }
        let now = house.memory_kib();
        assert!(now < before + SLACK_KIB, "{what}: {before} KiB before, {now} KiB after");
    }
    stands(&house);
}

#[test]
fn answers_that_nobody_asked_for_or_after_the_end_are_refused_and_end() {
    let provider = Provider::start();
    let house = house(&provider, "");
    // Before anything was asked.
    let mut client = Wire::connect(house.port);
    for _ in 0..100 {
        client.send(&answer(0, b""));
    }
    assert!(never_succeeds(&mut client) > 0, "no word to any of them");
    assert_eq!(provider.asked(DEVICE), 0, "an answer is no question");
    // After the end: an unasked response ends the login, and then there is nothing to answer any more.
    let mut client = asked(&house);
    client.send(&answer(1, &string(b"y")));
    for _ in 0..100 {
        client.send(&answer(0, b""));
        client.ask("demo.web");
    }
    never_succeeds(&mut client);
    assert_eq!(provider.asked(DEVICE), 1, "one code a connection");
    house.await_audit("refusal", |event| event["code"] == "device_unasked_answer");
    stands(&house);
}

#[test]
fn answers_ahead_of_their_questions_cost_no_memory_and_the_person_still_gets_in() {
    let provider = Provider::start();
    let house = house(&provider, "");
    let mut client = asked(&house);
    let before = house.memory_kib();
    // What the server does not take is for the network to keep.
    assert!((0..20_000).all(|_| client.send(&answer(0, b""))), "the server hung up");
    let now = house.memory_kib();
    assert!(now < before + SLACK_KIB, "{before} KiB before, {now} KiB after");
    provider.approve(&provider.token(|_, _| {}));
    // The person gets in by their own approval, and by nothing else.
    let ended = loop {
        match client.receive() {
            Some(packet) if packet[0] == INFO_REQUEST => {}
            other => break other,
        }
    };
    assert_eq!(ended.map(|packet| packet[0]), Some(SUCCESS));
    stands(&house);
}

#[test]
fn lengths_that_no_packet_has_end_their_connection() {
    let provider = Provider::start();
    let house = house(&provider, "");
    let before = house.memory_kib();
    for length in [0, 1, 15, 1 << 20, 0x7fff_fff0, u32::MAX] {
        let mut client = asked(&house);
        client.send_raw(&[&length.to_be_bytes()[..], &[0; 64]].concat());
        assert_eq!(client.receive(), None, "{length}");
    }
    let now = house.memory_kib();
    assert!(now < before + SLACK_KIB, "{before} KiB before, {now} KiB after");
    stands(&house);
}

/// Reads to the end, in which there must be no success; how many packets there were.
fn never_succeeds(client: &mut Wire) -> usize {
    let mut packets = 0;
    while let Some(packet) = client.receive() {
        assert_ne!(packet[0], SUCCESS, "somebody was let in");
        packets += 1;
    }
    packets
}

/// The server is as it was.
fn stands(house: &House) {
    assert_eq!(house.ssh("demo.web", "exit 3").status.code(), Some(3));
    assert!(!house.log().contains("panicked"), "{}", house.log());
}
