//! The policy as its author sees it: a file, questions, answers.

use super::*;
use crate::authorize::{ActionKind, QueryDestination, QueryProfile, QuerySource, QueryTarget};

const POLICY: &str = r#"
[defaults]
time-zone = "Europe/Berlin"

[roles.developer]
[[roles.developer.rules]]
id = "by-name"
actions = ["list", "shell", "exec"]
namespaces = ["payments", "payments-*"]

[[roles.developer.rules]]
id = "by-label"
actions = ["shell", "files"]
namespace-labels = { team = "payments", stage = ["dev", "test"], centre = "*" }
profiles = ["general", "net*"]

[[roles.developer.rules]]
id = "by-pod"
actions = "shell"
namespaces = "shared"
pods = "web-?"
pod-labels = { "example.com/app" = ["web", "api"] }
workloads = ["Deployment/web*", "*/db"]
containers = ["app", "sidecar"]

[[roles.developer.rules]]
id = "ports"
actions = ["forward", "listen"]
namespaces = "payments"
destinations = ["localhost:8000-8999", "*.payments.svc:443"]

[[roles.developer.rules]]
id = "agent"
actions = "agent"
namespaces = "payments"

[roles.night]
[[roles.night.rules]]
id = "shift"
actions = "*"
namespaces = "*"
profiles = "*"
hours = ["mon-thu 22:00-06:00", "fri 22:00-08:00"]
max-duration = "8h"

[roles.support]
[[roles.support.rules]]
id = "look"
actions = "exec"
namespaces = "*"
commands = ["ps", "ps *", "cat /var/log/*", "sh -c 'uptime; free'"]
sources = ["10.0.0.0/8", "2001:db8::/32"]

[[roles.support.rules]]
id = "fetch"
actions = "files"
namespaces = "*"
commands = "scp -f *"
max-duration = "10m"

[roles.lead]
[[roles.lead.rules]]
id = "longer"
actions = "files"
namespaces = "*"
max-duration = "1h"

[roles.lister]
[[roles.lister.rules]]
id = "see"
actions = "list"
namespaces = ["x", "x-*"]

[roles.sunday]
[[roles.sunday.rules]]
id = "small-hours"
actions = "shell"
namespaces = "*"
hours = "sun 02:00-03:00"

[roles.guard]
[[roles.guard.rules]]
id = "frozen"
effect = "deny"
actions = ["shell", "exec", "files", "forward", "listen", "agent"]
namespace-labels = { frozen = "true" }

[[roles.guard.rules]]
id = "no-admin-port"
effect = "deny"
actions = "forward"
destinations = "localhost:8888"

[[roles.guard.rules]]
id = "no-netadmin"
effect = "deny"
actions = "*"
profiles = "netadmin"

[[bindings]]
groups = ["dev", "dev-*"]
subjects = "dora"
roles = "developer"

[[bindings]]
groups = "night"
roles = "night"

[[bindings]]
groups = "support"
roles = ["support"]

[[bindings]]
groups = "lead"
roles = ["lead"]

[[bindings]]
groups = ["lister", 'CORP\\ops', "/corp/*"]
roles = "lister"

[[bindings]]
groups = "sunday"
roles = "sunday"

[[bindings]]
subjects = "*"
roles = "guard"
"#;

/// Alice, of the group `dev`, wants a shell in `payments.web-1+app` on a Tuesday at eleven in Berlin.
pub(in crate::authorize) fn question(change: impl FnOnce(&mut Query)) -> Query {
    let mut query = Query {
        user: QueryUser {
            subject: "alice".to_owned(),
            email: None,
            groups: vec!["staff".to_owned(), "dev".to_owned()],
            method: "certificate",
            issuer: None,
            id_token: None,
        },
        action: ActionKind::Shell,
        target: QueryTarget {
            namespace: "payments".to_owned(),
            namespace_labels: Default::default(),
            pod: "web-1".to_owned(),
            pod_labels: Default::default(),
            pod_ips: vec!["10.1.2.3".parse().unwrap()],
            workload: Some("Deployment/web".to_owned()),
            container: "app".to_owned(),
        },
        profile: QueryProfile { name: "general".to_owned(), image: "busybox:1".to_owned() },
        command: None,
        access: None,
        destination: None,
        source: QuerySource { ip: "10.9.9.9".parse().unwrap() },
        time: "2026-11-24T10:00:00Z".parse().unwrap(),
    };
    change(&mut query);
    query
}

