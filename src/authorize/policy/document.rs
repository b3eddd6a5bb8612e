//! The policy file: from TOML to rules that are compiled, or to the line of the first mistake.
//!
//! Guards: a file loads whole or not at all. A key that is not known, a role that is not there, a condition that its
//! rule's actions never look at: each would make a rule mean something else than its author thought, so each is a
//! mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::command::CommandGlob;
use super::destination::DestinationPattern;
use super::hours::{Hours, HoursOfDays, Zone};
use super::labels::Labels;
use super::pattern::{Glob, NameGlob, Network, Several, Text, WorkloadGlob};
use super::rule::{Actions, Effect, Rule};
use super::{Holders, Policy, Role};
use crate::authorize::{ActionKind, FileAccess, Obligations};
use crate::config::duration;

/// A rule that names no profile is about this one: the one with the fewest surprises, and never a privileged one.
const DEFAULT_PROFILE: &str = "general";

/// What is wrong, and where in the text.
pub(super) struct Mistake {
    pub(super) at: Range<usize>,
    pub(super) problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    roles: BTreeMap<Name, RoleDocument>,
    #[serde(default)]
    bindings: Vec<Spanned<Binding>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Defaults {
    profiles: Option<Several<NameGlob>>,
    time_zone: Option<Text<Zone>>,
    max_duration: Option<Length>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RoleDocument {
    rules: Spanned<Vec<RuleDocument>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RuleDocument {
    id: Spanned<Name>,
    #[serde(default)]
    effect: Effect,
    actions: Several<ActionWord>,
    namespaces: Option<Several<NameGlob>>,
    namespace_labels: Option<Labels>,
    pods: Option<Several<NameGlob>>,
    pod_labels: Option<Labels>,
    workloads: Option<Several<WorkloadGlob>>,
    containers: Option<Spanned<Several<NameGlob>>>,
    profiles: Option<Spanned<Several<NameGlob>>>,
    commands: Option<Spanned<Several<CommandGlob>>>,
    destinations: Option<Spanned<Several<DestinationPattern>>>,
    sources: Option<Several<Network>>,
    hours: Option<Several<HoursOfDays>>,
    time_zone: Option<Spanned<Text<Zone>>>,
    access: Option<Spanned<Text<FileAccess>>>,
    max_duration: Option<Spanned<Length>>,
    record: Option<Spanned<bool>>,
    read_only: Option<Spanned<bool>>,
    message: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Binding {
    subjects: Option<Several<Glob>>,
    groups: Option<Several<Glob>>,
    roles: Spanned<Several<Name>>,
}

/// The name of a role or a rule: it stands in reasons, so it is a plain word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name(String);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let plain = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
        match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
            true => Ok(Name(text.to_owned())),
            false => Err(format!("{text:?} is no name: use letters, digits, `-`, `_` and `.`, at most 64 bytes")),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        Text::deserialize(deserializer).map(|Text(name)| name)
    }
}

/// An action's name, or `*` for all of them.
#[derive(Debug, Clone, Copy)]
enum ActionWord {
    All,
    One(ActionKind),
}

impl FromStr for ActionWord {
    type Err = String;

    fn from_str(text: &str) -> Result<ActionWord, String> {
        match (text, ActionKind::of(text)) {
            ("*", _) => Ok(ActionWord::All),
            (_, Some(action)) => Ok(ActionWord::One(action)),
            _ => {
                let known = ActionKind::ALL.map(ActionKind::as_str).join(", ");
                Err(format!("`{text}` is no action: use {known}, or `*` for all"))
            }
        }
    }
}

/// A duration with a unit, more than nothing.
#[derive(Clone, Copy)]
struct Length(Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Length, D::Error> {
        match duration::deserialize(deserializer)? {
            Duration::ZERO => Err(serde::de::Error::custom("no session lasts for no time: use more, or leave it out")),
            length => Ok(Length(length)),
        }
    }
}

/// Reads and compiles a policy.
pub(super) fn compile(text: &str) -> Result<Policy, Mistake> {
    let document: Document = toml::from_str(text)
        .map_err(|error| Mistake { at: error.span().unwrap_or(0..0), problem: error.message().to_owned() })?;
    let mut roles = Vec::new();
    let mut by_name = BTreeMap::new();
    for (Name(name), role) in document.roles {
        by_name.insert(name.clone(), roles.len());
        roles.push(compile_role(name, role, &document.defaults)?);
    }
    let (mut subjects, mut groups) = (Holders::default(), Holders::default());
    for binding in document.bindings {
        let at = binding.span();
        let binding = binding.into_inner();
        if binding.subjects.is_none() && binding.groups.is_none() {
            return Err(mistake(at, "this binding is for nobody: name `groups`, `subjects` or both"));
        }
        for Name(role) in binding.roles.get_ref().iter() {
            let Some(&index) = by_name.get(role) else {
                let known: Vec<_> = by_name.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "it has none yet".to_owned() } else { known.join(", ") };
                let problem = format!("there is no role `{role}`: use one of this file's ({known})");
                return Err(mistake(binding.roles.span(), problem));
            };
            binding.subjects.iter().flat_map(Several::iter).for_each(|subject| subjects.add(subject, index));
            binding.groups.iter().flat_map(Several::iter).for_each(|group| groups.add(group, index));
        }
    }
    Ok(Policy { roles, subjects, groups })
}

fn compile_role(name: String, role: RoleDocument, defaults: &Defaults) -> Result<Role, Mistake> {
    let at = role.rules.span();
    let rules = role.rules.into_inner();
    if rules.is_empty() {
        return Err(mistake(at, format!("role `{name}` has no rule, so it gives nothing: write one, or leave it out")));
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = rules.iter().find(|rule| !ids.insert(rule.id.get_ref())) {
        let id = &twice.id.get_ref().0;
        return Err(mistake(twice.id.span(), format!("role `{name}` has two rules `{id}`: give each its own id")));
    }
    let rules = rules.into_iter().map(|rule| compile_rule(rule, defaults)).collect::<Result<_, _>>()?;
    Ok(Role { name, rules })
}

fn compile_rule(rule: RuleDocument, defaults: &Defaults) -> Result<Rule, Mistake> {
    let actions = rule.actions.iter().fold(Actions::NONE, |actions, word| match word {
        ActionWord::One(action) => actions.with(*action),
        ActionWord::All => ActionKind::ALL.into_iter().fold(actions, Actions::with),
    });
    check_conditions(&rule, actions)?;
    match rule.effect {
        Effect::Allow => check_allow(&rule)?,
        Effect::Deny => check_deny(&rule)?,
    }
    if let (None, Some(zone)) = (&rule.hours, &rule.time_zone) {
        return Err(mistake(zone.span(), "a time zone without `hours` changes nothing: add them, or leave it out"));
    }
    let default_zone = || defaults.time_zone.as_ref().map_or(TimeZone::UTC, |zone| zone.0.0.clone());
    let zone = rule.time_zone.map_or_else(default_zone, |zone| zone.into_inner().0.0);
    let allows = rule.effect == Effect::Allow;
    let profiles = rule.profiles.map(Spanned::into_inner);
    Ok(Rule {
        id: rule.id.into_inner().0,
        effect: rule.effect,
        actions,
        namespaces: rule.namespaces,
        namespace_labels: rule.namespace_labels,
        pods: rule.pods,
        pod_labels: rule.pod_labels,
        workloads: rule.workloads,
        containers: rule.containers.map(Spanned::into_inner),
        // What narrows an allow would narrow a deny too, so a default must not.
        profiles: if allows { Some(profiles.map_or_else(|| default_profiles(defaults), Ok)?) } else { profiles },
        commands: rule.commands.map(Spanned::into_inner),
        destinations: rule.destinations.map(Spanned::into_inner),
        sources: rule.sources,
        hours: rule.hours.map(|hours| Hours::new(&hours, zone)),
        access: rule.access.map(|access| access.into_inner().0),
        obligations: Obligations {
            max_duration: rule
                .max_duration
                .map(Spanned::into_inner)
                .or(defaults.max_duration)
                .filter(|_| allows)
                .map(|length| length.0),
            record: rule.record.is_some_and(Spanned::into_inner),
            read_only: rule.read_only.is_some_and(Spanned::into_inner),
            message: rule.message.map(Spanned::into_inner),
            // The hours' end, which depends on the moment of the question.
            until: None,
            // The rule's profiles are a condition: it allows nothing by another one.
            profiles: None,
        },
    })
}

fn default_profiles(defaults: &Defaults) -> Result<Several<NameGlob>, Mistake> {
    let built_in = || DEFAULT_PROFILE.parse().map(|profile: NameGlob| Several::from(profile));
    defaults.profiles.clone().map_or_else(built_in, Ok).map_err(|problem| mistake(0..0, problem))
}

/// A condition on what an action never has would either never fit or, dropped silently, leave that action open.
fn check_conditions(rule: &RuleDocument, actions: Actions) -> Result<(), Mistake> {
    let commands = rule
        .commands
        .as_ref()
        .map(|commands| (commands.span(), "commands", &[ActionKind::Exec, ActionKind::Files][..], "run a command"));
    let destinations = rule.destinations.as_ref().map(|destinations| {
        (destinations.span(), "destinations", &[ActionKind::Forward, ActionKind::Listen][..], "have a destination")
    });
    let access = rule.access.as_ref().map(Spanned::span);
    let read_only = rule.read_only.as_ref().map(Spanned::span);
    for (at, key) in [(access, "access"), (read_only, "read-only")] {
        if let Some(at) = at.filter(|_| !actions.contain(ActionKind::Files)) {
            return Err(mistake(
                at,
                format!("only files are read or written, so `{key}` says nothing here: leave it out"),
            ));
        }
    }
    for (at, key, having, what) in [commands, destinations].into_iter().flatten() {
        if let Some(other) = actions.iter().find(|action| !having.contains(action)) {
            let having: Vec<_> = having.iter().map(|action| action.as_str()).collect();
            let having = having.join(" and ");
            return Err(mistake(
                at,
                format!("only {having} {what}, so `{key}` says nothing of {other}: give {other} a rule of its own"),
            ));
        }
    }
    let choices = [&rule.containers, &rule.profiles].into_iter().flatten().next();
    match choices {
        Some(choice) if actions == Actions::NONE.with(ActionKind::List) => {
            Err(mistake(choice.span(), "list looks at no container and no profile: leave this out"))
        }
        _ => Ok(()),
    }
}

fn check_allow(rule: &RuleDocument) -> Result<(), Mistake> {
    match rule.namespaces.is_none() && rule.namespace_labels.is_none() {
        true => Err(mistake(
            rule.id.span(),
            format!(
                "rule `{}` allows without saying where: name `namespaces` (\"*\" is everywhere) or `namespace-labels`",
                rule.id.get_ref().0
            ),
        )),
        false => Ok(()),
    }
}

fn check_deny(rule: &RuleDocument) -> Result<(), Mistake> {
    if let Some(length) = &rule.max_duration {
        return Err(mistake(length.span(), "what is denied has no duration: leave `max-duration` out"));
    }
    let record = rule.record.as_ref().map(Spanned::span);
    let read_only = rule.read_only.as_ref().map(Spanned::span);
    let message = rule.message.as_ref().map(Spanned::span);
    if let Some(at) = [record, read_only, message].into_iter().flatten().next() {
        return Err(mistake(at, "what is denied asks for nothing: leave this out"));
    }
    match &rule.commands {
        Some(commands) => Err(mistake(
            commands.span(),
            "a command cannot be denied, since a shell has endless ways to spell it: allow only those that may run",
        )),
        None => Ok(()),
    }
}

fn mistake(at: Range<usize>, problem: impl Into<String>) -> Mistake {
    Mistake { at, problem: problem.into() }
}
