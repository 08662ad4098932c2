# `make run` on a fresh machine with Python 3.11+ and make. `make PYTHON=/path/to/python` chooses another Python.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY_TO_TEST := $(VENV)/.ready-to-test
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Resolve for every platform from the oldest Python we support; nothing in the result says where packages came from.
LOCK := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links

ENOUGH := import sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(ENOUGH)' 2>/dev/null && echo "$$python" && break; done)

.DEFAULT_GOAL := help
.PHONY: help install run demo test faults check audit lock

help:
	@echo 'make run      start the broker: HL7 on 2575, DICOM on 11112, health on 8080'
	@echo 'make demo     play a whole round trip against a throw-away broker'
	@echo 'make test     install what tests need and run them all'
	@echo 'make faults   everything that may happen to a broker and its RIS, in a quarter of an hour'
	@echo 'make check    format, lint, types, import contracts, mappings; every test can be collected'
	@echo 'make audit    ask for known vulnerabilities of the locked dependencies (needs the network)'
	@echo 'make install  build $(VENV) from requirements.lock'
	@echo 'make lock     resolve the dependencies of pyproject.toml anew'

install: $(INSTALLED)

run: $(INSTALLED)
	@exec $(BIN)/broker run $(ARGS)

demo: $(INSTALLED)
	@exec $(BIN)/broker demo $(ARGS)

test: $(READY_TO_TEST)
	@sh tests/peers.sh
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal $(ARGS)

faults: $(READY_TO_TEST)
	@sh tests/peers.sh
	BROKER_FAULTS=100 $(BIN)/python -m pytest --capture=no -p no:randomly tests/doors/test_faults.py $(ARGS)

check: $(READY_TO_TEST)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/broker map check mappings
	@said=$$($(BIN)/python -m pytest --collect-only -qq 2>&1) || { echo "$$said" | grep -v '^tests/.*: [0-9]*$$'; exit 1; }

audit: $(READY_TO_TEST)
	@sh tests/dependencies.sh $(BIN)/pip-audit requirements.lock $(ARGS)

lock: $(READY_TO_TEST)
	$(LOCK) --upgrade --extra embedded --extra build --output-file requirements.lock
	$(LOCK) --upgrade --extra embedded --extra build --extra dev --constraint requirements.lock \
		--output-file tests/requirements.lock

$(INSTALLED): requirements.lock pyproject.toml
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or newer found. Install one, with its venv module,' \
		'or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(READY_TO_TEST): $(INSTALLED) tests/requirements.lock
	$(PIP) install --require-hashes --requirement tests/requirements.lock
	@touch $@
