//! What stands on the screen, at several sizes.

use std::sync::Arc;

use ratatui::style::Modifier;

use super::*;
use crate::menu::keys::Key;
use crate::session::Seen;

fn places() -> Arc<Seen> {
    let place = |namespace: &str, pod: &str, workload, state: &str| {
        Arc::new(Place::for_tests(namespace, pod, workload, &["app", "log"], state))
    };
    let places = vec![
        place("demo", "broken", None, "ImagePullBackOff"),
        place("demo", "web-5fd7c9d7b5-abcde", Some("web"), "Running"),
        place("demo", "web-5fd7c9d7b5-fghij", Some("web"), "Running"),
        place("team", "tool", None, "Pending"),
    ];
    Arc::new(Seen { places, looking: false, note: None })
}

fn state() -> State {
    let mut state = State::new(vec!["general".to_owned(), "netadmin".to_owned()]);
    state.see(places());
    state
}

fn screen(state: &mut State, columns: u16, rows: u16) -> (Vec<String>, Buffer) {
    let area = Rect::new(0, 0, columns, rows);
    let mut buffer = Buffer::empty(area);
    let look = Look { subject: "alice", now: "2026-01-01T03:00:00Z".parse().unwrap(), unicode: false };
    draw(state, &look, area, &mut buffer);
    let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    ((0..rows).map(line).collect(), buffer)
}

#[test]
fn at_80x24_everything_stands_in_its_column() {
    let (lines, buffer) = screen(&mut state(), 80, 24);
    let title = format!(" porthole  the places open to you{}alice", " ".repeat(41));
    assert_eq!(lines[..3], [title.as_str(), " >   type to filter", ""]);
    assert!(lines[3].starts_with(" NAME") && lines[3].ends_with(" AGE") && lines[3].len() == 79, "{:?}", lines[3]);
    let ends = |line: &str, word: &str| line.find(word).map(|at| at + word.len());
    for row in [&lines[5], &lines[7], &lines[10]] {
        assert_eq!(ends(row, "3h"), ends(&lines[3], "AGE"), "{row:?}");
        assert_eq!(ends(row, "0/2"), ends(&lines[3], "READY"), "{row:?}");
    }
    assert_eq!((lines[4].as_str(), lines[9].as_str()), (" demo", " team"));
    assert!(lines[5].starts_with("   broken ") && lines[5].contains("ImagePullBackOff"), "{:?}", lines[5]);
    assert!(lines[6].starts_with("   web  Deployment"), "{:?}", lines[6]);
    assert!(lines[7].starts_with("     web-5fd7c9d7b5-abcde "), "{:?}", lines[7]);
    assert_eq!(lines[22], " login name  demo.broken");
    assert!(lines[23].starts_with(" Enter go in") && lines[23].ends_with("4 pods"), "{:?}", lines[23]);
    let reversed = |y: u16| (1..79).all(|x| buffer[(x, y)].modifier.contains(Modifier::REVERSED));
    assert!(reversed(5) && !(6..22).any(reversed), "the selection is a line, without colours too");
}

#[test]
fn a_small_screen_has_what_is_needed_most_and_none_breaks_it() {
    let mut state = state();
    for columns in (1..90).chain([200, 400]) {
        for rows in (1..26).chain([60, 200]) {
            let (lines, _) = screen(&mut state, columns, rows);
            let wide_enough = columns >= 12;
            assert!(!wide_enough || lines.iter().any(|line| line.contains("broken")), "{columns}x{rows}: {lines:?}");
        }
    }
    state.press(Key::Tab);
    for columns in 1..90 {
        for rows in 1..26 {
            screen(&mut state, columns, rows);
        }
    }
    let (lines, _) = screen(&mut self::state(), 56, 8);
    assert!(lines.iter().any(|line| line.contains("READY")) && !lines.iter().any(|line| line.contains("RESTARTS")));
    let (lines, _) = screen(&mut self::state(), 200, 60);
    assert!(lines[3].find("READY") < Some(40), "wide screens keep the columns near the names: {:?}", lines[3]);
    assert!(lines[3].contains("CONTAINERS") && lines[5].contains("app, log"), "{:?}", &lines[3..6]);
}

#[test]
fn a_namespace_above_the_window_is_named_in_the_head() {
    let mut state = state();
    let (lines, _) = screen(&mut state, 80, 10);
    assert!(!lines[3].contains("demo"), "{lines:#?}");
    state.press(Key::Down);
    state.press(Key::Down);
    state.press(Key::Down);
    let (lines, _) = screen(&mut state, 80, 10);
    assert!(lines[3].starts_with(" NAME  demo "), "{lines:#?}");
}

#[test]
fn the_second_page_shows_containers_and_profiles_with_the_name_they_make() {
    let mut state = state();
    for key in [Key::Tab, Key::Down, Key::Tab, Key::Down] {
        state.press(key);
    }
    let (lines, _) = screen(&mut state, 80, 24);
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["CONTAINER", "PROFILE"]) && has(&["app  default", "general  default"]), "{lines:#?}");
    assert!(has(&["* log", "* netadmin"]) && has(&["login name  demo.broken+log~netadmin"]), "{lines:#?}");
}

#[test]
fn an_empty_list_says_why() {
    for (looking, note, filter, words) in [
        (true, None, "", "looking for the places"),
        (false, None, "", "no place is open to you"),
        (false, Some("the authorizer is away\u{1b}[2J"), "", "the authorizer is away [2J"),
    ] {
        let mut state = State::new(vec!["general".to_owned()]);
        state.see(Arc::new(Seen { places: Vec::new(), looking, note: note.map(str::to_owned) }));
        state.search(filter);
        let (lines, _) = screen(&mut state, 80, 24);
        assert!(lines.iter().any(|line| line.contains(words)), "{words}: {lines:#?}");
    }
    let mut state = state();
    state.search("nothing");
    let (lines, _) = screen(&mut state, 80, 24);
    assert!(lines.iter().any(|line| line.contains("Esc clears")) && lines[23].ends_with("0 of 4 pods"), "{lines:#?}");
}
