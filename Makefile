# Everything is set up, tested and shown from here: `make` lists the targets.
#
# What a fresh machine needs: make, Python 3.11 or 3.12, a Rust toolchain and a C linker; for all the tests also Node, which
# runs Azurite, the stand-in for Azure storage, PostgreSQL, Go, which checks the ledger, Java and Maven, for Spark, which
# reads the lake, and valgrind, which counts instructions. All else goes into .venv, from the locks in requirements/.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(abspath $(VENV))/bin
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
STAMPS := $(VENV)/.stamps
EXTENSION_SOURCES := $(shell find core_rs -name '*.rs' -not -path '*/fuzz/*' -not -path '*/tests/*' -not -path '*/examples/*') \
	Cargo.toml Cargo.lock core_rs/Cargo.toml core_rs/py/Cargo.toml pyproject.toml
SECONDS ?= 60
KILLS ?= 1000
RESUME ?=
PYTEST_FLAGS ?=
# Half of the suite's time is spent waiting for other processes, so two at a time suit two cores.
WORKERS ?= 2

# PyO3 is built again whenever one of its variables changes, so cargo gets here what maturin gives it.
export PYO3_PYTHON := $(BIN)/python
export VIRTUAL_ENV := $(abspath $(VENV))
export CARGO_TARGET_DIR := $(TARGET)
CARGO := PYO3_BUILD_EXTENSION_MODULE=1 PYO3_CONFIG_FILE=$$(ls -t $(TARGET)/maturin/pyo3-config-*.txt | head -n 1) \
	PYO3_ENVIRONMENT_SIGNATURE=$$($(BIN)/python -c 'import sys; print("cpython-%d.%d-64bit" % sys.version_info[:2])') cargo

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

.PHONY: demo
demo: $(STAMPS)/release ## Run stand-in hub, simulated plant, flow, lake, ledger and API here, for SECONDS=60
	@$(BIN)/alumicatalyst demo --seconds $(SECONDS)

.PHONY: test
test: $(STAMPS)/ci $(STAMPS)/parts $(STAMPS)/spark ## Run everything that CI runs, cheap gates first
	@echo "=== cargo fmt" && cargo fmt --all --check
	@echo "=== ruff" && $(BIN)/ruff check && $(BIN)/ruff format --check
	@echo "=== clippy" && $(CARGO) clippy --locked --workspace --all-targets --profile ci --quiet -- -D warnings
	@echo "=== mypy" && $(BIN)/mypy
	@echo "=== stubtest" && MYPYPATH=python $(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml alumicatalyst._core
	@echo "=== cargo test" && $(CARGO) test --locked --workspace --profile ci --quiet
	@echo "=== instruction counts" && $(BIN)/python -m bench.counts --check
	@echo "=== pytest" && $(BIN)/python -m pytest -W error --durations=25 -n $(WORKERS) --dist worksteal $(PYTEST_FLAGS)

.PHONY: bench
bench: $(STAMPS)/release ## Measure every layer beside its peers, each result checked before it is timed
	@mkdir -p var/bench
	@$(BIN)/python -m pytest -W error bench --results var/bench/results.json $(PYTEST_FLAGS)

.PHONY: bench-report
bench-report: $(STAMPS)/release ## Measure every layer, and write one page of it with plots: var/bench/report.html
	@$(BIN)/python -m bench.report

.PHONY: bench-counts
bench-counts: $(STAMPS)/python ## Count the instructions of the core's kernels, and compare them with the committed ones
	@$(BIN)/python -m bench.counts --check

.PHONY: soak
soak: $(STAMPS)/release ## Run flow and ledger at a steady high rate for ten minutes: is memory flat?
	@$(BIN)/python -m bench.soak --minutes 10

.PHONY: chaos
chaos: $(STAMPS)/release $(STAMPS)/parts ## Kill the flow KILLS=1000 times on both stores: is anything lost or doubled? (RESUME=1 goes on)
	@$(BIN)/python -m bench.chaos --kills $(KILLS) $(if $(RESUME),--resume)

.PHONY: latency
latency: $(STAMPS)/release ## Measure from the broker's clock to an alarm on the live stream, all parts running
	@$(BIN)/python -m bench.latency

.PHONY: setup
setup: $(STAMPS)/ci $(STAMPS)/parts $(STAMPS)/spark ## Install everything and build the extension for tests

.PHONY: fmt
fmt: $(STAMPS)/python ## Format the code, and mend what the linters can mend
	cargo fmt --all
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(STAMPS)/ci ## Make the tables of README.md from the code
	@$(BIN)/python -m tests.readme

.PHONY: lock upgrade
lock: $(STAMPS)/venv ## Write the Python locks anew after a change in pyproject.toml, and keep every other pin
upgrade: UPGRADE := --upgrade
upgrade: $(STAMPS)/venv ## Raise the Python locks to the newest releases within the ranges of pyproject.toml
lock upgrade:
	@compile() { $(BIN)/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --fork-strategy fewest \
		--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' "$$@"; }; \
	compile requirements/bootstrap.in -o requirements/bootstrap.lock; \
	compile pyproject.toml --extra azure --extra api --extra capture -o requirements/runtime.lock; \
	compile pyproject.toml --extra azure --extra api --extra capture --extra plot --extra dev -o requirements/dev.lock; \
	compile requirements/spark.in -o requirements/spark.lock

.PHONY: clean
clean: ## Remove everything that was built or installed, and what the demo stored
	rm -rf $(VENV) target var tests/parts/node_modules tests/parts/spark/jars .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find python flows api tests bench -name '__pycache__' -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f python/alumicatalyst/_core*.so

# --- what the targets above stand on -------------------------------------------------------------------------------------

# The interpreter and the tools: each that is missing is named with how to get it.
$(STAMPS)/venv: requirements/bootstrap.lock
	@missing() { echo "couldn't set up: $$1 is missing; $$2" >&2; exit 1; }; \
	python=; \
	for candidate in python3 python3.12 python3.11 python; do \
		if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
			python=$$candidate; break; \
		fi; \
	done; \
	[ -n "$$python" ] || missing "Python 3.11 or 3.12" \
		"install it with the system's packages (python3.12) or with pyenv, and have it on the PATH"; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || missing "Python's venv module" \
		"install the system's package for it (Debian and Ubuntu: apt-get install python3-venv)"; \
	command -v cargo >/dev/null || missing "cargo" \
		"install the Rust toolchain with rustup, then open a new shell"; \
	{ cargo fmt --version && cargo clippy --version; } >/dev/null 2>&1 || missing "rustfmt or clippy" \
		"run: rustup component add rustfmt clippy"; \
	command -v cc >/dev/null || missing "a C linker (cc)" \
		"install one with the system's packages (Debian and Ubuntu: apt-get install gcc libc6-dev)"; \
	if [ -x $(BIN)/python ] && ! $(BIN)/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))'; then \
		missing "Python 3.11 or 3.12 in $(VENV)" "it holds another one; run: make clean"; \
	fi; \
	echo "=== $(VENV) with $$("$$python" --version)"; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/python: requirements/dev.lock $(STAMPS)/venv
	@echo "=== Python packages"
	@$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.lock
	@touch $@

