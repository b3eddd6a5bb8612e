//! One rule: what it is about, and the first thing about a question that it does not fit.
//!
//! Guards: a rule fits only if each of its conditions does. What a question has no answer to (a workload for a bare
//! pod, a command for a shell) fits no condition on it.

use std::fmt;

use super::super::{ActionKind, FileAccess, Obligations, Query};
use super::command::CommandGlob;
use super::destination::DestinationPattern;
use super::hours::Hours;
use super::labels::Labels;
use super::pattern::{NameGlob, Network, Several, WorkloadGlob};

/// A rule, compiled. An absent condition fits anything.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) effect: Effect,
    pub(super) actions: Actions,
    pub(super) namespaces: Option<Several<NameGlob>>,
    pub(super) namespace_labels: Option<Labels>,
    pub(super) pods: Option<Several<NameGlob>>,
    pub(super) pod_labels: Option<Labels>,
    pub(super) workloads: Option<Several<WorkloadGlob>>,
    pub(super) containers: Option<Several<NameGlob>>,
    pub(super) profiles: Option<Several<NameGlob>>,
    pub(super) commands: Option<Several<CommandGlob>>,
    pub(super) destinations: Option<Several<DestinationPattern>>,
    pub(super) sources: Option<Several<Network>>,
    pub(super) hours: Option<Hours>,
    /// What files may be done to, of a rule that allows or denies them.
    pub(super) access: Option<FileAccess>,
    /// What a yes asks for; a deny asks for nothing.
    pub(super) obligations: Obligations,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    #[default]
    Allow,
    Deny,
}

/// The conditions in the order in which they are looked at: a question that fails a later one came nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    Namespaces,
    NamespaceLabels,
    Pods,
    Workloads,
    PodLabels,
    Containers,
    Actions,
    Profiles,
    Commands,
    Access,
    Destinations,
    Sources,
    Hours,
}

impl Rule {
    /// The first condition that this question does not fit; none if it fits them all.
    pub(super) fn misfit(&self, query: &Query) -> Option<Condition> {
        let target = &query.target;
        // To see a place is to see it whole: `list` comes with no choice of a container or a profile. So such a
        // condition does not keep an allowed place from being seen, and does not hide one by a deny.
        let chosen = query.action != ActionKind::List;
        let unchosen = !chosen && self.effect == Effect::Allow;
        let fits = |condition| match condition {
            Condition::Namespaces => names(&self.namespaces, &target.namespace),
            Condition::NamespaceLabels => labels(&self.namespace_labels, &target.namespace_labels),
            Condition::Pods => names(&self.pods, &target.pod),
            Condition::Workloads => match (&self.workloads, &target.workload) {
                (None, _) => true,
                (Some(globs), Some(workload)) => globs.any(|glob| glob.fits(workload)),
                (Some(_), None) => false,
            },
            Condition::PodLabels => labels(&self.pod_labels, &target.pod_labels),
            Condition::Containers => {
                self.containers.is_none() || unchosen || (chosen && names(&self.containers, &target.container))
            }
            Condition::Actions => self.actions.contain(query.action),
            Condition::Profiles => {
                self.profiles.is_none() || unchosen || (chosen && names(&self.profiles, &query.profile.name))
            }
            Condition::Commands => match (&self.commands, &query.command) {
                (None, _) => true,
                (Some(globs), Some(command)) => globs.any(|glob| glob.fits(command)),
                (Some(_), None) => false,
            },
            // Other actions of the rule have no access, and are not about it.
            Condition::Access => self.access.is_none() || query.access.is_none() || self.access == query.access,
            Condition::Destinations => match (&self.destinations, &query.destination) {
                (None, _) => true,
                (Some(patterns), Some(destination)) => patterns.any(|pattern| pattern.fits(destination, query)),
                (Some(_), None) => false,
            },
            Condition::Sources => {
                self.sources.as_ref().is_none_or(|networks| networks.any(|network| network.contains(query.source.ip)))
            }
            Condition::Hours => self.hours.as_ref().is_none_or(|hours| hours.contain(query.time)),
        };
        Condition::ALL.into_iter().find(|condition| !fits(*condition))
    }

    /// What a yes of this rule asks for now. A session lasts to the end of the rule's hours, and no longer than its limit.
    pub(super) fn asks(&self, query: &Query) -> Obligations {
        let hours = self.hours.as_ref().and_then(|hours| hours.left(query.time));
        // An end beyond all dates is none.
        let until = hours.and_then(|left| query.time.checked_add(left).ok());
        Obligations { until, ..self.obligations.clone() }
    }

