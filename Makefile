# make demo   run the main job: capture -> flows -> server -> `observe --verdict DROPPED`
# make test   every test; those of eBPF where this is root and clang is there (EBPF=yes insists on them)
# make lint   format, lint, types
# make bench  figures beside budgets  make proto  regenerate observer/api from proto/
# make bpf    compile bpf/ into the objects that are committed (needs clang, llvm, libbpf-dev)
# Each target makes its own virtual environment and installs what it needs with pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench bpf proto fixtures clean

# One stamp per set of dependencies; pyproject.toml is their only source.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/flowscope demo

# They load programs into this kernel, in network namespaces of their own; .ci/run lists what they need.
EBPF ?= $(shell test `id -u` = 0 && which clang llvm-strip ip tc nft tshark tcpdump >/dev/null && echo yes)

test: $(VENV)/.installed-test $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(if $(EBPF),,@echo "without the eBPF tests: they need root and what .ci/run installs")
	$(BIN)/pytest -n auto $(if $(EBPF),,-m "not ebpf")

lint: $(VENV)/.installed-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m tests.bench

bpf:
	$(PYTHON) -m bpf.build

proto: $(VENV)/.installed-dev
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. proto/observer/api/*.proto

# Needs root, and nginx, curl, tcpdump, dnsmasq, tshark from Debian; see fixtures/pcaps/README.md.
fixtures: $(VENV)/.installed-record
	$(BIN)/python -m fixtures.record

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