# The extension has one place, so building it for tests outdates the one for the demo, and the other way round. Cargo
# keeps both in target/, which makes a change of profile a copy.
$(STAMPS)/ci: $(EXTENSION_SOURCES) $(STAMPS)/python
	@echo "=== extension, for tests"
	@$(BIN)/maturin develop --uv --profile ci
	@rm -f $(STAMPS)/release && touch $@

$(STAMPS)/release: $(EXTENSION_SOURCES) $(STAMPS)/python
	@echo "=== extension, at full speed (the first time takes minutes)"
	@$(BIN)/maturin develop --uv --profile release
	@rm -f $(STAMPS)/ci && touch $@

# Without Node, Go, PostgreSQL or valgrind what needs them says so and is skipped; in CI tests fail instead. With the right
# to, PostgreSQL and valgrind are installed; PostgreSQL's own service is not needed.
$(STAMPS)/parts: $(wildcard tests/parts/package-lock.json tests/go/tlogcheck/go.sum) $(STAMPS)/venv
	@lacking=; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || lacking=postgresql; \
	command -v valgrind >/dev/null || lacking="$$lacking valgrind"; \
	if [ -z "$$lacking" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "=== system packages: $$lacking" && apt-get update --quiet --quiet && \
		DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends $$lacking; \
	else \
		echo "=== not installed: $$lacking; what needs them will be skipped, install them to run it" >&2; \
	fi
	@if [ ! -f tests/parts/package-lock.json ]; then :; \
	elif command -v npm >/dev/null; then \
		echo "=== Node packages" && npm ci --prefix tests/parts --no-audit --no-fund --loglevel=error; \
	else \
		echo "=== no Node: the tests against Azurite will be skipped; install Node 20 or later to run them" >&2; \
	fi
	@if command -v go >/dev/null; then \
		echo "=== Go modules" && cd tests/go/tlogcheck && export GOTOOLCHAIN=local GOFLAGS=-mod=readonly && \
		{ go mod download && go build -o /dev/null .; } || \
		echo "=== the verifier in Go was not built: its tests will be skipped; it needs Go 1.26 or later" >&2; \
	else \
		echo "=== no Go: the tests with a verifier in Go will be skipped; install Go 1.26 or later to run them" >&2; \
	fi
	@touch $@

# Apache Spark reads the lake in the tests; half a gigabyte, so it has an environment of its own.
$(STAMPS)/spark: requirements/spark.lock tests/parts/spark/pom.xml $(STAMPS)/venv
	@lacking=; \
	command -v java >/dev/null || lacking=openjdk-17-jre-headless; \
	command -v mvn >/dev/null || lacking="$$lacking maven"; \
	if [ -n "$$lacking" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "=== system packages: $$lacking" && apt-get update --quiet --quiet && \
		DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends $$lacking; \
	fi
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
		echo "=== Apache Spark, for tests" && \
		{ [ -x $(VENV)/spark/bin/python ] || $(BIN)/uv venv --quiet --python $(BIN)/python $(VENV)/spark; } && \
		VIRTUAL_ENV=$(abspath $(VENV))/spark $(BIN)/uv pip install --quiet --require-hashes -r requirements/spark.lock && \
		mvn -q -B -f tests/parts/spark/pom.xml dependency:copy-dependencies; \
	else \
		echo "=== no Java or Maven: the test with Spark will be skipped; install Java 17 and Maven to run it" >&2; \
	fi
	@touch $@
