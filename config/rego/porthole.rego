# Porthole's policy in Rego: the model of config/policy.toml, for Open Policy Agent and for Porthole itself.
#
# It works as it is. Who may do what stands in data (data.json beside this file, in the words of policy.toml with `_` for
# `-`): roles are lists of rules, bindings give them to groups and subjects. A rule with a word that is none of these, or
# a value that could not be meant, denies everything until it is mended, and the reason says which. Groups -> roles -> namespaces by name and label, hours,
# destinations, profiles, commands; a rule that denies wins, and what no rule allows is denied.
#
#     opa run --server --addr 127.0.0.1:8181 config/rego     # answers POST /v1/data/porthole/decision
#     opa test config/rego
#
# In porthole.toml:
#
#     authorizers.opa = { type = "opa", server.url = "http://127.0.0.1:8181", batch-path = "/v1/data/porthole/decisions" }
#
# or, without a server, authorizers.rego = { type = "rego", files = ["/etc/porthole/rego"] }.
#
# Two things are simpler here than in policy.toml. Hours that touch (`mon-fri`, without times) end a session at
# midnight, where policy.toml lets it last to the end of the last day, and a session that is open while clocks are put
# forward or back ends an hour early or late. And no rule is named as the nearest one in a denial.
package porthole

# One question: `input` is the Query.
decision := decide(input)

# Several at once: `input.queries`.
decisions := [decide(query) | some query in input.queries]

decide(query) := answer(query, fitting(query, "deny"), fitting(query, "allow")) if count(mistakes) == 0

# A condition that is misspelt would be none, and an obligation none either.
decide(_) := {"allow": false, "reason": sprintf("data.json has a mistake: %s", [concat("; ", sort(mistakes))])} if {
	count(mistakes) > 0
}

list_words := {
	"actions", "namespaces", "pods", "workloads", "containers", "profiles", "commands", "destinations", "sources", "hours",
}

text_words := {"id", "effect", "time_zone", "access", "max_duration", "message"}

label_words := {"namespace_labels", "pod_labels"}

flag_words := {"record", "read_only"}

mistakes contains sprintf(`role "%s": there is no "%s"`, [role, key]) if {
	some role, rules in data.access.roles
	some key in object.keys(rules[_])
	not key in (((list_words | text_words) | label_words) | flag_words)
}

mistakes contains sprintf(`role "%s": "%s" is not of its kind`, [role, key]) if {
	some role, rules in data.access.roles
	some rule in rules
	some key, value in rule
	not of_its_kind(key, value)
}

mistakes contains sprintf(`role "%s": effect is allow or deny`, [role]) if {
	some role, rules in data.access.roles
	some rule in rules
	not effect(rule) in {"allow", "deny"}
}

mistakes contains sprintf(`role "%s": "%s" are no hours`, [role, line]) if {
	some role, rules in data.access.roles
	some rule in rules
	some line in listed(rule.hours)
	not regex.match(hours_form, lower(line))
}

days_form := `(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?`

hours_form := sprintf(`^(%s(,%s)*( +%s)?|%s)$`, [days_form, days_form, times_form, times_form])

times_form := `([01][0-9]|2[0-4]):[0-5][0-9]-([01][0-9]|2[0-4]):[0-5][0-9]`

of_its_kind(key, value) if {
	key in list_words
	is_string(value)
}

of_its_kind(key, value) if {
	key in list_words
	is_array(value)
}

of_its_kind(key, value) if {
	key in text_words
	is_string(value)
}

of_its_kind(key, value) if {
	key in label_words
	is_object(value)
}

of_its_kind(key, value) if {
	key in flag_words
	is_boolean(value)
}

# One that is none of these is told as such.
of_its_kind(key, _) if not key in (((list_words | text_words) | label_words) | flag_words)

# A rule that denies wins.
answer(_, denying, _) := {"allow": false, "reason": reason} if {
	count(denying) > 0
	reason := sprintf(`role "%s", rule "%s" denies`, [denying[0].role, denying[0].rule.id])
}