    /// Why the question does not fit this condition, in words for the operator.
    pub(super) fn because(&self, condition: Condition, query: &Query) -> String {
        let target = &query.target;
        match condition {
            Condition::Namespaces => not_among("namespace", &target.namespace, &self.namespaces),
            Condition::NamespaceLabels => {
                format!("namespace {}", misfit(&self.namespace_labels, &target.namespace_labels))
            }
            Condition::Pods => not_among("pod", &target.pod, &self.pods),
            Condition::Workloads => match &target.workload {
                Some(workload) => not_among("workload", workload, &self.workloads),
                None => "the pod has no workload".to_owned(),
            },
            Condition::PodLabels => format!("pod {}", misfit(&self.pod_labels, &target.pod_labels)),
            Condition::Actions => format!("action {} is not among {}", query.action, self.actions),
            Condition::Containers | Condition::Profiles if query.action == ActionKind::List => {
                "list looks at no container and no profile".to_owned()
            }
            Condition::Containers => not_among("container", &target.container, &self.containers),
            Condition::Profiles => not_among("profile", &query.profile.name, &self.profiles),
            Condition::Commands => match &query.command {
                Some(command) if !super::command::is_plain(command) => format!(
                    "command {} is more than plain words, and is not spelled out among {}",
                    Quoted(command),
                    Listed(&self.commands)
                ),
                Some(command) => not_among("command", command, &self.commands),
                None => "there is no command".to_owned(),
            },
            Condition::Access => {
                let name = |access: Option<FileAccess>| access.map_or("none", FileAccess::as_str);
                format!("access {} is not {}", name(query.access), name(self.access))
            }
            Condition::Destinations => match &query.destination {
                Some(destination) => not_among("destination", &destination.to_string(), &self.destinations),
                None => "there is no destination".to_owned(),
            },
            Condition::Sources => not_among("source", &query.source.ip.to_string(), &self.sources),
            Condition::Hours => match &self.hours {
                Some(hours) => format!("{} is outside {hours}", hours.clock(query.time)),
                None => String::new(),
            },
        }
    }
}

impl Condition {
    const ALL: [Condition; 13] = [
        Condition::Namespaces,
        Condition::NamespaceLabels,
        Condition::Pods,
        Condition::Workloads,
        Condition::PodLabels,
        Condition::Containers,
        Condition::Actions,
        Condition::Profiles,
        Condition::Commands,
        Condition::Access,
        Condition::Destinations,
        Condition::Sources,
        Condition::Hours,
    ];
}

fn names(globs: &Option<Several<NameGlob>>, name: &str) -> bool {
    globs.as_ref().is_none_or(|globs| globs.any(|glob| glob.fits(name)))
}

fn labels(wanted: &Option<Labels>, labels: &std::collections::BTreeMap<String, String>) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.fit(labels))
}

fn misfit(wanted: &Option<Labels>, labels: &std::collections::BTreeMap<String, String>) -> String {
    wanted.as_ref().and_then(|wanted| wanted.misfit(labels)).unwrap_or_default()
}

fn not_among<T: fmt::Display>(what: &str, value: &str, among: &Option<Several<T>>) -> String {
    format!("{what} {} is not among {}", Quoted(value), Listed(among))
}

struct Listed<'a, T>(&'a Option<Several<T>>);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |items| items.fmt(f))
    }
}

/// A text that came from a client, for a reason: escaped, and cut where it is long.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Enough to recognise a command; the audit event has all of it.
        const SHOWN_CHARS: usize = 80;
        match self.0.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => write!(f, "{:?}…", self.0.get(..end).unwrap_or_default()),
            None => write!(f, "{:?}", self.0),
        }
    }
}

/// A set of actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Actions(u8);

impl Actions {
    pub(super) const NONE: Actions = Actions(0);

    pub(super) fn with(self, action: ActionKind) -> Actions {
        Actions(self.0 | 1 << action as u8)
    }

    pub(super) fn contain(self, action: ActionKind) -> bool {
        self.0 & (1 << action as u8) != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = ActionKind> {
        ActionKind::ALL.into_iter().filter(move |action| self.contain(*action))
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, action) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{action}")?;
        }
        Ok(())
    }
}