fn policy(text: &str) -> Policy {
    document::compile(text).unwrap_or_else(|mistake| panic!("{}", mistake.problem))
}

/// The question of `question`, changed by words such as `group lead, ns shared, ns:team payments, exec ps aux`.
fn asked(words: &str) -> Query {
    let mut query = question(|_| {});
    if words.contains("group ") {
        query.user.groups.clear();
    }
    for word in words.split(", ").filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once(' ').unwrap_or((word, ""));
        let text = value.to_owned();
        if let Some(action) = ActionKind::of(key) {
            query.action = action;
        }
        match key {
            "list" | "shell" | "agent" => {}
            "exec" | "files" => query.command = Some(text),
            "forward" | "listen" => {
                let (host, port) = value.rsplit_once(':').unwrap();
                query.destination = Some(QueryDestination { host: host.to_owned(), port: port.parse().unwrap() });
            }
            "user" => query.user.subject = text,
            "group" => query.user.groups.extend((!text.is_empty()).then_some(text)),
            "ns" => query.target.namespace = text,
            "pod" => query.target.pod = text,
            "workload" => query.target.workload = (!text.is_empty()).then_some(text),
            "container" => query.target.container = text,
            "profile" => query.profile.name = text,
            "from" => query.source.ip = value.parse().unwrap(),
            "at" => query.time = value.parse().unwrap(),
            _ => match key.split_once(':') {
                Some(("ns", label)) => _ = query.target.namespace_labels.insert(label.to_owned(), text),
                Some(("pod", label)) => _ = query.target.pod_labels.insert(label.to_owned(), text),
                _ => panic!("{word}"),
            },
        }
    }
    query
}

type Case = (&'static str, &'static str, Result<&'static str, &'static str>);