# Of several rules that allow, the one that lasts longest decides, then the one that asks for less, then the first.
answer(query, denying, allowing) := {"allow": true, "reason": reason, "obligations": asks} if {
	count(denying) == 0
	count(allowing) > 0
	best := max({key | some index, found in allowing; key := lightness(found.rule, query, index)})
	chosen := allowing[0 - best[3]]
	asks := obligations(chosen.rule, query)
	reason := sprintf(`role "%s", rule "%s" allows`, [chosen.role, chosen.rule.id])
}

answer(_, denying, allowing) := {"allow": false, "reason": "no rule matches"} if {
	count(denying) == 0
	count(allowing) == 0
}

# The rules of this person that fit the question, roles by name and rules in their order.
fitting(query, wanted) := [{"role": role, "rule": rule} |
	some role in sort(roles_of(query.user))
	some rule in data.access.roles[role]
	effect(rule) == wanted
	fits(rule, query)
]

roles_of(user) := {role |
	some binding in data.access.bindings
	bound(binding, user)
	some role in listed(binding.roles)
}

bound(binding, user) if {
	some pattern in listed(binding.subjects)
	matches(pattern, user.subject)
}

bound(binding, user) if {
	some pattern in listed(binding.groups)
	some group in user.groups
	matches(pattern, group)
}

effect(rule) := object.get(rule, "effect", "allow")

defaults := object.get(data.access, "defaults", {})

fits(rule, query) if {
	says_where(rule)
	fits_action(rule, query)
	fits_names(rule, "namespaces", query.target.namespace)
	fits_labels(rule, "namespace_labels", query.target.namespace_labels)
	fits_names(rule, "pods", query.target.pod)
	fits_labels(rule, "pod_labels", query.target.pod_labels)
	fits_workload(rule, query)
	fits_choice(rule, listed(object.get(rule, "containers", [])), query, query.target.container)
	fits_choice(rule, profiles(rule), query, query.profile.name)
	fits_command(rule, query)
	fits_access(rule, query)
	fits_destination(rule, query)
	fits_source(rule, query)
	fits_hours(rule, query)
}

# A rule that allows must say where; one that denies may deny everywhere.
says_where(rule) if effect(rule) == "deny"

says_where(rule) if rule.namespaces

says_where(rule) if rule.namespace_labels

fits_action(rule, query) if {
	some action in listed(rule.actions)
	action in {"*", query.action}
}

fits_names(rule, key, _) if not rule[key]

fits_names(rule, key, name) if {
	some pattern in listed(rule[key])
	matches(pattern, name)
}

fits_labels(rule, key, _) if not rule[key]

fits_labels(rule, key, labels) if {
	count(rule[key]) > 0
	every name, values in rule[key] {
		fits_label(listed(values), labels[name])
	}
}

fits_label(values, _) if "*" in values

fits_label(values, value) if value in values

fits_workload(rule, _) if not rule.workloads

fits_workload(rule, query) if {
	is_string(query.target.workload)
	some pattern in listed(rule.workloads)
	wanted := split(pattern, "/")
	given := split(query.target.workload, "/")
	count(given) == 2
	matches(wanted[0], given[0])
	matches(wanted[1], given[1])
}

# To see a place is to see it whole: `list` comes with no choice of a container or a profile. So such a condition neither
# keeps an allowed place from being seen, nor hides one by a deny.
fits_choice(_, patterns, _, _) if patterns == []

fits_choice(rule, _, query, _) if {
	query.action == "list"
	effect(rule) == "allow"
}

fits_choice(_, patterns, query, name) if {
	query.action != "list"
	some pattern in patterns
	matches(pattern, name)
}

# A rule that allows and names no profile is about the default ones.
profiles(rule) := listed(rule.profiles)

profiles(rule) := listed(object.get(defaults, "profiles", "general")) if {
	not rule.profiles
	effect(rule) == "allow"
}

profiles(rule) := [] if {
	not rule.profiles
	effect(rule) == "deny"
}

fits_access(rule, _) if not rule.access

fits_access(_, query) if not query.access

fits_access(rule, query) if rule.access == query.access

# Commands, word by word. A wildcard stands in only for what a shell takes as plain words, stays in its word, and never
# climbs by `..`; a last word `*` is any further words, at least one. Anything else must be spelled out, or be `*`.
fits_command(rule, _) if not rule.commands

