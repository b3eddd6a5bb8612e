//! Forty questions to the policy that ships, in each of its forms.
//!
//! The people: `payments-dev` may work in the namespaces of the team payments, `support-1` may look into `*-prod` by day,
//! `platform` and carol may do everything from the company's network, and nobody enters `kube-*`.

use std::collections::BTreeMap;
use std::time::Duration;

use porthole::authorize::{
    ActionKind, FileAccess, Query, QueryDestination, QueryProfile, QuerySource, QueryTarget, QueryUser,
};

use ActionKind::{Agent, Exec, Files, Forward, List, Listen, Shell};

pub struct Question {
    pub name: &'static str,
    pub query: Query,
    /// The longest session of a yes.
    pub yes: Option<Duration>,
    /// Whether a label, an hour or the pod's own address decides it: what a rule that sees a path cannot know.
    pub beyond_a_path: bool,
}

pub const HOURS: u64 = 3600;
const MINUTES: u64 = 60;

/// Half past ten of a Tuesday in Berlin, and other moments.
const TUESDAY: &str = "2026-11-24T09:30:00Z";
const TUESDAY_NEAR_ITS_END: &str = "2026-11-24T16:50:00Z";
const TUESDAY_EVENING: &str = "2026-11-24T17:00:00Z";
const SATURDAY: &str = "2026-11-28T09:00:00Z";
const SUNDAY: &str = "2026-11-29T09:00:00Z";

/// Where a client is that comes from outside, and from the company's network.
const OUTSIDE: &str = "192.0.2.7";
const INSIDE: &str = "10.1.1.1";

fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn query(subject: &str, groups: &[&str], action: ActionKind, namespace: &str, team: Option<&str>) -> Query {
    Query {
        user: QueryUser {
            subject: subject.to_owned(),
            email: Some(format!("{subject}@example.com")),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            method: "certificate",
            issuer: None,
            id_token: None,
        },
        action,
        target: QueryTarget {
            namespace: namespace.to_owned(),
            namespace_labels: labels(&team.map(|team| vec![("team", team)]).unwrap_or_default()),
            pod: "web-1".to_owned(),
            pod_labels: BTreeMap::new(),
            pod_ips: vec!["10.1.2.3".parse().expect("an address")],
            workload: Some("Deployment/web".to_owned()),
            container: "app".to_owned(),
        },
        profile: QueryProfile { name: "general".to_owned(), image: "busybox:1".to_owned() },
        command: None,
        access: None,
        destination: None,
        source: QuerySource { ip: OUTSIDE.parse().expect("an address") },
        time: TUESDAY.parse().expect("a moment"),
    }
}

/// A developer's question in their own namespace.
pub fn developer(action: ActionKind) -> Query {
    query("alice", &["payments-dev"], action, "payments", Some("payments"))
}

fn support(action: ActionKind, time: &str) -> Query {
    let mut query = query("bob", &["staff", "support-1"], action, "shop-prod", None);
    query.target.pod_labels = labels(&[("tier", "web")]);
    query.command = (action == Exec).then(|| "id".to_owned());
    query.time = time.parse().expect("a moment");
    query
}

fn operator(action: ActionKind, source: &str) -> Query {
    let mut query = query("dave", &["platform"], action, "search", Some("search"));
    query.source = QuerySource { ip: source.parse().expect("an address") };
    query
}

fn with(mut query: Query, change: impl FnOnce(&mut Query)) -> Query {
    change(&mut query);
    query
}

fn runs(query: Query, command: &str) -> Query {
    with(query, |query| query.command = Some(command.to_owned()))
}

fn to(query: Query, host: &str, port: u16) -> Query {
    with(query, |query| query.destination = Some(QueryDestination { host: host.to_owned(), port }))
}

fn files(query: Query, command: &str, access: FileAccess) -> Query {
    with(runs(query, command), |query| query.access = Some(access))
}

fn profile(query: Query, name: &str) -> Query {
    with(query, |query| query.profile.name = name.to_owned())
}

fn namespace(query: Query, name: &str, team: Option<&str>) -> Query {
    with(query, |query| {
        query.target.namespace = name.to_owned();
        query.target.namespace_labels = labels(&team.map(|team| vec![("team", team)]).unwrap_or_default());
    })
}

fn groups(query: Query, groups: &[&str]) -> Query {
    with(query, |query| query.user.groups = groups.iter().map(|group| (*group).to_owned()).collect())
}