/// What is asked, and which rule allows it, or what the reason for the no contains.
const CASES: &[Case] = &[
    // Who.
    ("a group's role", "", Ok("by-name")),
    ("a group by glob", "group dev-berlin", Ok("by-name")),
    ("a subject", "group , user dora", Ok("by-name")),
    ("no group", "group ", Err("no role of this person allows anything")),
    ("a group in other letters", "group Dev", Err("no role of this person allows anything")),
    ("a group that begins alike", "group developers", Err("no role of this person allows anything")),
    ("a subject called as a group", "group , user dev", Err("no role of this person allows anything")),
    ("a group called as a subject", "group dora", Err("no role of this person allows anything")),
    ("a group with a backslash", "group CORP\\ops, ns x, list", Ok("see")),
    ("a group by a path's glob", "group /corp/ops/eu, ns x, list", Ok("see")),
    ("a group that looks like a glob", "group *", Err("no role of this person allows anything")),
    // Where, by the namespace's name.
    ("a namespace by glob", "ns payments-eu", Ok("by-name")),
    ("a namespace that begins alike", "ns payments2", Err("no rule matches: nearest: role")),
    ("a namespace that ends alike", "ns xpayments", Err("no rule matches: nearest: role")),
    ("a namespace in a role of one rule", "group lister, ns y, list", Err("\"y\" is not among x, x-*")),
    // Where, by the namespace's labels.
    ("a namespace by its labels", "ns x, ns:team payments, ns:stage test, ns:centre 7", Ok("by-label")),
    (
        "a label of another value",
        "ns x, ns:team search, ns:stage dev, ns:centre 7",
        Err("namespace label team is \"search\", not \"payments\""),
    ),
    (
        "a label outside the set",
        "ns x, ns:team payments, ns:stage prod, ns:centre 7",
        Err("namespace label stage is \"prod\", not \"dev\", \"test\""),
    ),
    ("an empty label that must exist", "ns x, ns:team payments, ns:stage dev, ns:centre ", Ok("by-label")),
    ("no label that must exist", "ns x, ns:team payments, ns:stage dev", Err("namespace label centre is missing")),
    ("a label in other letters", "ns x, ns:team Payments, ns:stage dev, ns:centre 7", Err("namespace label team is")),
    (
        "the namespace's labels on the pod",
        "ns x, pod:team payments, pod:stage dev, pod:centre 7",
        Err("label centre is"),
    ),
    // Where, by the pod.
    ("a pod by all that is said of it", "ns shared, pod:example.com/app api", Ok("by-pod")),
    ("a pod of another name", "ns shared, pod:example.com/app api, pod web-10", Err("\"web-10\" is not among web-?")),
    ("a pod without the label", "ns shared", Err("pod label example.com/app is missing")),
    ("a pod whose label differs", "ns shared, pod:example.com/app x", Err("app is \"x\", not \"web\", \"api\"")),
    (
        "a workload of another kind",
        "ns shared, pod:example.com/app api, workload Job/web",
        Err("workload \"Job/web\" is not among Deployment/web*, */db"),
    ),
    ("a workload of any kind", "ns shared, pod:example.com/app api, workload X/db", Ok("by-pod")),
    ("a bare pod", "ns shared, pod:example.com/app api, workload ", Err("the pod has no workload")),
    ("another container of the pod", "ns shared, pod:example.com/app api, container sidecar", Ok("by-pod")),
    (
        "a container that is not named",
        "ns shared, pod:example.com/app api, container vault",
        Err("container \"vault\" is not among app, sidecar"),
    ),
    // What: each action apart.
    ("list", "list", Ok("by-name")),
    ("exec", "exec id; id", Ok("by-name")),
    ("files, where shell and exec are allowed", "files sftp", Err("action files is not among list, shell, exec")),
    ("files", "ns x, ns:team payments, ns:stage test, ns:centre 7, files sftp", Ok("by-label")),
    (
        "exec, where shell and files are allowed",
        "ns x, ns:team payments, ns:stage test, ns:centre 7, exec id",
        Err("action exec is not among shell, files"),
    ),
    ("list, where shell is allowed", "ns shared, pod:example.com/app api, list", Err("list is not among shell")),
    ("shell, where list is allowed", "group lister, ns x", Err("shell is not among list")),
    ("agent", "agent", Ok("agent")),
    ("agent elsewhere", "ns payments-eu, agent", Err("action agent is not among")),
    // By which profile.
    ("a profile, where none is named", "profile sysadmin", Err("profile \"sysadmin\" is not among general")),
    ("a profile by glob", "ns x, ns:team payments, ns:stage test, ns:centre 7, profile netshoot", Ok("by-label")),
    ("a list by another profile and container", "group lister, ns x, list, profile y, container z", Ok("see")),
    ("any profile", "group night, at 2026-11-24T23:00:00+01, profile sysadmin", Ok("shift")),
    // Which command.
    ("a command", "group support, exec ps", Ok("look")),
    ("a command by glob", "group support, exec ps aux", Ok("look")),
    ("a path below", "group support, exec cat /var/log/nginx/error.log", Ok("look")),
    ("a command that is spelled out", "group support, exec sh -c 'uptime; free'", Ok("look")),
    ("a command that begins alike", "group support, exec psql", Err("command \"psql\" is not among ps, ps *")),
    ("a second command behind it", "group support, exec ps aux; id", Err("is more than plain words")),
    ("a second line", "group support, exec ps\nid", Err("command \"ps\\nid\" is more than plain words")),
    ("a shell, where only commands are allowed", "group support", Err("action shell is not among")),
    ("a copy out", "group support, files scp -f /var/log/app.log", Ok("fetch")),
    ("a copy in", "group support, files scp -t /tmp", Err("command \"scp -t /tmp\" is not among scp -f *")),
    // Which destination.
    ("a port of the pod", "forward localhost:8080", Ok("ports")),
    ("a port of the pod by its address", "forward 10.1.2.3:8080", Ok("ports")),
    ("a port that is not named", "forward localhost:9000", Err("destination \"localhost:9000\" is not among")),
    ("a name", "forward api.payments.svc:443", Ok("ports")),
    ("another name", "forward api.search.svc:443", Err("destination \"api.search.svc:443\" is not among")),
    ("a listener", "listen localhost:8080", Ok("ports")),
    ("a listener open to the network", "listen 0.0.0.0:8080", Err("destination \"0.0.0.0:8080\" is not among")),
    ("a forward elsewhere", "ns payments-eu, forward localhost:8080", Err("action forward is not among")),
    // From where.
    ("a source in IPv6", "group support, exec ps, from 2001:db8::1", Ok("look")),
    ("a source in IPv6's clothes", "group support, exec ps, from ::ffff:10.0.0.1", Ok("look")),
    ("a source from outside", "group support, exec ps, from 192.0.2.1", Err("source \"192.0.2.1\" is not among 10.")),
    // When. The defaults' zone is Berlin.
    ("at night", "group night, at 2026-11-24T22:00:00+01", Ok("shift")),
    ("past midnight", "group night, at 2026-11-25T05:59:59+01", Ok("shift")),
    (
        "in the morning",
        "group night, at 2026-11-25T06:00:00+01",
        Err("Wed 06:00 (Europe/Berlin) is outside mon-thu 22:00-06:00, fri 22:00-08:00"),
    ),
    ("Friday's night lasts until eight", "group night, at 2026-11-28T07:59:00+01", Ok("shift")),
    ("Sunday night", "group night, at 2026-11-29T23:00:00+01", Err("Sun 23:00 (Europe/Berlin) is outside")),
    ("Monday before dawn is Sunday's night", "group night, at 2026-11-30T05:00:00+01", Err("Mon 05:00 (Europe/")),
    ("in summer by the clock on the wall", "group night, at 2026-07-07T20:00:00Z", Ok("shift")),
    ("in winter too", "group night, at 2026-11-24T20:00:00Z", Err("Tue 21:00 (Europe/Berlin) is outside")),
    ("the hour that comes twice", "group sunday, at 2026-10-25T00:30:00Z", Ok("small-hours")),
    ("the hour that comes twice, again", "group sunday, at 2026-10-25T01:30:00Z", Ok("small-hours")),
    ("the hour that never comes", "group sunday, at 2026-03-29T01:30:00Z", Err("Sun 03:30 (Europe/Berlin)")),
    // Denied all the same.
    ("a frozen namespace", "ns:frozen true", Err("role \"guard\", rule \"frozen\" denies")),
    (
        "a frozen namespace by another profile",
        "group night, at 2026-11-24T23:00:00+01, ns:frozen true, profile sysadmin",
        Err("rule \"frozen\" denies"),
    ),
    ("a frozen namespace can be seen", "ns:frozen true, list", Ok("by-name")),
    ("a namespace frozen no more", "ns:frozen false", Ok("by-name")),
    ("a denied port among allowed ones", "forward localhost:8888", Err("rule \"no-admin-port\" denies")),
    ("that port by another spelling", "forward ::ffff:127.0.0.1:8888", Err("rule \"no-admin-port\" denies")),
    ("that port by the pod's address", "forward 10.1.2.3:8888", Err("rule \"no-admin-port\" denies")),
    ("a denied profile", "group night, at 2026-11-24T23:00:00+01, profile netadmin", Err("\"no-netadmin\" denies")),
    ("a list is not about a profile", "list, profile netadmin", Ok("by-name")),
];

