# All commands of the project. `make help` prints the targets with a `##` comment.

# One target folder for cargo, maturin and npm, so that nothing is built twice.
export CARGO_TARGET_DIR ?= $(CURDIR)/target

PREFIX  ?= /usr/local
LIBDIR  ?= lib
DESTDIR ?=
# The profile of `make install`: dist is a fifth smaller and takes minutes longer.
PROFILE ?= release
# Stages of `make test`; default: every stage. fmt tidy clippy no-etcd rust mutants python python-types node docs faults e2e.
STAGES  ?=
# Loops of `make soak`, named in tools/src/soak.rs; default: all.
LOOPS   ?=
# Number of random histories of each kind in `make prove`.
N       ?= 200000

TOOLS := cargo run --quiet -p tools --

.DEFAULT_GOAL := help
.PHONY: help demo demo-agent demo-layouts test soak prove faults bench build install dist docs header fmt lint setup clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## show a C, a Python and a Node process discovering each other, without a server
	@tools/setup.sh demo
	@$(TOOLS) build --no-etcd
	@examples/demo/run

demo-agent: ## the same through the agent: page, event stream and commands show the removal of a killed instance
	@tools/setup.sh demo
	@$(TOOLS) build --no-etcd
	@cargo build --quiet -p discoverd --no-default-features --features local
	@examples/demo/agent

demo-layouts: ## show one service in two layouts at once, visible to the users of both
	@tools/setup.sh demo
	@$(TOOLS) build --no-etcd
	@.venv/bin/python examples/demo/layouts.py

test: setup ## run all tests (some of them: STAGES="rust python")
	@$(TOOLS) test $(STAGES)

faults: setup ## run the fault lab: a real etcd, broken while programs in all languages watch (RUN="leader-kill rollback")
	@$(TOOLS) build
	@cargo build --quiet -p discover-faults
	@"$(CARGO_TARGET_DIR)/debug/faults" $(or $(RUN),all)

soak: setup ## run the long loops of the tests in full; `make test` runs a tenth (LOOPS="c-cycles")
	@$(TOOLS) soak $(LOOPS)

bench: setup ## run the benchmarks, each language beside the floor of the same run (RUN="latency reads")
	@tools/bench.sh $(RUN)

prove: setup ## run the model tests with N random histories, longer exhaustive searches, and a whole simulated day
	DISCOVER_PROVE=$(N) cargo test --release -p discover-core --lib -- --nocapture tests::model:: model_tests:: watch_sync::tests::
	cargo test --release -p discover-core --lib --features mutants -- --nocapture mutant

build: setup ## build the C library, the Python package and the Node package in place
	@$(TOOLS) build

install: ## install the C library (PREFIX=/usr/local LIBDIR=lib DESTDIR= PROFILE=release)
	@tools/setup.sh build
	cargo build --profile $(PROFILE) -p discover-ffi
	@$(TOOLS) install --profile $(PROFILE) --prefix "$(PREFIX)" --libdir "$(LIBDIR)" --destdir "$(DESTDIR)"

dist: setup ## build the release packages into dist/ (WHAT="wheel sdist npm deb agent")
	@tools/dist.sh $(WHAT)

docs: setup ## build the manuals of all languages into target/site
	@$(TOOLS) build
	@tools/docs.sh

header: ## regenerate include/discover.h
	@tools/setup.sh build
	UPDATE_HEADER=1 cargo test -p discover-ffi --test header

fmt: ## format the Rust sources
	cargo fmt --all

lint: setup ## check format, house rules and lints
	@$(TOOLS) test fmt tidy clippy

setup: ## install what the tests need; quiet if it is present
	@tools/setup.sh

clean: ## remove everything built or installed in this tree
	cargo clean
	rm -rf .venv dist .pytest_cache .mypy_cache bindings/node/node_modules bindings/node/dist
	find bindings \( -name '*.node' -o -name '*.so' \) -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
