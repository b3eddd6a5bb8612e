//! The first authorizer: a policy file. Groups and subjects are bound to roles, and a role's rules say what may be
//! done where.
//!
//! Guards: what no rule allows is denied; a rule that denies wins over every rule that allows; and a file that does
//! not load changes nothing of the policy in force. Each decision says which rule made it, or which came nearest.
//!
//! Where several rules allow, the one that lasts longest decides, since a second role must never take away what the
//! first one gives; of those that last as long, the one that asks for less. Among equals it is the first: roles by name,
//! rules as the file has them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Authorizer, Decision, Obligations, Query, QueryUser, Unavailable};
use crate::watched::Watched;

mod command;
mod destination;
mod document;
mod hours;
mod labels;
mod pattern;
mod rule;

pub use rule::Effect;

pub(super) use pattern::NameGlob;

use pattern::Glob;
use rule::{Condition, Quoted, Rule};

/// A list's part: a millisecond or two of work, after which others get their turn.
const AT_ONCE: usize = 500;

/// A policy file as an authorizer: always the last version of it that loaded.
pub struct PolicyFile {
    policy: Watched<Policy>,
}

/// A policy, compiled.
#[derive(Debug)]
pub struct Policy {
    /// In the order of their names.
    roles: Vec<Role>,
    subjects: Holders,
    groups: Holders,
}

#[derive(Debug)]
struct Role {
    name: String,
    rules: Vec<Rule>,
}

/// Who has which roles, by index into `Policy::roles`.
#[derive(Debug, Default)]
struct Holders {
    exactly: HashMap<String, Vec<usize>>,
    by_glob: Vec<(Glob, usize)>,
}

/// What one rule says to a question, and why.
#[derive(Debug, Clone)]
pub struct Verdict<'a> {
    pub role: &'a str,
    pub rule: &'a str,
    pub effect: Effect,
    /// Whether the asking person has the role.
    pub bound: bool,
    /// The first condition that the question does not fit, in words; none if it fits them all.
    pub misfit: Option<String>,
}

/// A policy that cannot be used. The text names the file, the line, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("cannot read the policy {file}: {source}", file = file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{file}:{line}:{column}: {problem}", file = file.display())]
    Wrong { file: PathBuf, line: usize, column: usize, problem: String },
    #[error("cannot watch the policy's folder for changes: {0}")]
    Unwatchable(#[from] notify::Error),
}

impl PolicyFile {
    /// Loads `file` and re-reads it when it changes, while the runtime lives in which this is called.
    pub fn open(file: &Path) -> Result<PolicyFile, PolicyError> {
        let path = file.to_owned();
        let policy = Watched::open("policy", &[file.to_owned()], move || Policy::load(&path))?;
        Ok(PolicyFile { policy })
    }
}

impl Authorizer for PolicyFile {
    fn decide<'a>(&'a self, query: &'a Query) -> BoxFuture<'a, Result<Decision, Unavailable>> {
        Box::pin(async move { Ok(self.policy.current().decide(query)) })
    }

    fn decide_all<'a>(&'a self, queries: &'a [Query]) -> BoxFuture<'a, Result<Vec<Decision>, Unavailable>> {
        Box::pin(async move {
            let policy = self.policy.current();
            Ok(queries.iter().map(|query| policy.decide(query)).collect())
        })
    }

    fn at_once(&self) -> usize {
        AT_ONCE
    }

    fn changes(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.policy.changes()]
    }
}

