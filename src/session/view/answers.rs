//! What the `Gate` has said of each place, and how long it counts.
//!
//! Guards: an answer is for the question that was asked: a place that is another one now (other labels, another address)
//! has none. Answers that have aged are asked for again, and count until the new one is there; where none comes, they are gone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::cluster::{Place, Target};

/// The answers for one person, by the pods' uids.
#[derive(Default)]
pub(super) struct Answers {
    all: HashMap<String, Answer>,
    round: u64,
}

struct Answer {
    target: Arc<Target>,
    round: u64,
    open: bool,
}

impl Answers {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Everything is to be asked again.
    pub fn age(&mut self) {
        self.round += 1;
    }

    /// Forgets what is not among these places.
    pub fn keep(&mut self, places: &[Arc<Place>]) {
        let there: HashSet<&str> = places.iter().map(|place| place.uid()).collect();
        self.all.retain(|uid, _| there.contains(uid.as_str()));
    }

    /// The places that are to be asked about.
    pub fn due(&self, places: &[Arc<Place>]) -> Vec<Arc<Place>> {
        let fresh = |place: &Place| self.of(place).is_some_and(|answer| answer.round == self.round);
        places.iter().filter(|place| !fresh(place)).cloned().collect()
    }

    pub fn learn(&mut self, part: &[Arc<Place>], open: Vec<bool>) {
        for (place, open) in part.iter().zip(open) {
            let answer = Answer { target: Arc::clone(place.target()), round: self.round, open };
            self.all.insert(place.uid().to_owned(), answer);
        }
    }

    /// Nobody answers: what has aged counts no more.
    pub fn forget_old(&mut self) {
        self.all.retain(|_, answer| answer.round == self.round);
    }

    /// Of these places, those that are open.
    pub fn open(&self, places: &[Arc<Place>]) -> Vec<Arc<Place>> {
        places.iter().filter(|place| self.of(place).is_some_and(|answer| answer.open)).cloned().collect()
    }

    fn of(&self, place: &Place) -> Option<&Answer> {
        self.all.get(place.uid()).filter(|answer| answer.target == *place.target())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str, containers: &[&str]) -> Arc<Place> {
        Arc::new(Place::for_tests("demo", name, None, containers, "Running"))
    }

    fn names(places: &[Arc<Place>]) -> Vec<&str> {
        places.iter().map(|place| place.pod()).collect()
    }

    #[test]
    fn only_a_yes_to_this_very_question_is_open() {
        let all = [place("a", &["app"]), place("b", &["app"]), place("c", &["app"])];
        let mut answers = Answers::default();
        assert_eq!((names(&answers.due(&all)), names(&answers.open(&all))), (vec!["a", "b", "c"], vec![]));
        answers.learn(&all[..2], vec![true, false]);
        assert_eq!((names(&answers.due(&all)), names(&answers.open(&all))), (vec!["c"], vec!["a"]));
        // The same pod, which is another question now.
        let changed = [place("a", &["other"]), place("b", &["app"])];
        assert_eq!((names(&answers.due(&changed)), names(&answers.open(&changed))), (vec!["a"], vec![]));
        answers.keep(&changed[1..]);
        assert_eq!(names(&answers.due(&all)), ["a", "c"]);
    }

    #[test]
    fn what_was_open_is_gone_when_nobody_says_so_any_more() {
        let all = [place("a", &["app"]), place("b", &["app"])];
        let mut answers = Answers::default();
        answers.learn(&all, vec![true, true]);
        answers.age();
        assert_eq!((names(&answers.due(&all)), names(&answers.open(&all))), (vec!["a", "b"], vec!["a", "b"]));
        answers.learn(&all[..1], vec![true]);
        answers.forget_old();
        assert_eq!((names(&answers.due(&all)), names(&answers.open(&all))), (vec!["b"], vec!["a"]));
    }
}
