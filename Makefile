# The targets that people use. Each installs what it needs (into a cache outside the checkout), or
# says what is missing. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-rust soak bench lint generate docs images cluster-up cluster-down demo

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: ## Main job: build the aligner and run the bundled example on this machine (results in dist/run)
	cargo build --release --locked -p aligner
	$${CARGO_TARGET_DIR:-target}/release/aligner demo

test: ## Everything that CI runs: style, unit, control plane, interoperability, chart, real pods
	dev/test.sh

test-rust: ## Tests of the Rust code alone, with a temporary Kubernetes control plane
	dev/with-control-plane.sh cargo test --workspace --locked

SUITE ?= operator
soak: ## Faults and load in full, with figures; SUITE=operator (the default, about an hour), faults, load, gateway, data or delivery
	SUITE=$(SUITE) dev/soak.sh

bench: ## Accuracy, time and memory, beside ANTs and greedy; writes docs/benchmarks.md (about an hour)
	dev/bench.sh

lint: ## Formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

generate: ## Rewrite the generated files: crds/, the chart's copy and README, docs/reference, golden files
	UPDATE_GOLDEN=1 cargo test --locked -p operator --test generated_files --test build_golden --test reference
	UPDATE_GOLDEN=1 cargo test --locked -p aligner --test reference
	dev/generate-chart.sh

docs: ## Build the documentation as a site into dist/site
	dev/build-docs.sh

images: ## Build the two container images into dist/ (needs root)
	dev/build-images.sh

cluster-up: ## Start the test cluster: a real single node (needs root)
	dev/cluster-up.sh

cluster-down: ## Stop the test cluster and remove every trace of it
	dev/cluster-down.sh

demo: ## Main job on the test cluster: images, chart, request, result (needs root)
	dev/demo.sh
