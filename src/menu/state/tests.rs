//! Where a person is in the menu, by keys and by what comes and goes around them.

use std::sync::Arc;
use std::time::Instant;

use super::*;

/// A view of these pods, as `namespace.pod` or `namespace.workload/pod`, in their order.
pub fn view(pods: &[&str]) -> Arc<Seen> {
    let places = pods.iter().map(|pod| {
        let (namespace, name) = pod.split_once('.').expect("a namespace");
        let (workload, name) = match name.split_once('/') {
            Some((workload, name)) => (Some(workload), name),
            None => (None, name),
        };
        Arc::new(Place::for_tests(namespace, name, workload, &["app", "log"], "Running"))
    });
    Arc::new(Seen { places: places.collect(), looking: false, note: None })
}

const PODS: [&str; 6] = ["demo.db/db-0", "demo.web/web-1", "demo.web/web-2", "demo.zoo", "team.api/api-1", "team.tool"];

fn menu(pods: &[&str]) -> State {
    let mut state = State::new(vec!["general".to_owned(), "netadmin".to_owned()]);
    state.see(view(pods));
    state.window(20);
    state
}

fn type_in(state: &mut State, text: &str) {
    for typed in text.chars() {
        assert_eq!(state.press(Key::Char(typed)), Step::Stay);
    }
}

fn shown(state: &mut State) -> Vec<String> {
    let rows = state.window(100).filter_map(|at| state.row(at));
    let name = |row| match row {
        Row::Namespace(at) => state.place(at).map(|place| place.namespace().to_owned()),
        Row::Workload(at, _) => state.place(at).and_then(|place| Some(format!("- {}", place.workload()?.1))),
        Row::Pod(at) => state.place(at).map(|place| format!("-- {}", place.pod())),
    };
    rows.filter_map(name).collect()
}

fn entered(state: &mut State) -> String {
    match state.press(Key::Enter) {
        Step::Enter(place) => place.to_string(),
        step => panic!("{step:?}"),
    }
}

#[test]
fn arrows_go_from_place_to_place_and_enter_names_it() {
    let mut state = menu(&PODS);
    assert_eq!(shown(&mut state)[..3], ["demo", "- db", "-- db-0"]);
    for (keys, place) in [
        (vec![], "demo.db"),
        (vec![Key::Down], "demo.db-0"),
        (vec![Key::Down], "demo.web"),
        (vec![Key::Up, Key::Up, Key::Up], "demo.db"),
        (vec![Key::End], "team.tool"),
        (vec![Key::Down], "team.tool"),
        (vec![Key::Up, Key::Up, Key::Up], "demo.zoo"),
        (vec![Key::Right], "team.api"),
        (vec![Key::Right], "team.api"),
        (vec![Key::Left], "demo.db"),
        (vec![Key::PageDown], "team.tool"),
        (vec![Key::PageUp], "demo.db"),
        (vec![Key::End, Key::Left], "team.api"),
        (vec![Key::Home], "demo.db"),
    ] {
        for key in &keys {
            state.press(*key);
        }
        assert_eq!(entered(&mut state), place, "{keys:?}");
    }
}

#[test]
fn what_is_typed_filters_by_any_name_and_esc_clears_before_it_leaves() {
    let mut state = menu(&PODS);
    type_in(&mut state, "WEB");
    assert_eq!(shown(&mut state), ["demo", "- web", "-- web-1", "-- web-2"]);
    assert_eq!((entered(&mut state), state.counts()), ("demo.web".to_owned(), (2, 6)));
    type_in(&mut state, "-2");
    assert_eq!(shown(&mut state), ["demo", "- web", "-- web-2"]);
    assert_eq!(state.press(Key::Ctrl('w')), Step::Stay);
    type_in(&mut state, "team tool");
    assert_eq!(shown(&mut state), ["team", "-- tool"]);
    state.press(Key::Ctrl('w'));
    assert_eq!(state.filter(), "team ");
    state.press(Key::Ctrl('u'));
    for (filter, first) in [("demo.web", "demo.web"), ("eam.to", "team.tool"), ("running db", "demo.db")] {
        type_in(&mut state, filter);
        assert_eq!(entered(&mut state), first, "{filter}");
        assert_eq!(state.press(Key::Esc), Step::Stay);
        assert_eq!(state.filter(), "");
    }
    type_in(&mut state, "nothing here");
    assert_eq!((shown(&mut state).len(), state.press(Key::Enter)), (0, Step::Stay));
    assert_eq!((state.press(Key::Esc), state.press(Key::Esc)), (Step::Stay, Step::Leave));
    assert_eq!((state.press(Key::Ctrl('c')), state.press(Key::Ctrl('d'))), (Step::Leave, Step::Leave));
    type_in(&mut state, &"x".repeat(500));
    assert_eq!(state.filter().len(), FILTER_MAX_CHARS);
}