#[test]
fn each_question_is_answered_by_the_rule_that_is_meant_for_it() {
    let policy = policy(POLICY);
    for (claim, words, expected) in CASES {
        let query = asked(words);
        let decision = policy.decide(&query);
        match expected {
            Ok(rule) => {
                assert!(decision.allow, "{claim}: {}", decision.reason);
                assert!(decision.reason.ends_with(&format!("rule {rule:?} allows")), "{claim}: {}", decision.reason);
            }
            Err(reason) => {
                assert!(!decision.allow, "{claim}: {}", decision.reason);
                assert!(decision.reason.contains(reason), "{claim}: {}", decision.reason);
                assert!(decision.reason.len() < 500, "{claim}: {}", decision.reason);
            }
        }
        // What explains the answer agrees with it.
        let fitting = |effect| {
            let fits = |verdict: &Verdict<'_>| verdict.bound && verdict.effect == effect && verdict.misfit.is_none();
            policy.verdicts(&query).iter().any(fits)
        };
        assert_eq!(decision.allow, fitting(Effect::Allow) && !fitting(Effect::Deny), "{claim}");
    }
}

#[test]
fn a_reason_stays_short_and_on_one_line_whatever_a_client_sends() {
    let policy = policy(POLICY);
    let long = "x\n\u{1b}[2J\u{202e}".repeat(10_000);
    for words in
        [format!("group support, exec {long}"), format!("forward {long}:1"), format!("group support, files {long}")]
    {
        let reason = policy.decide(&asked(&words)).reason;
        assert!(reason.len() < 1000 && reason.contains('…'), "{reason}");
        assert!(!reason.contains(char::is_control) && !reason.contains('\u{202e}'), "{reason}");
    }
}

