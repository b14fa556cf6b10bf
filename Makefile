# The index of every command. `make help` prints the lines with two hashes.

# One target folder for cargo, maturin and npm: nothing is built twice.
export CARGO_TARGET_DIR ?= $(CURDIR)/target

PREFIX  ?= /usr/local
DESTDIR ?=
# Which stages `make test` runs: fmt tidy clippy no-etcd rust planted python python-types node all.
STAGES  ?=
# How many random histories of each kind `make prove` tries.
N       ?= 200000

TOOLS := cargo run --quiet -p tools --

.DEFAULT_GOAL := help
.PHONY: help demo test prove build install header fmt lint setup clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## watch a C, a Python and a Node process find each other, without a server
	@tools/setup.sh demo
	@$(TOOLS) build --no-etcd
	@examples/demo/run

test: setup ## run every test (some of them: STAGES="rust python")
	@$(TOOLS) test $(STAGES)

prove: setup ## prove the machines on N random histories, every order of more events, a whole day
	DISCOVER_PROVE=$(N) cargo test -p discover-core --lib -- --nocapture proof:: follow::tests::
	cargo test -p discover-core --lib --features planted -- --nocapture planted_mistake

build: setup ## build the C library, the Python package and the Node package in place
	@$(TOOLS) build

install: ## install the C library (PREFIX=/usr/local DESTDIR=)
	@tools/setup.sh build
	cargo build --release -p discover-ffi
	@$(TOOLS) install --prefix "$(PREFIX)" --destdir "$(DESTDIR)"

header: ## write include/discover.h anew
	@tools/setup.sh build
	UPDATE_HEADER=1 cargo test -p discover-ffi --test header

fmt: ## format the Rust sources
	cargo fmt --all

lint: setup ## check format, house rules and lints, without running a test
	@$(TOOLS) test fmt tidy clippy

setup: ## install what the tests need; quiet when it is there
	@tools/setup.sh

clean: ## remove everything that was built or installed in this tree
	cargo clean
	rm -rf .venv .pytest_cache .mypy_cache bindings/node/node_modules bindings/node/dist
	find bindings \( -name '*.node' -o -name '*.so' \) -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
