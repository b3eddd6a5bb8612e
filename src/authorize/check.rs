//! `porthole check`: a question from the command line, without a cluster: to a policy file, or to all whom the
//! configuration asks.
//!
//! Guards: the answer is the authorizers' own, by the same code that serves logins; what is listed beside it explains and
//! decides nothing. A question that is not whole is a mistake of usage and never a yes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp, Zoned};
use serde_json::json;

use super::policy::{Effect, Policy, Verdict};
use super::{
    Action, ActionKind, Authorizer as _, Decision, FileAccess, Query, QueryProfile, QuerySource, QueryTarget,
    QueryUser, SFTP, Unavailable,
};
use crate::config::authorize::POLICY;
use crate::config::{Config, Profile, Session};

/// The question, as the command line has it.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Question {
    /// The configuration: it names whom to ask, and the profiles
    #[arg(long, env = "PORTHOLE_CONFIG")]
    pub config: Option<PathBuf>,
    /// A policy file, instead of those whom the configuration asks
    #[arg(long)]
    pub policy: Option<PathBuf>,
    /// Who asks
    #[arg(long)]
    pub user: String,
    /// A group of theirs; may be repeated
    #[arg(long = "group")]
    pub groups: Vec<String>,
    /// list, shell, exec, files, forward, listen or agent
    #[arg(long)]
    pub action: String,
    #[arg(long)]
    pub namespace: String,
    /// A label of the namespace, as key=value; may be repeated
    #[arg(long = "namespace-label")]
    pub namespace_labels: Vec<String>,
    #[arg(long)]
    pub pod: String,
    /// A label of the pod, as key=value; may be repeated
    #[arg(long = "pod-label")]
    pub pod_labels: Vec<String>,
    /// The owner at the top of the pod's chain, as Kind/name; without, a bare pod
    #[arg(long)]
    pub workload: Option<String>,
    /// The target container [default: app]
    #[arg(long)]
    pub container: Option<String>,
    /// The debug profile [default: the configuration's]
    #[arg(long)]
    pub profile: Option<String>,
    /// With exec, which needs it, and with files [default: sftp]
    #[arg(long)]
    pub command: Option<String>,
    /// With files, read or write [default: write, as sftp asks]
    #[arg(long)]
    pub access: Option<String>,
    /// With forward and listen, which need it, as host:port
    #[arg(long)]
    pub destination: Option<String>,
    /// Where the client comes from [default: 127.0.0.1]
    #[arg(long)]
    pub source_ip: Option<String>,
    /// When, as 2026-11-24T10:00:00Z or 2026-11-24T10:00[Europe/Berlin] [default: now]
    #[arg(long)]
    pub time: Option<String>,
    /// The answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to print, and how to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Ends with a line break. For stdout, or, with the code 2, for stderr.
    pub text: String,
    /// 0: allowed; 1: denied; 2: no answer, since the question, the configuration or the policy is wrong.
    pub code: u8,
}

/// Asks the policy file that `--policy` names, or else those whom the configuration asks. Must not run on a runtime.
pub fn check(question: &Question) -> Answer {
    match answer(question) {
        Ok(answer) => answer,
        Err(problem) => Answer { text: format!("porthole: {problem}\n"), code: 2 },
    }
}

fn answer(question: &Question) -> Result<Answer, String> {
    let config = question.config.as_deref().map(Config::load).transpose().map_err(|error| error.to_string())?;
    let query = query(question, config.as_ref())?;
    let (file, asked) = match (&question.policy, &config) {
        (Some(policy), _) => (Some(policy), None),
        (None, Some(config)) if config.authorize.ask == [POLICY] => (Some(&config.authorize.policy_file), None),
        (None, Some(config)) => (None, Some(config)),
        (None, None) => return Err("which policy? name it with --policy, or the configuration with --config".into()),
    };
    let policy = file.map(|file| Policy::load(file)).transpose().map_err(|error| error.to_string())?;
    let (decision, verdicts) = match (&policy, asked) {
        (Some(policy), _) => (policy.decide(&query), policy.verdicts(&query)),
        (None, Some(config)) => (ask(config, &query)?, Vec::new()),
        (None, None) => return Err("there is nobody to ask".to_owned()),
    };
    let text = match question.json {
        true => as_json(&query, &decision, &verdicts),
        false => as_text(&query, &decision, &verdicts),
    };
    Ok(Answer { text, code: u8::from(!decision.allow) })
}

/// Asks as a login would, but for the audit trail.
fn ask(config: &Config, query: &Query) -> Result<Decision, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async {
        let authorizers = super::open(config, None).map_err(|error| error.to_string())?;
        match tokio::time::timeout(config.authorize.deadline, authorizers.decide(query)).await {
            Ok(answer) => answer.map_err(|Unavailable(why)| format!("no answer, which is a no: {why}")),
            Err(_) => Err(format!("no answer within {:?}, which is a no", config.authorize.deadline)),
        }
    })
}