#[test]
fn an_empty_policy_denies() {
    for text in ["", "[roles]", "bindings = []"] {
        let decision = policy(text).decide(&question(|_| {}));
        assert_eq!((decision.allow, &*decision.reason), (false, "no rule matches: \"alice\" has no role"));
    }
}

#[test]
fn of_several_rules_that_allow_the_one_that_lasts_longest_decides() {
    let policy = policy(POLICY);
    let lasts = |words: &str| {
        let query = asked(words);
        let decision = policy.decide(&query);
        let rule = decision.reason.split('"').nth(3).unwrap_or_default().to_owned();
        (rule, decision.obligations.lasts(query.time).map(|limit| limit.as_secs() / 60))
    };
    let noon = "files scp -f x, at 2026-11-24T12:00:00+01";
    assert_eq!(lasts(&format!("group support, {noon}")), ("fetch".into(), Some(10)));
    assert_eq!(lasts(&format!("group support, group lead, {noon}")), ("longer".into(), Some(60)));
    let evening = "files scp -f x, at 2026-11-24T22:30:00+01";
    assert_eq!(lasts(&format!("group support, group lead, group night, {evening}")), ("shift".into(), Some(450)));
    // The night ends, and what it allows ends with it.
    let morning = "files scp -f x, at 2026-11-24T05:55:00+01";
    assert_eq!(lasts(&format!("group night, {morning}")), ("shift".into(), Some(5)));
    assert_eq!(lasts(&format!("group support, group night, {morning}")), ("fetch".into(), Some(10)));
    assert_eq!(lasts("group dev, group night, at 2026-11-24T22:30:00+01"), ("by-name".into(), None));
}

/// A rule around one line under test, which is then the file's line 6.
fn rule_with(line: &str) -> String {
    format!(
        "[roles.r]\n[[roles.r.rules]]\nid = \"one\"\nactions = [\"shell\"]\nnamespaces = \"*\"\n\
         {line}\n[[bindings]]\nsubjects = \"*\"\nroles = \"r\"\n"
    )
}

