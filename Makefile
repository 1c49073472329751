# Two things that people want: `make run` (see it) and `make test` (prove it). `make help` lists the rest.
SHELL := /usr/bin/env bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: run
run: ui ## build everything and run a Global Controller on http://127.0.0.1:8080
	cargo run --release -p steelyard -- global

.PHONY: ui
ui: ## build the web applications (Node 20 or newer)
	cd ui && npm ci --no-audit --no-fund && npm run build

.PHONY: test
test: test-prepare test-rust test-ui ## everything that proves it
	@cat target/postgres-not-tested 2>/dev/null || true

.PHONY: test-prepare
test-prepare:
	@rm -f target/postgres-not-tested
	@bash scripts/need-postgres.sh

.PHONY: test-rust
test-rust: ## format, lints, tests of all crates
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo test --workspace --quiet

.PHONY: test-ui
test-ui: ## types and unit tests of the web applications
	cd ui && npm ci --no-audit --no-fund && npm run build && npm test