fn query(question: &Question, config: Option<&Config>) -> Result<Query, String> {
    let action = action(question)?;
    let profile = match &question.profile {
        Some(profile) => profile.clone(),
        None => {
            config.map_or_else(|| Session::default().default_profile, |config| config.session.default_profile.clone())
        }
    };
    let image = match config {
        None => Profile::default().image,
        Some(config) => match config.profiles.get(&profile) {
            Some(profile) => profile.image.clone(),
            None => {
                let known: Vec<_> = config.profiles.keys().map(String::as_str).collect();
                return Err(format!("--profile: there is no profile `{profile}`: use one of {}", known.join(", ")));
            }
        },
    };
    let mut namespace_labels = labels("--namespace-label", &question.namespace_labels)?;
    // Kubernetes puts this one on every namespace.
    let by_name = namespace_labels.entry("kubernetes.io/metadata.name".to_owned());
    by_name.or_insert_with(|| question.namespace.clone());
    let source = match &question.source_ip {
        None => IpAddr::from(Ipv4Addr::LOCALHOST),
        Some(text) => text.parse().map_err(|_| format!("--source-ip: `{text}` is no address: use one as 192.0.2.1"))?,
    };
    Ok(Query {
        user: QueryUser {
            subject: question.user.clone(),
            email: None,
            groups: question.groups.clone(),
            method: crate::auth::Method::Certificate.as_str(),
            issuer: None,
            id_token: None,
        },
        action: action.kind(),
        target: QueryTarget {
            namespace: question.namespace.clone(),
            namespace_labels,
            pod: question.pod.clone(),
            pod_labels: labels("--pod-label", &question.pod_labels)?,
            pod_ips: Vec::new(),
            workload: question.workload.clone(),
            container: question.container.clone().unwrap_or_else(|| "app".to_owned()),
        },
        profile: QueryProfile { name: profile, image },
        command: action.command().map(str::to_owned),
        access: action.access(),
        destination: action.query_destination(),
        source: QuerySource { ip: source },
        time: question.time.as_deref().map_or_else(|| Ok(Timestamp::now()), time)?,
    })
}

fn action(question: &Question) -> Result<Action, String> {
    let name = &question.action;
    let kind = ActionKind::of(name).ok_or_else(|| {
        format!("--action: `{name}` is no action: use {}", ActionKind::ALL.map(ActionKind::as_str).join(", "))
    })?;
    let (command, to) = (&question.command, &question.destination);
    match (kind, command, to) {
        (ActionKind::List, None, None) => Ok(Action::List),
        (ActionKind::Shell, None, None) => Ok(Action::Shell),
        (ActionKind::Agent, None, None) => Ok(Action::Agent),
        (ActionKind::Exec, Some(command), None) => Ok(Action::Exec { command: command.clone() }),
        (ActionKind::Exec, None, None) => Err("--action exec runs a command: name it with --command".into()),
        (ActionKind::Files, command, None) => {
            let access = question.access.as_deref().map_or(Ok(FileAccess::Write), str::parse);
            let access = access.map_err(|problem: String| format!("--access: {problem}"))?;
            Ok(Action::Files { command: command.clone().unwrap_or_else(|| SFTP.to_owned()), access })
        }
        (ActionKind::Forward, None, Some(to)) => destination(to).map(|(host, port)| Action::Forward { host, port }),
        (ActionKind::Listen, None, Some(to)) => destination(to).map(|(host, port)| Action::Listen { host, port }),
        (ActionKind::Forward | ActionKind::Listen, None, None) => {
            Err(format!("--action {kind} has a destination: name it with --destination host:port"))
        }
        (ActionKind::Exec | ActionKind::Files, _, Some(_)) | (_, None, Some(_)) => {
            Err(format!("--action {kind} has no destination: leave --destination out"))
        }
        (_, Some(_), _) => Err(format!("--action {kind} runs no command of its own: leave --command out")),
    }
}

fn destination(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("--destination: `{text}` is no destination: use host:port, as localhost:8080 or [::1]:8080");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        None if host.is_empty() || host.contains(':') => Err(wrong()),
        _ => Ok((bracketed.unwrap_or(host).to_owned(), port.parse().map_err(|_| wrong())?)),
    }
}

fn labels(option: &str, labels: &[String]) -> Result<BTreeMap<String, String>, String> {
    let split = |label: &String| match label.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("{option}: `{label}` is no label: use key=value")),
    };
    labels.iter().map(split).collect()
}