fits_command(rule, query) if {
	some pattern in listed(rule.commands)
	command_matches(pattern, query.command)
}

command_matches(pattern, _) if pattern == "*"

command_matches(pattern, command) if pattern == command

command_matches(pattern, command) if {
	not and_more(pattern)
	wanted := words(pattern)
	given := words(command)
	count(wanted) == count(given)
	words_match(wanted, given)
	plain(command)
}

command_matches(pattern, command) if {
	and_more(pattern)
	wanted := words(trim_suffix(pattern, " *"))
	given := words(command)
	count(given) > count(wanted)
	words_match(wanted, given)
	plain(command)
}

and_more(pattern) if {
	endswith(pattern, " *")
	count(words(pattern)) > 1
}

words_match(wanted, given) if {
	every index, pattern in wanted {
		word_matches(pattern, given[index])
	}
}

word_matches(pattern, word) if pattern == word

word_matches(pattern, word) if {
	matches(pattern, word)
	not ".." in split(word, "/")
}

words(text) := [word | some word in split(text, " "); word != ""]

plain(command) if {
	regex.match(`^[\p{L}\p{N} \-_./:,@+=%]*$`, command)
	not contains(words(command)[0], "=")
}

# Destinations, as the client wrote them. The pod itself has many names and is one thing: what fits one of them fits it.
fits_destination(rule, _) if not rule.destinations

fits_destination(rule, query) if {
	some pattern in listed(rule.destinations)
	parts := split(pattern, ":")
	port_matches(parts[count(parts) - 1], query.destination.port)
	host := host_name(concat(":", array.slice(parts, 0, count(parts) - 1)))
	host_fits(host, query)
}

port_matches(pattern, _) if pattern == "*"

port_matches(pattern, port) if {
	pattern != "*"
	ends := split(pattern, "-")
	port >= to_number(ends[0])
	port <= to_number(ends[count(ends) - 1])
}

host_fits(pattern, query) if host_matches(pattern, host_name(query.destination.host))

host_fits(pattern, query) if {
	is_the_pod(query)
	some name in names_of_the_pod(query)
	host_matches(pattern, name)
}

host_matches(pattern, _) if pattern == "*"

host_matches(pattern, name) if {
	pattern != "*"
	not contains(pattern, "/")
	matches(pattern, name)
}

host_matches(pattern, name) if inside(pattern, name)

host_name(text) := lower(trim_suffix(trim(text, "[]"), ".")) if contains(text, ":")

host_name(text) := lower(trim_suffix(text, ".")) if not contains(text, ":")

names_of_the_pod(query) := {"localhost", "127.0.0.1", "::1"} | {ip |
	query.action == "forward"
	some ip in query.target.pod_ips
}

loopback := ["127.0.0.0/8", "::1/128", "::ffff:127.0.0.0/104"]

is_the_pod(query) if host_name(query.destination.host) == "localhost"

is_the_pod(query) if endswith(host_name(query.destination.host), ".localhost")

is_the_pod(query) if {
	some network in loopback
	inside(network, host_name(query.destination.host))
}

# A connection to one of its own addresses, or to the unspecified one, which Linux dials as itself.
is_the_pod(query) if {
	query.action == "forward"
	some network in array.concat(["0.0.0.0/32", "::/128"], [address_network(ip) | some ip in query.target.pod_ips])
	inside(network, host_name(query.destination.host))
}

fits_source(rule, _) if not rule.sources

fits_source(rule, query) if {
	some network in listed(rule.sources)
	inside(network, query.source.ip)
}

# Whether an address is in a network, or is the one that stands in its place.
inside(network, address) if {
	contains(network, "/")
	is_address(address)
	same_family(network, address)
	net.cidr_contains(network, address)
}

inside(network, address) if {
	not contains(network, "/")
	is_address(network)
	is_address(address)
	same_family(network, address)
	net.cidr_contains(address_network(network), address)
}

address_network(address) := sprintf("%s/32", [address]) if not contains(address, ":")

address_network(address) := sprintf("%s/128", [address]) if contains(address, ":")

