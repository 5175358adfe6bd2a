# Every target sets up what it needs and is fast when nothing changed. Needed on the machine: Python 3.11+, a C compiler,
# stable Rust; `.ci/needs` says plainly which of them is missing.

SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
# One interpreter for every build of the binding, so that cargo and maturin share what they compiled.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
RUST := $(shell find rust -name '*.rs' -not -path 'rust/fuzz/*' 2>/dev/null) $(wildcard rust/*/Cargo.toml) Cargo.toml Cargo.lock

# Seconds for each fuzz target; arguments for `mdg demo`; more for pytest, as in `make test PYTEST="-k seal"`.
FUZZ_SECONDS ?= 20
DEMO ?=
PYTEST ?=

.PHONY: help build demo quick test slow test-all lint bench fuzz wheel clean

help:
	@echo "make demo      two gateways exchange one study, in about a minute"
	@echo "make quick     style and the tests that start no server, in less than a minute"
	@echo "make test      unit tests, journeys and stubs; test-all adds wheels and outside judges"
	@echo "make build     leaves $(BIN)/mdg"
	@echo "make lint      format, lints, types, licences, advisories"
	@echo "make bench     measurements; fuzz: parsers on random bytes; wheel: dist/*.whl"

# --- set-up ---

$(VENV)/.needs: .ci/needs
	@PYTHON=$(PYTHON) .ci/needs
	@$(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/.locked: $(VENV)/.needs requirements.lock
	@echo "set-up, 1 of 2: $$(grep -c '==' requirements.lock) Python packages into $(VENV) (half a minute the first time)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock | sed -un 's/^Collecting \([^ ]*\).*/  \1/p'
	@touch $@

# maturin prints each crate as it compiles it: a first build takes minutes, and a silent one looks stuck.
$(VENV)/.built: $(VENV)/.locked $(RUST) pyproject.toml
	@echo "set-up, 2 of 2: the Rust core (three minutes the first time, on two cores)"
	@$(BIN)/maturin develop --release --locked
	@touch $@

build: $(VENV)/.built

.tools/bin/cargo-deny: .ci/cargo-deny.version
	cargo install cargo-deny --version "$$(cat $<)" --locked --root .tools
	@touch $@

# --- what CI runs ---

demo: build
	$(BIN)/mdg demo $(DEMO)

# The binding has no Rust tests: Python tests call it.
test: build
	cargo test --release --locked --quiet --workspace --exclude mdg-py
	$(BIN)/python -m mypy.stubtest mdg._core
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile -p no:benchmark $(PYTEST)

# For the minute between two edits. `make test` is what counts.
QUICK := $(addprefix tests/,access audit core dicom envelope fhir identity keys store test_floors.py docs/test_reference.py) --ignore=tests/envelope/test_flips.py
quick: build
	$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	$(BIN)/python -m pytest $(QUICK) -m "not slow" -k "not postgresql" -n 2 --dist loadfile -p no:benchmark -q -r fE $(PYTEST)

test-all: test slow

slow: build wheel
	$(BIN)/python -m pytest -m slow -p no:benchmark $(PYTEST)

lint: $(VENV)/.locked .tools/bin/cargo-deny
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=python:. $(BIN)/mypy --explicit-package-bases tests $(if $(wildcard benches/*.py benches/*/*.py),benches)
	cargo fmt --all --check
	cargo fmt --manifest-path rust/fuzz/Cargo.toml --check
	cargo clippy --release --locked --quiet --workspace --all-targets -- -D warnings
	.tools/bin/cargo-deny --log-level error --locked check bans licenses sources
	$(BIN)/python .ci/advisories

# --- on demand ---

bench: build
	$(BIN)/python -m pytest benches --benchmark-columns=min,median,rounds --benchmark-sort=name -p no:xdist $(PYTEST)
	cargo bench --locked --workspace --exclude mdg-py

fuzz: $(VENV)/.locked
	FUZZ_SECONDS=$(FUZZ_SECONDS) rust/fuzz/run

# The wheel runs with glibc 2.17 and later (manylinux2014): zig links against the old one. `make wheel NATIVE=1` needs no zig
# and makes a wheel for this machine's glibc and later.
NATIVE ?=
$(VENV)/.zig: $(VENV)/.locked .ci/zig.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .ci/zig.lock
	@touch $@

wheel: $(VENV)/.locked $(if $(NATIVE),,$(VENV)/.zig)
	rm -rf dist && mkdir dist
	$(BIN)/maturin build --release --locked --quiet --out dist $(if $(NATIVE),,--zig --compatibility manylinux_2_17)
	@ls dist/*.whl

clean:
	rm -rf $(VENV) target rust/fuzz/target dist demo