fn time(text: &str) -> Result<Timestamp, String> {
    let zoned = || text.parse::<Zoned>().map(|zoned| zoned.timestamp());
    text.parse().or_else(|_| zoned()).map_err(|_| {
        format!("--time: `{text}` is no moment: use one as 2026-11-24T10:00:00Z or 2026-11-24T10:00[Europe/Berlin]")
    })
}

fn as_text(query: &Query, decision: &Decision, verdicts: &[Verdict<'_>]) -> String {
    let mut text = String::new();
    let (word, target) = (if decision.allow { "allow" } else { "deny" }, &query.target);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{word}: {}", decision.reason);
    if let Some(limit) = decision.obligations.lasts(query.time).and_then(|limit| SignedDuration::try_from(limit).ok()) {
        let _ = writeln!(text, "the session ends after {limit:#}");
    }
    let groups = if query.user.groups.is_empty() { "none".to_owned() } else { query.user.groups.join(", ") };
    let _ = write!(text, "\nasked: {} (groups: {groups}), {}", query.user.subject, query.action);
    let _ = query.command.iter().try_for_each(|command| write!(text, " {command:?}"));
    let _ = query.destination.iter().try_for_each(|destination| write!(text, " {destination}"));
    let _ = writeln!(
        text,
        " in {}.{}+{}~{}, from {}, at {}",
        target.namespace, target.pod, target.container, query.profile.name, query.source.ip, query.time
    );
    let rows: Vec<_> = verdicts.iter().map(|verdict| (format!("{}/{}", verdict.role, verdict.rule), verdict)).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, verdict) in rows {
        let effect = if verdict.effect == Effect::Allow { "allow" } else { "deny " };
        let _ = writeln!(text, "  {name:width$}  {effect}  {}", outcome(verdict));
    }
    text
}

fn outcome(verdict: &Verdict<'_>) -> String {
    match (verdict.bound, &verdict.misfit) {
        (true, None) => "fits".to_owned(),
        (true, Some(misfit)) => format!("no: {misfit}"),
        (false, None) => "would fit, but this person does not have the role".to_owned(),
        (false, Some(misfit)) => format!("not this person's role, and no: {misfit}"),
    }
}