impl Policy {
    /// Reads and compiles `file`.
    pub fn load(file: &Path) -> Result<Policy, PolicyError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| PolicyError::Unreadable { file: file.to_owned(), source })?;
        document::compile(&text).map_err(|mistake| {
            let before = text.get(..mistake.at.start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            PolicyError::Wrong { file: file.to_owned(), line, column, problem: mistake.problem }
        })
    }

    /// Answers one question.
    pub fn decide(&self, query: &Query) -> Decision {
        let mut allowing: Option<(&Role, &Rule, Obligations)> = None;
        let mut nearest: Option<(&Role, &Rule, Condition)> = None;
        let mut bound = false;
        for role in self.roles_of(&query.user) {
            bound = true;
            for rule in &role.rules {
                match (rule.effect, rule.misfit(query)) {
                    (Effect::Deny, None) => return Decision::denied(format!("{} denies", place(role, rule))),
                    (Effect::Deny, Some(_)) => {}
                    (Effect::Allow, None) => {
                        let asks = rule.asks(query);
                        if allowing.as_ref().is_none_or(|(_, _, best)| is_lighter(&asks, best, query.time)) {
                            allowing = Some((role, rule, asks));
                        }
                    }
                    (Effect::Allow, Some(misfit)) => {
                        if nearest.is_none_or(|(_, _, nearest)| misfit > nearest) {
                            nearest = Some((role, rule, misfit));
                        }
                    }
                }
            }
        }
        match (allowing, nearest) {
            (Some((role, rule, obligations)), _) => {
                Decision { allow: true, reason: format!("{} allows", place(role, rule)), obligations }
            }
            (None, Some((role, rule, misfit))) => Decision::denied(format!(
                "no rule matches: nearest: {}: {}",
                place(role, rule),
                rule.because(misfit, query)
            )),
            (None, None) if bound => Decision::denied("no rule matches: no role of this person allows anything"),
            (None, None) => Decision::denied(format!("no rule matches: {} has no role", Quoted(&query.user.subject))),
        }
    }

    /// What each rule of the policy says to the question, in the order in which they are looked at.
    pub fn verdicts(&self, query: &Query) -> Vec<Verdict<'_>> {
        let mine: Vec<_> = self.roles_of(&query.user).map(|role| role.name.as_str()).collect();
        let rules = self.roles.iter().flat_map(|role| role.rules.iter().map(move |rule| (role, rule)));
        rules
            .map(|(role, rule)| Verdict {
                role: &role.name,
                rule: &rule.id,
                effect: rule.effect,
                bound: mine.contains(&role.name.as_str()),
                misfit: rule.misfit(query).map(|condition| rule.because(condition, query)),
            })
            .collect()
    }

    fn roles_of(&self, user: &QueryUser) -> impl Iterator<Item = &Role> {
        let mut mine = vec![false; self.roles.len()];
        let groups = user.groups.iter().flat_map(|group| self.groups.roles_of(group));
        for index in self.subjects.roles_of(&user.subject).chain(groups) {
            if let Some(role) = mine.get_mut(index) {
                *role = true;
            }
        }
        self.roles.iter().zip(mine).filter_map(|(role, mine)| mine.then_some(role))
    }
}

impl Holders {
    fn add(&mut self, holder: &Glob, role: usize) {
        match holder.exactly() {
            Some(name) => self.exactly.entry(name.to_owned()).or_default().push(role),
            None => self.by_glob.push((holder.clone(), role)),
        }
    }

    fn roles_of(&self, name: &str) -> impl Iterator<Item = usize> {
        let exactly = self.exactly.get(name).into_iter().flatten().copied();
        exactly.chain(self.by_glob.iter().filter(move |(glob, _)| glob.fits(name)).map(|(_, role)| *role))
    }
}

/// Whether one set of obligations leaves more than another.
fn is_lighter(one: &Obligations, other: &Obligations, now: Timestamp) -> bool {
    match (one.lasts(now), other.lasts(now)) {
        (lasts, best) if lasts == best => (one.record, one.read_only) < (other.record, other.read_only),
        (lasts, best) => is_longer(lasts, best),
    }
}

/// No limit is longer than any.
fn is_longer(one: Option<Duration>, other: Option<Duration>) -> bool {
    match (one, other) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(one), Some(other)) => one > other,
    }
}

fn place(role: &Role, rule: &Rule) -> String {
    format!("role {:?}, rule {:?}", role.name, rule.id)
}

#[cfg(test)]
pub(super) mod tests;
