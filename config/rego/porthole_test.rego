# `opa test config/rego`
package porthole_test

import data.porthole

question(changes) := object.union(
	{
		"user": {"subject": "alice", "email": null, "groups": ["payments-dev"], "method": "certificate", "issuer": null},
		"action": "shell",
		"target": {
			"namespace": "payments",
			"namespace_labels": {"team": "payments"},
			"pod": "web-1",
			"pod_labels": {},
			"pod_ips": ["10.1.2.3"],
			"workload": "Deployment/web",
			"container": "app",
		},
		"profile": {"name": "general", "image": "busybox"},
		"source": {"ip": "192.0.2.7"},
		"time": "2026-11-24T10:00:00Z",
	},
	changes,
)

rules(list) := {"roles": {"role": list}, "bindings": [{"subjects": "*", "roles": "role"}]}

allows(rule, changes) if {
	answer := porthole.decide(question(changes)) with data.access as rules([object.union({"id": "it", "namespaces": "*", "actions": "*"}, rule)])
	answer.allow
}

test_a_group_opens_the_namespaces_of_its_role if {
	answer := porthole.decide(question({}))
	answer == {
		"allow": true,
		"reason": `role "developer", rule "own-namespaces" allows`,
		"obligations": {"max_duration": "12h"},
	}
}

test_what_no_rule_allows_is_denied if {
	porthole.decide(question({"user": {"groups": ["other"]}})).allow == false
	porthole.decide(question({"target": {"namespace_labels": {"team": "search"}}})).allow == false
	porthole.decide(question({"profile": {"name": "netadmin"}})).allow == false
}

test_a_rule_that_denies_wins if {
	answer := porthole.decide(question({"user": {"subject": "carol"}, "target": {"namespace": "kube-system"}, "source": {"ip": "10.0.0.1"}}))
	answer.allow == false
	answer.reason == `role "everybody", rule "no-system" denies`
}

test_a_list_is_answered_in_its_order if {
	answers := porthole.decisions with input as {"queries": [question({}), question({"user": {"groups": []}})]}
	[answer.allow | some answer in answers] == [true, false]
}

at(time) := porthole.decide(question({
	"user": {"groups": ["support-1"]},
	"action": "exec",
	"command": "id",
	"target": {"namespace": "shop-prod", "pod_labels": {"tier": "web"}},
	"time": time,
}))

test_hours_are_those_of_their_zone_and_end_the_session if {
	at("2026-11-24T10:00:00Z").obligations == {"max_duration": "30m", "until": "2026-11-24T17:00:00Z"}
	at("2026-11-24T16:50:30.25Z").obligations == {"max_duration": "30m", "until": "2026-11-24T17:00:00Z"}
	at("2026-11-24T17:00:00Z").allow == false
	at("2026-11-24T06:59:59Z").allow == false
	at("2026-11-28T08:30:00Z").allow
	at("2026-11-29T08:30:00Z").allow == false
}

test_hours_over_midnight if {
	allows({"hours": "fri 22:00-06:00"}, {"time": "2026-11-28T05:59:00Z"})
	not allows({"hours": "fri 22:00-06:00"}, {"time": "2026-11-27T05:59:00Z"})
	allows({"hours": "sun 22:00-06:00"}, {"time": "2026-11-30T01:00:00Z"})
	allows({"hours": "sat-mon"}, {"time": "2026-11-29T23:59:00Z"})
	not allows({"hours": "sat-mon"}, {"time": "2026-11-24T00:00:00Z"})
	allows({"hours": "00:00-24:00"}, {"time": "2026-11-24T23:59:00Z"})
}

runs(pattern, command) if allows({"commands": pattern}, {"action": "exec", "command": command})

test_a_wildcard_stays_in_its_word if {
	runs("ls -l /var/log/*", "ls -l /var/log/app.log")
	not runs("ls -l /var/log/*", "ls -l /var/log/../../etc/shadow")
	not runs("ls -l /var/log/*", "ls -l /var/log/x /root/.ssh")
	not runs("ls *", "ls; id")
	not runs("ls *", "ls $(id)")
	not runs("ls *", "ls")
	not runs("*/id *", "PATH=/tmp id x")
	runs("ls *", "ls -l -a")
	runs("sh -c 'uptime; free'", "sh -c 'uptime; free'")
	runs("*", "anything; at all")
}

dials(pattern, host) if {
	allows({"destinations": pattern}, {"action": "forward", "destination": {"host": host, "port": 80}})
}

test_the_pod_is_one_thing_by_each_of_its_names if {
	every host in ["localhost", "LocalHost.", "web.localhost", "127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "10.1.2.3", "::ffff:127.0.0.1"] {
		dials("localhost:*", host)
		dials("local*:80", host)
	}
	not dials("localhost:*", "10.1.2.4")
	not dials("localhost:*", "localhost.evil.example")
	dials("10.0.0.0/8:80-89", "10.9.8.7")
	not dials("10.0.0.0/8:81-89", "10.9.8.7")
	dials("*.svc:80", "db.svc")
	not dials("*.svc:80", "db.example")
	dials("[::1]:80", "localhost")
}

test_the_longest_yes_decides_then_the_lighter_one if {
	one := {"id": "one", "namespaces": "*", "actions": "*", "max_duration": "10m"}
	two := {"id": "two", "namespaces": "*", "actions": "*", "max_duration": "1h", "record": true}
	three := {"id": "three", "namespaces": "*", "actions": "*", "max_duration": "1h", "message": "hello"}
	answer := porthole.decide(question({})) with data.access as rules([one, two, three])
	answer.obligations == {"max_duration": "1h", "message": "hello"}
	forever := porthole.decide(question({})) with data.access as rules([one, object.remove(two, ["max_duration"])])
	forever.obligations == {"record": true}
}

test_a_place_is_seen_by_no_profile_in_particular if {
	allows({"profiles": "netadmin"}, {"action": "list"})
	not allows({"profiles": "netadmin"}, {"action": "shell"})
	allows({}, {"action": "shell"})
	not allows({}, {"action": "shell", "profile": {"name": "netadmin"}})
}

test_a_rule_that_allows_says_where if {
	answer := porthole.decide(question({})) with data.access as rules([{"id": "it", "actions": "*"}])
	answer.allow == false
}

test_a_mistake_in_the_data_denies_everything_and_is_told if {
	good := {"id": "good", "actions": "*", "namespaces": "*"}
	every mistake in [
		{"pod-labels": {"tier": "web"}},
		{"max-duration": "1h"},
		{"record": "true"},
		{"read_only": 1},
		{"effect": "Deny"},
		{"hours": "mon-fri 8:00-18:00"},
		{"hours": "monday"},
		{"namespaces": {"demo": true}},
	] {
		answer := porthole.decide(question({})) with data.access as rules([good, object.union(good, mistake)])
		answer.allow == false
		startswith(answer.reason, "data.json has a mistake")
	}
	answer := porthole.decide(question({})) with data.access as rules([good])
	answer.allow
}

test_a_bare_pod_has_no_workload_to_deny if {
	good := {"id": "good", "actions": "*", "namespaces": "*"}
	deny := {"id": "deny", "effect": "deny", "actions": "*", "workloads": "StatefulSet/db"}
	bare := object.union(question({}), {"target": object.union(question({}).target, {"workload": null})})
	answer := porthole.decide(bare) with data.access as rules([good, deny])
	answer.allow
}