#[test]
fn a_mistake_is_named_with_its_line_and_what_would_be_right() {
    let whole = |text: &str| text.to_owned();
    let exec = |line: &str| rule_with(line).replace("\"shell\"", "\"exec\"");
    let deny = |line: &str| rule_with(line).replace("id = \"one\"", "id = \"one\"\neffect = \"deny\"");
    for (text, place, problem) in [
        (rule_with("namespce = \"x\""), "6:1", "unknown field `namespce`, expected one of `id`, `effect`, `actions`"),
        (rule_with("pods = 3"), "6:8", "expected a string or a list of strings"),
        (rule_with("pods = [\"a\", 3]"), "6:14", "expected a string"),
        (rule_with("pods = []"), "6:8", "the list is empty"),
        (rule_with("pods = \"\""), "6:8", "an empty pattern fits nothing"),
        (rule_with("pods = [\n\"a\",\n\"web[\"]"), "8:1", "`web[` is no glob: unclosed character class"),
        (rule_with("pods = \"Web\""), "6:8", "`Web` can fit no name, since 'W' is in none"),
        (rule_with("workloads = \"web\""), "6:13", "write it as `Deployment/web` or `*/web`"),
        (rule_with("pod-labels = { app = \"we*\" }"), "6:22", "`we*` is no label value: values are compared exactly"),
        (
            rule_with("pod-labels = { app = true }"),
            "6:22",
            "expected a label's value, a list of them, or \"*\" for any",
        ),
        (rule_with("pod-labels = { app = [] }"), "6:22", "the list is empty"),
        (rule_with("pod-labels = {}"), "6:14", "no label is named, so anything would fit"),
        (rule_with("pod-labels = { \"a b\" = \"c\" }"), "6:16", "`a b` is no label's key"),
        (rule_with("sources = \"10.0.0.1/8\""), "6:11", "`10.0.0.1/8` has bits beyond its prefix: write `10.0.0.0/8`"),
        (rule_with("sources = \"home\""), "6:11", "`home` is no network"),
        (rule_with("hours = \"mo-fr 8-18\""), "6:9", "`mo-fr 8-18` is no hours of the week"),
        (rule_with("hours = \"mon\"\ntime-zone = \"Berlin\""), "7:13", "`Berlin` is no time zone that is known here"),
        (rule_with("time-zone = \"UTC\""), "6:13", "a time zone without `hours` changes nothing"),
        (rule_with("max-duration = 30"), "6:16", "expected a string"),
        (rule_with("max-duration = \"0s\""), "6:16", "no session lasts for no time"),
        (rule_with("max-duration = \"30\""), "6:16", "`30` is no duration"),
        (
            rule_with("commands = \"ls\""),
            "6:12",
            "only exec and files run a command, so `commands` says nothing of shell",
        ),
        (rule_with("destinations = \"db:1\""), "6:16", "only forward and listen have a destination"),
        (
            exec("destinations = \"db:1\""),
            "6:16",
            "so `destinations` says nothing of exec: give exec a rule of its own",
        ),
        (exec("commands = \"ls [\""), "6:12", "`ls [` is no glob"),
        (
            rule_with("destinations = \"db\"").replace("shell", "forward"),
            "6:16",
            "`db` is no destination: write host:port",
        ),
        (rule_with("profiles = \"x\"").replace("shell", "list"), "6:12", "list looks at no container and no profile"),
        (rule_with("").replace("\"shell\"", "\"shel\""), "4:12", "`shel` is no action: use list, shell, exec, files"),
        (rule_with("").replace("\"shell\"", ""), "4:11", "the list is empty"),
        (rule_with("").replace("namespaces = \"*\"\n", ""), "3:6", "rule `one` allows without saying where"),
        (rule_with("").replace("id = \"one\"\n", ""), "2:1", "missing field `id`"),
        (rule_with("").replace("\"one\"", "\"one two\""), "3:6", "is no name"),
        (rule_with("effect = \"block\""), "6:10", "unknown variant `block`, expected `allow` or `deny`"),
        (rule_with("id = \"two\""), "6:1", "duplicate key"),
        (
            rule_with("[[roles.r.rules]]\nid = \"one\"\nactions = \"*\"\nnamespaces = \"*\""),
            "7:6",
            "role `r` has two rules `one`",
        ),
        (deny("max-duration = \"1h\""), "7:16", "what is denied has no duration"),
        (deny("commands = \"rm\"").replace("shell", "exec"), "7:12", "a command cannot be denied"),
        (whole("[roles.r]\nrules = []"), "2:9", "role `r` has no rule"),
        (whole("[roles.r]"), "1:1", "missing field `rules`"),
        (
            rule_with("").replace("roles = \"r\"", "roles = [\"rr\"]"),
            "9:9",
            "there is no role `rr`: use one of this file's (r)",
        ),
        (
            whole("[[bindings]]\ngroups = \"a\"\nroles = \"r\""),
            "3:9",
            "there is no role `r`: use one of this file's (it has none yet)",
        ),
        (whole("[[bindings]]\nroles = \"r\""), "1:1", "this binding is for nobody: name `groups`, `subjects` or both"),
        (whole("[[bindings]]\ngroups = []\nroles = \"r\""), "2:10", "the list is empty"),
        (whole("[[bindings]]\ngroups = \"a\"\nroles = []"), "3:9", "the list is empty"),
        (
            whole("[[bindings]]\ngroup = \"a\""),
            "2:1",
            "unknown field `group`, expected one of `subjects`, `groups`, `roles`",
        ),
        (
            whole("[[bindings]]\ngroups = 'CORP\\dev'"),
            "2:10",
            "`CORP\\dev` has `\\` before 'd', where it means nothing",
        ),
        (whole("[[bindings]]\ngroups = 'CORP\\'"), "2:10", "`CORP\\` is no glob: dangling"),
        (whole("[defaults]\ntime-zone = \"x\""), "2:13", "`x` is no time zone"),
        (whole("[default]"), "1:2", "unknown field `default`"),
        (whole("[roles"), "1:7", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.toml");
        std::fs::write(&file, &text).unwrap();
        let error = Policy::load(&file).expect_err(&text).to_string();
        assert!(error.starts_with(&format!("{}:{place}: ", file.display())), "{error}\n{text}");
        assert!(error.contains(problem), "{error}\n{text}");
        assert!(!error.contains('\n'), "{error}");
    }
    let missing = Policy::load("no-such-folder/policy.toml".as_ref()).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read the policy no-such-folder/policy.toml: "), "{missing}");
}

#[test]
fn the_example_loads_and_answers_its_own_question() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policy.toml");
    let policy = Policy::load(example.as_ref()).unwrap_or_else(|error| panic!("{error}"));
    // The defaults that it shows are those that hold.
    let spelled_out = std::fs::read_to_string(example).unwrap().replace("\n#profiles", "\nprofiles");
    let spelled_out = self::policy(&spelled_out.replace("\n#time-zone", "\ntime-zone"));
    for words in ["group platform, exec df", "group platform, exec df, profile x, from 192.0.2.1"] {
        assert_eq!(policy.decide(&asked(words)), spelled_out.decide(&asked(words)));
    }
    let own = policy.decide(&asked("group payments-dev, ns:team payments"));
    assert_eq!(own.reason, "role \"developer\", rule \"own-namespaces\" allows");
    assert_eq!(own.obligations.max_duration, Some(Duration::from_secs(12 * 60 * 60)));
    let system = policy.decide(&asked("group platform, ns kube-system"));
    assert_eq!(system.reason, "role \"everybody\", rule \"no-system\" denies");
}

