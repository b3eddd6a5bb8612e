//! The second key: which container of the place, and which debug profile.

use crate::cluster::Place;

/// What is chosen so far, and what there is to choose from.
#[derive(Debug)]
pub struct Choice {
    pub containers: Vec<String>,
    pub container: usize,
    /// The one that is taken where none is named.
    default: usize,
    pub profile: usize,
    pub focus: Focus,
}

/// Which of the two the keys move in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Focus {
    Container,
    Profile,
}

impl Choice {
    pub fn of(place: &Place) -> Choice {
        let containers: Vec<_> = place.containers().map(str::to_owned).collect();
        let default = containers.iter().position(|name| name == place.target().container()).unwrap_or(0);
        Choice { containers, container: default, default, profile: 0, focus: Focus::Container }
    }

    pub fn step(&mut self, profiles: usize, by: isize) {
        let (at, count) = match self.focus {
            Focus::Container => (&mut self.container, self.containers.len()),
            Focus::Profile => (&mut self.profile, profiles),
        };
        *at = at.saturating_add_signed(by).min(count.saturating_sub(1));
    }

    pub fn is_default(&self, container: usize) -> bool {
        container == self.default
    }

    /// What a login name needs for it; the defaults need nothing.
    pub fn suffix(&self, profiles: &[String]) -> String {
        let container = self.containers.get(self.container).filter(|_| self.container != self.default);
        let profile = profiles.get(self.profile).filter(|_| self.profile != 0);
        let part = |mark: &str, name: Option<&String>| name.map(|name| format!("{mark}{name}")).unwrap_or_default();
        part("+", container) + &part("~", profile)
    }
}