#[test]
fn the_selection_stays_on_its_place_while_others_come_and_go() {
    let mut state = menu(&PODS);
    state.see(view(&["a.first", "demo.zoo"]));
    assert_eq!(entered(&mut state), "a.first", "nobody has moved yet");
    state.see(view(&PODS));
    for _ in 0..4 {
        state.press(Key::Down);
    }
    assert_eq!(entered(&mut state), "demo.web-2");
    state.see(view(&["a.first", "a.second", "demo.web/web-0", "demo.web/web-1", "demo.web/web-2", "demo.zoo"]));
    assert_eq!(entered(&mut state), "demo.web-2");
    state.see(view(&["demo.web/web-0", "demo.zoo"]));
    assert_eq!(entered(&mut state), "demo.zoo", "what is near, where it has gone");
    state.see(view(&[]));
    assert_eq!(state.press(Key::Enter), Step::Stay);
    state.see(view(&PODS));
    assert_eq!(entered(&mut state), "demo.db");
}

#[test]
fn the_second_key_picks_container_and_profile_and_goes_with_its_place() {
    let mut state = menu(&PODS);
    state.press(Key::Down);
    state.press(Key::Tab);
    assert_eq!(entered(&mut state), "demo.db-0", "defaults need no words");
    state.press(Key::Down);
    state.press(Key::Down);
    assert_eq!(entered(&mut state), "demo.db-0+log");
    state.press(Key::Tab);
    state.press(Key::Down);
    assert_eq!(entered(&mut state), "demo.db-0+log~netadmin");
    // Letters are no keys here, and the filter stays.
    type_in(&mut state, "x");
    state.see(view(&["a.first", "demo.db/db-0"]));
    assert_eq!(entered(&mut state), "demo.db-0+log~netadmin", "it stays over changes of others");
    state.see(view(&["a.first", "demo.zoo"]));
    assert!(state.choice().is_none(), "a place that is closed cannot be chosen of");
    state.press(Key::Tab);
    assert_eq!((state.press(Key::Esc), state.press(Key::Esc)), (Step::Stay, Step::Leave));
}

#[test]
fn the_window_holds_the_selection_and_what_stands_over_it() {
    let mut state = menu(&PODS);
    for height in 1..12 {
        state.press(Key::Home);
        let first = state.window(height);
        assert!(first.contains(&state.selected()), "{height}");
        assert!(height == 1 || first.start == 0, "{height}: the heading is shown with the first place");
        for _ in 0..12 {
            state.press(Key::Down);
            let window = state.window(height);
            assert!(window.contains(&state.selected()) && window.len() <= height, "{height}");
        }
    }
}

/// Not a bound for a slow machine, but for work that grows with the square: that took minutes.
#[test]
fn five_thousand_places_are_filtered_at_once() {
    let pods: Vec<_> =
        (0..5000).map(|at| format!("team-{:02}.app-{:03}/app-{:03}-{at}", at / 100, at / 10, at / 10)).collect();
    let pods: Vec<_> = pods.iter().map(String::as_str).collect();
    let seen = view(&pods);
    let mut state = menu(&[]);
    let started = Instant::now();
    for _ in 0..10 {
        state.see(Arc::clone(&seen));
        type_in(&mut state, "app-4");
        state.press(Key::End);
        state.press(Key::Esc);
    }
    let each = started.elapsed() / 80;
    println!("5,000 places: {each:?} a key");
    assert!(each.as_millis() < 100, "{each:?}");
    assert_eq!(state.counts(), (5000, 5000));
}
