# `make up` starts a cluster on this machine, `make test` runs every test. `make help` lists the rest.

CARGO ?= cargo
DATA_DIR ?= /var/lib/keelson
# How long each target is fuzzed.
FUZZ_SECONDS ?= 600
KEELSON = target/release/keelson
KUBECTL = .keelson/kubectl/bin/kubectl

.PHONY: help up down reset test check unit machine bench cluster exchange mutate stretch documents clients fuzz

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

up: ## install what is missing, build, start a cluster, wait until a pod can run
	@e2e/setup/install run
	$(CARGO) build --release --locked --bin keelson
	$(KEELSON) up --data-dir $(DATA_DIR) --kubectl $(KUBECTL)

down: ## stop the cluster; its data stays, and so do running containers until the next start
	$(KEELSON) down --data-dir $(DATA_DIR)

reset: ## stop the cluster and delete everything it kept
	$(KEELSON) reset --data-dir $(DATA_DIR)

test: check unit machine ## every test: style, units, the whole apiserver in process, a real cluster

check:
	@e2e/setup/install test
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings

unit:
	@e2e/setup/install test
	$(CARGO) test --workspace --locked

bench: ## measure the API server; with STOCK=folder of kube-apiserver and etcd, those too
	@e2e/setup/install test
	$(CARGO) build --release --locked -p keelson -p keelson-e2e --bin keelson --example bench
	e2e/bench/run target/release/keelson target/release/examples/bench $(STOCK)

cluster: ## measure a whole cluster of one node: memory, and how soon pods are Ready
	@e2e/setup/install test
	$(CARGO) build --release --locked -p keelson -p keelson-e2e --bin keelson --example readiness
	e2e/bench/cluster target/release/keelson target/release/examples/readiness $(KUBECTL)

exchange: ## let a stock API server and ours take over one another's etcd; STOCK=folder of kube-apiserver
	@e2e/setup/install test
	$(CARGO) build --locked --bin keelson
	e2e/etcd/exchange target/debug/keelson $(KUBECTL) $(STOCK)

mutate: ## tell what we answer otherwise than a stock API server to mutated requests; STOCK=folder, FILES=some cases
	@e2e/setup/install test
	$(CARGO) build --locked -p keelson -p keelson-e2e --bin keelson --example mutate
	e2e/replay/mutate target/debug/keelson target/debug/examples/mutate $(STOCK) $(FILES)

stretch: ## tell which requests cost more than their size, when their lists are made long; FILES=some cases
	@e2e/setup/install test
	$(CARGO) build --release --locked -p keelson -p keelson-e2e --bin keelson --example stretch
	e2e/replay/stretch target/release/keelson target/release/examples/stretch $(FILES)

documents: ## compare OpenAPI and discovery with those of a stock API server; STOCK=folder
	@e2e/setup/install test
	$(CARGO) build --locked --bin keelson
	e2e/replay/documents target/debug/keelson $(STOCK)

clients: ## run stock client libraries, Helm and kubectl's own tests; needs Go, Node.js and, for Helm, root
	@e2e/setup/install test
	$(CARGO) build --locked --bin keelson
	e2e/clients/run target/debug/keelson $(KUBECTL)

fuzz: ## fuzz what reads requests, FUZZ_SECONDS a target; needs nightly Rust and cargo-fuzz
	@for target in body patch text cel; do \
		mkdir -p .keelson/fuzz/$$target && \
		$(CARGO) +nightly fuzz run --fuzz-dir e2e/fuzz --target-dir target/fuzz --sanitizer none $$target \
			.keelson/fuzz/$$target e2e/fuzz/seeds/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=16384 || exit 1; \
	done

machine:
	@e2e/setup/install test
	$(CARGO) build --locked --bin keelson
	e2e/machine/run target/debug/keelson $(KUBECTL)
