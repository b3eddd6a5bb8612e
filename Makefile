# `make help` lists the targets. CI runs the same ones.

SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help run test needs lint fuzz e2e-login e2e-step-ca e2e-openpubkey e2e-authorize e2e cluster-up cluster-down bench bench-authorize clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build, and start the playground: an emulated cluster with Porthole before it
	$(CARGO) build --locked
	target/debug/porthole playground

test: needs ## All tests, on the emulated cluster
	$(CARGO) test --locked

needs:
	@tests/needs

lint: ## Formatting, clippy without warnings, licences and duplicates of dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; \
	else echo "SKIPPED: cargo-deny is not installed (cargo install cargo-deny)"; fi

fuzz: ## Each fuzz target for a minute; needs a nightly toolchain and cargo-fuzz
	cd fuzz && for target in $$($(CARGO) +nightly fuzz list); do \
	  mkdir -p corpus/$$target && seeds=$$(ls -d seeds/$$target 2>/dev/null); \
	  $(CARGO) +nightly fuzz run --dev --sanitizer none $$target corpus/$$target $$seeds -- -max_total_time=60 || exit 1; done

export PORTHOLE_CLUSTER_STATE ?= $(CURDIR)/target/cluster

cluster-up: ## Build and start a real Kubernetes of one node, below target/cluster; needs root and Go
	tests/cluster/up

cluster-down: ## Stop it, and leave nothing of it running
	tests/cluster/down

e2e: needs cluster-up ## The tests again, on the real Kubernetes, with the rights of deploy/ and no more
	tests/cluster/renew && tests/cluster/up
	export PORTHOLE_TEST_KUBECONFIG=$(PORTHOLE_CLUSTER_STATE)/porthole.kubeconfig; \
	$(CARGO) test --locked --test it -- --test-threads=2 --skip faults:: --skip deployed:: --skip playground:: && \
	$(CARGO) test --locked --test it -- --test-threads=1 faults:: deployed::

DEX := $(CURDIR)/target/dex/dex

e2e-login: ## The device login with a real Dex, built from its Go module; needs Go, a C compiler and curl
	cd tests/dex && CGO_ENABLED=1 go build -trimpath -o $(DEX) github.com/dexidp/dex/cmd/dex
	PORTHOLE_TEST_DEX=$(DEX) $(CARGO) test --locked --test it dex::

STEP_CA := $(CURDIR)/target/step-ca

e2e-step-ca: ## Log in with a certificate of step-ca's, which it builds; needs Go, openssl and curl
	cd tests/step-ca && CGO_ENABLED=0 go build -o $(STEP_CA) github.com/smallstep/certificates/cmd/step-ca
	PORTHOLE_TEST_STEP_CA=$(STEP_CA) $(CARGO) test --locked --test it step_ca::

OPENPUBKEY := $(CURDIR)/target/openpubkey

e2e-openpubkey: ## Log in with a PK token of OpenPubkey's own client, which it builds, as opkssh has one; needs Go and curl
	cd tests/openpubkey && CGO_ENABLED=0 go build -trimpath -o $(OPENPUBKEY) .
	PORTHOLE_TEST_OPENPUBKEY=$(OPENPUBKEY) $(CARGO) test --locked --test it openpubkey::

AUTHORIZE := PORTHOLE_TEST_OPA=$(CURDIR)/target/opa PORTHOLE_TEST_OATHKEEPER=$(CURDIR)/target/oathkeeper

e2e-authorize: authorizers ## The authorizers, with a real Open Policy Agent and Ory Oathkeeper; needs Go and curl
	target/opa test config/rego
	$(AUTHORIZE) $(CARGO) test --locked --test it authorize::

.PHONY: authorizers
authorizers:
	cd tests/opa && CGO_ENABLED=0 go build -trimpath -o $(CURDIR)/target/opa github.com/open-policy-agent/opa
	cd tests/oathkeeper && CGO_ENABLED=0 go build -trimpath -o $(CURDIR)/target/oathkeeper github.com/ory/oathkeeper

bench-authorize: authorizers ## Decisions per second of the authorizers; the table goes to target/bench
	$(AUTHORIZE) $(CARGO) bench --locked --bench authorize

bench: cluster-up ## Porthole beside kubectl, and the gateways beside plain TCP, on the real Kubernetes; the tables go to target/bench
	PORTHOLE_TEST_KUBECONFIG=$(PORTHOLE_CLUSTER_STATE)/porthole.kubeconfig \
	  $(CARGO) bench --locked --bench compare --bench gateway

clean: ## Remove what was built, and the playground's state
	$(CARGO) clean
