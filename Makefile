# Two things that people want: `make demo` (see it) and `make test` (prove it). `make help` lists the rest.
SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: ui ## from nothing to a deployed infrastructure on this machine; DEMO_ARGS=--exit-when-done stops afterwards
	cargo run --release -q -p steelyard -- demo $(DEMO_ARGS)

.PHONY: up
up: ui ## the same without the scripted deploy; keeps its data in .steelyard/up
	cargo run --release -q -p steelyard -- up $(UP_ARGS)

.PHONY: ui
ui: ui/dist/portal/index.html ## build the web applications (Node 20 or newer)

# Only when a source is newer: the release binary embeds the result, and would be built again for minutes.
ui/dist/portal/index.html: ui/node_modules/.package-lock.json openapi.json \
		$(shell find ui -type f -not -path '*/node_modules/*' -not -path 'ui/dist*' -not -path '*/test-results/*')
	cd ui && npm run build
	@touch $@

ui/node_modules/.package-lock.json: ui/package-lock.json | need-node
	cd ui && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: need-node
need-node:
	@bash scripts/need-node.sh

.PHONY: test
test: test-prepare test-rust test-ui test-browser ## everything that proves it
	@cat target/not-tested target/postgres-not-tested 2>/dev/null || true

.PHONY: test-prepare
test-prepare:
	@mkdir -p target && rm -f target/not-tested target/postgres-not-tested
	@bash scripts/need-postgres.sh

.PHONY: test-rust
test-rust: ## format, lints, tests of all crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo test --workspace --quiet

.PHONY: test-ui
test-ui: ui ## types and unit tests of the web applications
	cd ui && npm test

.PHONY: test-browser
test-browser: ## the web applications in Chromium, against a running system
	@if bash scripts/need-chromium.sh; then cargo build --quiet --workspace && bash scripts/browser-tests.sh; \
	else echo "NOT TESTED: the web applications in a browser (no Chromium)" >>target/not-tested; fi

.PHONY: agent-image
agent-image: ## the boot image of servers, and what network cards load first, in target/boot
	@bash scripts/agent-image.sh

.PHONY: lab
lab: ## installs virtual machines under BMCs that were not made here (root, 15 min at most); LAB_ARGS=--help lists the options
	@cargo build --quiet -p steelyard
	@bash lab/run.sh $(LAB_ARGS)