same_family(one, other) if {
	contains(one, ":")
	contains(other, ":")
}

same_family(one, other) if {
	not contains(one, ":")
	not contains(other, ":")
}

is_address(text) if net.cidr_is_valid(address_network(text))

# Hours of the week: `mon-fri 08:00-18:00`, `sat,sun`, `22:00-06:00`. A range runs over midnight where it ends before it
# begins. Left of a question's time is how long the longest of them goes on.
day_minutes := 1440

week_minutes := 10080

day_names := ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

fits_hours(rule, _) if not rule.hours

fits_hours(rule, query) if seconds_left(rule, query) > 0

seconds_left(rule, query) := max({left |
	zone := object.get(rule, "time_zone", object.get(defaults, "time_zone", "UTC"))
	ns := time.parse_rfc3339_ns(query.time)
	clock := time.clock([ns, zone])
	today := day_index(substring(lower(time.weekday([ns, zone])), 0, 3))
	minute := ((today * day_minutes) + (clock[0] * 60)) + clock[1]
	some line in listed(rule.hours)
	some span in spans(line)
	since := ((minute - span.start) + week_minutes) % week_minutes
	since < span.length
	left := ((span.length - since) * 60) - clock[2]
})

day_index(name) := index if {
	some index, day in day_names
	day == name
}

spans(line) := [{"start": (day * day_minutes) + times.start, "length": times.length} |
	times := times_of(words(lower(line)))
	some day in days_of(words(lower(line)))
]

days_of(given) := numbers.range(0, 6) if contains(given[0], ":")

days_of(given) := {day |
	some part in split(given[0], ",")
	ends := split(part, "-")
	first := day_index(ends[0])
	last := day_index(ends[count(ends) - 1])
	some offset in numbers.range(0, ((last + 7) - first) % 7)
	day := (first + offset) % 7
} if {
	not contains(given[0], ":")
}

times_of(given) := {"start": 0, "length": day_minutes} if not contains(given[count(given) - 1], ":")

times_of(given) := {"start": start, "length": length} if {
	contains(given[count(given) - 1], ":")
	ends := split(given[count(given) - 1], "-")
	start := minutes(ends[0])
	length := ((((minutes(ends[1]) - start) + day_minutes) - 1) % day_minutes) + 1
}

# `08:30` in minutes. Numbers do not begin with a zero, so it is put behind a digit and taken off again.
minutes(text) := ((to_number(sprintf("1%s", [parts[0]])) - 100) * 60) + (to_number(sprintf("1%s", [parts[1]])) - 100) if {
	parts := split(text, ":")
}

# What a yes asks for: the rule's longest session, and the end of its hours.
obligations(rule, query) := object.union_n([
	{"max_duration": length | length := longest(rule)},
	{"until": time.format(until_ns(rule, query)) | rule.hours},
	{key: rule[key] | some key in ["record", "read_only"]; rule[key] == true},
	{"message": rule.message | rule.message},
])

longest(rule) := rule.max_duration

longest(rule) := defaults.max_duration if not rule.max_duration

# To the second: what is left, from the question's full second on.
until_ns(rule, query) := (floor(time.parse_rfc3339_ns(query.time) / second_ns) + seconds_left(rule, query)) * second_ns

second_ns := 1000000000

# Greater is better for the person; the last part tells equal ones apart by their order.
lightness(rule, query, index) := [lasts(rule, query), not_asked(rule, "record"), not_asked(rule, "read_only"), 0 - index]

lasts(rule, query) := min(ends(rule, query)) if count(ends(rule, query)) > 0

# No limit is longer than any.
lasts(rule, query) := 1000000000000 if count(ends(rule, query)) == 0

ends(rule, query) := {seconds | seconds := floor(time.parse_duration_ns(longest(rule)) / second_ns)} | {seconds |
	rule.hours
	seconds := seconds_left(rule, query)
}

not_asked(rule, key) := 0 if rule[key]

not_asked(rule, key) := 1 if not rule[key]

# One text stands for a list of one.
listed(value) := [value] if is_string(value)

listed(value) := value if is_array(value)

matches(pattern, text) if glob.match(pattern, null, text)