fn as_json(query: &Query, decision: &Decision, verdicts: &[Verdict<'_>]) -> String {
    let rules: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            json!({
                "role": verdict.role,
                "rule": verdict.rule,
                "effect": verdict.effect,
                "bound": verdict.bound,
                "fits": verdict.misfit.is_none(),
                "misfit": verdict.misfit,
            })
        })
        .collect();
    let answer = json!({
        "allow": decision.allow,
        "reason": decision.reason,
        "obligations": decision.obligations,
        "query": query,
        "rules": rules,
    });
    format!("{answer:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policy.toml");

    fn question() -> Question {
        Question {
            policy: Some(EXAMPLE.into()),
            user: "alice".to_owned(),
            groups: vec!["payments-dev".to_owned()],
            action: "shell".to_owned(),
            namespace: "payments".to_owned(),
            namespace_labels: vec!["team=payments".to_owned()],
            pod: "web-1".to_owned(),
            time: Some("2026-11-24T10:00:00Z".to_owned()),
            ..Question::default()
        }
    }

    #[test]
    fn an_allowed_question_names_the_rule_and_ends_with_0() {
        let answer = check(&question());
        assert_eq!(answer.code, 0);
        let expected = r#"allow: role "developer", rule "own-namespaces" allows
the session ends after 12h

asked: alice (groups: payments-dev), shell in payments.web-1+app~general, from 127.0.0.1, at 2026-11-24T10:00:00Z
  developer/own-namespaces     allow  fits
  developer/own-ports          allow  no: action shell is not among forward
  everybody/no-system          deny   no: namespace "payments" is not among kube-*
  operator/everything          allow  would fit, but this person does not have the role
  operator/disk-from-anywhere  allow  not this person's role, and no: action shell is not among exec
  support/look                 allow  not this person's role, and no: namespace "payments" is not among *-prod
"#;
        assert_eq!(answer.text, expected);
    }

    #[test]
    fn a_denied_question_says_what_came_nearest_and_ends_with_1() {
        let command = Some("ls -l /var/log/a; id".to_owned());
        let groups = vec!["platform".to_owned()];
        let source_ip = Some("192.0.2.7".to_owned());
        let answer = check(&Question { action: "exec".to_owned(), command, groups, source_ip, ..question() });
        assert_eq!(answer.code, 1);
        let nearest = r#"deny: no rule matches: nearest: role "operator", rule "everything": source "192.0.2.7" is not among 10.0.0.0/8, 127.0.0.1"#;
        assert_eq!(answer.text.lines().next(), Some(nearest));
        assert!(answer.text.contains(r#"command "ls -l /var/log/a; id" is more than plain words"#), "{}", answer.text);
    }

    #[test]
    fn the_examples_wildcards_open_nothing_beside_what_they_show() {
        let asked = |command: &str| {
            check(&Question {
                action: "exec".to_owned(),
                command: Some(command.to_owned()),
                groups: vec!["platform".to_owned()],
                source_ip: Some("192.0.2.7".to_owned()),
                ..question()
            })
        };
        assert_eq!(asked("ls -l /var/log/app.log").code, 0);
        for command in ["ls -l /var/log/../../etc/shadow", "ls -l /var/log/x /root/.ssh", "PATH=/var/log df"] {
            assert_eq!(asked(command).code, 1, "{}", asked(command).text);
        }
    }

    #[test]
    fn json_has_the_answer_the_question_and_each_rule() {
        let forward = Question {
            action: "forward".to_owned(),
            destination: Some("[::1]:8080".to_owned()),
            json: true,
            time: Some("2026-11-24T11:00[Europe/Berlin]".to_owned()),
            ..question()
        };
        let answer = check(&forward);
        let json: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((answer.code, &json["allow"]), (0, &true.into()));
        assert_eq!(json["reason"], r#"role "developer", rule "own-ports" allows"#);
        assert_eq!(json["obligations"], json!({ "max_duration": "12h" }));
        assert_eq!(json["query"]["destination"], json!({ "host": "::1", "port": 8080 }));
        assert_eq!(json["query"]["time"], "2026-11-24T10:00:00Z");
        assert_eq!(json["query"]["action"], "forward");
        let expected = json!({ "role": "developer", "rule": "own-ports", "effect": "allow", "bound": true, "fits": true, "misfit": null });
        assert!(json["rules"].as_array().unwrap().contains(&expected), "{json:#}");
    }

    #[test]
    fn the_configuration_names_the_policy_and_the_profiles() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("porthole.toml");
        std::fs::write(
            &config,
            "certificate.trusted-ca-files = [\"ca\"]\nauthorize.policy-file = \"policy.toml\"\n\
             session.default-profile = \"tools\"\nprofiles.tools.image = \"tools:1\"\n",
        )
        .unwrap();
        std::fs::copy(EXAMPLE, folder.path().join("policy.toml")).unwrap();
        let question = Question { config: Some(config), policy: None, ..question() };
        let answer = check(&question);
        assert_eq!(answer.code, 1);
        assert!(answer.text.contains(r#"profile "tools" is not among general, restricted"#), "{}", answer.text);
        let answer = check(&Question { profile: Some("general".to_owned()), ..question });
        let expected = "porthole: --profile: there is no profile `general`: use one of tools\n";
        assert_eq!(answer, Answer { text: expected.to_owned(), code: 2 });
    }

    #[test]
    fn a_question_that_is_not_whole_ends_with_2_and_says_what_would_be_right() {
        let some = |text: &str| Some(text.to_owned());
        let many = |text: &str| vec![text.to_owned()];
        let action = |action: &str| Question { action: action.to_owned(), ..question() };
        for (question, problem) in [
            (action("Shell"), "`Shell` is no action: use list, shell, exec"),
            (action("exec"), "name it with --command"),
            (action("forward"), "name it with --destination host:port"),
            (Question { command: some("ls"), ..action("shell") }, "leave --command out"),
            (Question { destination: some("db:1"), ..action("exec") }, "leave --destination out"),
            (Question { destination: some("db:1"), command: some("ls"), ..action("exec") }, "leave --destination out"),
            (Question { destination: some("db"), ..action("forward") }, "`db` is no destination"),
            (Question { destination: some("::1:80"), ..action("listen") }, "`::1:80` is no destination"),
            (Question { destination: some("db:99999"), ..action("listen") }, "`db:99999` is no destination"),
            (Question { namespace_labels: many("team"), ..question() }, "--namespace-label: `team` is no label"),
            (Question { pod_labels: many("app"), ..question() }, "--pod-label: `app` is no label: use key=value"),
            (Question { source_ip: some("home"), ..question() }, "--source-ip: `home` is no address"),
            (Question { time: some("noon"), ..question() }, "--time: `noon` is no moment"),
            (Question { time: some("2026-11-24"), ..question() }, "--time: `2026-11-24` is no moment"),
            (Question { policy: None, ..question() }, "which policy? name it with --policy"),
            (
                Question { policy: some("none.toml").map(PathBuf::from), ..question() },
                "cannot read the policy none.toml",
            ),
            (Question { config: some("none.toml").map(PathBuf::from), ..question() }, "cannot read none.toml"),
        ] {
            let answer = check(&question);
            assert_eq!(answer.code, 2, "{}", answer.text);
            assert!(answer.text.starts_with("porthole: ") && answer.text.contains(problem), "{}", answer.text);
        }
    }
}