fn tier(query: Query, tier: &str) -> Query {
    with(query, |query| query.target.pod_labels = labels(&[("tier", tier)]))
}

#[rustfmt::skip]
pub fn all() -> [Question; 40] {
    let day = Some(12 * HOURS);
    let half_hour = Some(30 * MINUTES);
    let table: [(&'static str, Query, Option<u64>, bool); 40] = [
        ("a developer sees their namespace", developer(List), day, false),
        ("a shell", developer(Shell), day, false),
        ("a command", runs(developer(Exec), "sh -c 'uptime; free'"), day, false),
        ("files, written", files(developer(Files), "sftp", FileAccess::Write), day, false),
        ("files, read", files(developer(Files), "scp -f /tmp/../x", FileAccess::Read), day, false),
        ("an agent", developer(Agent), day, false),
        ("a port of the pod", to(developer(Forward), "localhost", 8080), day, false),
        ("by its loopback address", to(developer(Forward), "127.0.0.1", 5432), day, false),
        ("by its own address", to(developer(Forward), "10.1.2.3", 8080), day, true),
        ("another host", to(developer(Forward), "db.internal", 5432), None, false),
        ("another pod's address", to(developer(Forward), "10.1.2.4", 80), None, false),
        ("a listener", to(developer(Listen), "localhost", 8080), None, false),
        ("an allowed profile", profile(developer(Shell), "restricted"), day, false),
        ("another profile", profile(developer(Shell), "netadmin"), None, false),
        ("a list looks at no profile", profile(developer(List), "netadmin"), day, false),
        ("another team's namespace", namespace(developer(Shell), "search", Some("search")), None, false),
        ("the name without the label", namespace(developer(Shell), "payments", None), None, true),
        ("the label with another name", namespace(developer(Shell), "checkout", Some("payments")), day, true),
        ("the label on a system namespace", namespace(developer(Shell), "kube-system", Some("payments")), None, false),
        ("which may be seen", namespace(developer(List), "kube-system", Some("payments")), day, true),
        ("another group of theirs", groups(developer(Shell), &["payments-lead"]), day, false),
        ("another group", groups(developer(Shell), &["search-dev", "payments-developer"]), None, false),
        ("no group", groups(developer(Shell), &[]), None, false),
        ("support by day", support(Exec, TUESDAY), half_hour, false),
        ("near the end of the hours", support(Exec, TUESDAY_NEAR_ITS_END), Some(10 * MINUTES), true),
        ("after them", support(Exec, TUESDAY_EVENING), None, true),
        ("on a Saturday", support(Exec, SATURDAY), half_hour, true),
        ("on a Sunday", support(Exec, SUNDAY), None, true),
        ("at a database", tier(support(Exec, TUESDAY), "db"), None, true),
        ("in another stage", namespace(support(Exec, TUESDAY), "shop-dev", None), None, false),
        ("a shell for support", support(Shell, TUESDAY), None, false),
        ("support sees", tier(support(List, TUESDAY), "worker"), half_hour, false),
        ("an operator inside", operator(Shell, INSIDE), day, false),
        ("an operator outside", operator(Shell, OUTSIDE), None, false),
        ("one by name", to(with(operator(Listen, INSIDE), |query| {
            query.user.subject = "carol".to_owned();
            query.user.groups.clear();
        }), "0.0.0.0", 9000), day, false),
        ("any profile and host", profile(to(operator(Forward, INSIDE), "db.internal", 5432), "netadmin"), day, false),
        ("an operator in a system namespace", namespace(operator(Shell, INSIDE), "kube-system", None), None, false),
        ("an allowed command from outside", runs(operator(Exec, OUTSIDE), "ls -l /var/log/app.log"), day, false),
        ("one that climbs", runs(operator(Exec, OUTSIDE), "ls -l /var/log/../../etc/shadow"), None, false),
        ("one that is two", runs(operator(Exec, OUTSIDE), "df; id"), None, false),
    ];
    // Each in a pod of its own, since an answer is kept for the same question at another moment.
    let mut pods = 1..;
    table.map(|(name, query, yes, beyond_a_path)| Question {
        name,
        query: with(query, |query| query.target.pod = format!("web-{}", pods.next().expect("endless"))),
        yes: yes.map(Duration::from_secs),
        beyond_a_path,
    })
}
