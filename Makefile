# The same few commands everywhere; CI calls `make test` and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Elsewhere than where pip finds a CPU build by itself: make setup PIP_ARGS="--extra-index-url <index of CPU builds>"
PIP_ARGS ?=
# Where the peers of the benchmarks are installed
PEERS ?= build/peers

.PHONY: setup test lint types unit demo serve bench clean
.DEFAULT_GOAL := help

help:
	@echo "make setup   install everything into $(VENV)"
	@echo "make demo    simulate a log, train, serve, ask for a prediction"
	@echo "make test    lint, types, tests, doctests"
	@echo "make serve   serve artifacts/current"
	@echo "make bench   measure this machine beside the peers (half an hour, nothing else running)"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_ARGS) torch
	$(BIN)/pip install --quiet --constraint constraints.txt $(PIP_ARGS) --editable '.[dev]'
	touch $@

setup: $(VENV)/.installed

test: lint types unit

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup
	$(BIN)/pytest

demo: setup
	$(BIN)/python -m app.demo

serve: setup
	$(BIN)/python -m app

bench: setup
	-$(BIN)/python -m benchmarks.install_peers --peers $(PEERS) --pip-args="$(PIP_ARGS)"
	$(BIN)/python -m benchmarks.serving --peers $(PEERS)
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.redis_tier
	$(BIN)/python -m benchmarks.page

clean:
	rm -rf $(VENV) artifacts demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