/// What must come, or the test has failed: no event is waited for longer.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), event).await.expect("the event has not come")
}

#[tokio::test]
async fn a_change_is_in_force_once_it_loads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    // Put in place whole, as an editor or a ConfigMap does it.
    let write = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &file).unwrap();
    };
    write(&rule_with(""));
    let policy = PolicyFile::open(&file).unwrap();
    let mut changes = policy.changes().remove(0);
    let query = question(|_| {});
    let shell = async || policy.decide(&query).await.unwrap().allow;
    assert!(shell().await);
    for allowed in [false, true, false] {
        write(&rule_with("").replace("shell", if allowed { "shell" } else { "files" }));
        // A file may be re-read more than once for one change.
        while shell().await != allowed {
            soon(changes.changed()).await.unwrap();
        }
    }
}

/// A policy that is a link into another folder was never re-read.
#[tokio::test]
async fn a_change_behind_a_link_is_in_force_too() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (at, link) = (|name: &str| folder.path().join(name), folder.path().join("etc/policy.toml"));
    let text = |allowed: bool| rule_with("").replace("shell", if allowed { "shell" } else { "files" });
    for (version, allowed) in [("mount/..1", true), ("mount/..2", false), ("elsewhere", true)] {
        std::fs::create_dir_all(at(version)).unwrap();
        std::fs::write(at(version).join("policy.toml"), text(allowed)).unwrap();
    }
    std::fs::create_dir(at("etc")).unwrap();
    symlink("..1", at("mount/..data")).unwrap();
    symlink("../mount/..data/policy.toml", &link).unwrap();
    let policy = PolicyFile::open(&link).unwrap();
    let mut changes = policy.changes().remove(0);
    let query = question(|_| {});
    let shell = async || policy.decide(&query).await.unwrap().allow;
    assert!(shell().await);
    let put = |target: &str, name: &str| {
        symlink(target, at("new")).unwrap();
        std::fs::rename(at("new"), at(name)).unwrap();
    };
    let steps: [(&dyn Fn(), bool); 4] = [
        // As Kubernetes swaps a version in.
        (&|| put("..2", "mount/..data"), false),
        (&|| std::fs::write(at("mount/..2/policy.toml"), text(true)).unwrap(), true),
        (&|| put("..1", "mount/..data"), true),
        (&|| std::fs::write(at("mount/..1/policy.toml"), text(false)).unwrap(), false),
    ];
    for (step, allowed) in steps {
        step();
        while shell().await != allowed {
            soon(changes.changed()).await.unwrap();
        }
    }
    // Another folder altogether.
    put("../elsewhere/policy.toml", "etc/policy.toml");
    while !shell().await {
        soon(changes.changed()).await.unwrap();
    }
}

#[tokio::test]
async fn a_broken_change_leaves_the_last_good_policy_in_force() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.toml");
    std::fs::write(&file, rule_with("")).unwrap();
    let (fail, mut failures) = tokio::sync::mpsc::channel(64);
    let path = file.clone();
    let load = move || Policy::load(&path).inspect_err(|error| fail.try_send(error.to_string()).unwrap());
    let policy = PolicyFile { policy: Watched::open("policy", std::slice::from_ref(&file), load).unwrap() };
    let shell = async || policy.decide(&question(|_| {})).await.unwrap().allow;

    std::fs::write(&file, "[[bindings]]\nnonsense = 1").unwrap();
    while !soon(failures.recv()).await.unwrap().contains("policy.toml:2:1: unknown field `nonsense`") {}
    assert!(shell().await);
    std::fs::remove_file(&file).unwrap();
    while !soon(failures.recv()).await.unwrap().contains("cannot read") {}
    assert!(shell().await);

    let mut changes = policy.changes().remove(0);
    std::fs::write(&file, rule_with("pods = \"db-*\"")).unwrap();
    while shell().await {
        soon(changes.changed()).await.unwrap();
    }
}
