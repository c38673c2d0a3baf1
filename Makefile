# CI calls `make test` and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A CPU build of torch from another index: make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Where the other servers of the benchmarks are installed
PEERS ?= build/peers

# How long `make fuzz` runs
FUZZ_SECONDS ?= 600

.PHONY: setup test lint types unit demo serve bench fuzz sanitize sbom audit clean
.DEFAULT_GOAL := help

help:
	@echo "make setup     install everything into $(VENV)"
	@echo "make demo      simulate a log, train, serve, ask for a prediction"
	@echo "make test      lint, types, tests, doctests"
	@echo "make serve     serve artifacts/current"
	@echo "make bench     measure this machine beside other servers (half an hour, nothing else running)"
	@echo "make fuzz      fuzz the readers of requests and the encoder for FUZZ_SECONDS"
	@echo "make sanitize  test the C extension under the address and undefined-behaviour sanitizers (gcc)"
	@echo "make sbom      list what serving installs (CycloneDX) in build/sbom.json"
	@echo "make audit     look up the pinned versions in the vulnerability database (needs the network)"
	@echo "make clean     delete everything that these commands made"

$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard models/native/*.c models/native/*/*)
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
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.redis_tier
	$(BIN)/python -m benchmarks.swaps
	$(BIN)/python -m benchmarks.overload
	$(BIN)/python -m benchmarks.page

fuzz: setup
	mkdir -p build/fuzz
	$(BIN)/python -m tests.hostile.fuzz_encoder -max_total_time=$(FUZZ_SECONDS) -verbosity=1 -artifact_prefix=build/ build/fuzz

sanitize: setup
	rm -rf build/sanitized && mkdir -p build/sanitized
	cp -r app models tests pyproject.toml build/sanitized && rm -f build/sanitized/models/*.so
	gcc -g -O1 -fwrapv -fsanitize=address,undefined -fno-sanitize-recover=undefined -shared -fPIC \
		-I$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('include'))") \
		-o build/sanitized/models/_native$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))") \
		-Imodels/native models/native/*.c models/native/*/*.c
	cd build/sanitized && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider \
		tests/app/wire tests/models/features tests/models/network tests/models/data/test_token_index.py \
		tests/models/data/test_frame_encoder.py \
		tests/models/training/test_rowwise_adagrad.py

# What the Dockerfile installs for serving; the tools that inspect it are in $(VENV).
build/serving/.installed: pyproject.toml constraints.txt $(wildcard models/native/*.c models/native/*/*)
	$(PYTHON) -m venv --clear build/serving
	build/serving/bin/pip install --quiet --constraint constraints.txt .
	touch $@

$(VENV)/.security: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[security]'
	touch $@

sbom: $(VENV)/.security build/serving/.installed
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file build/sbom.json build/serving/bin/python

# --strict: a package that could not be looked up is a failure.
audit: $(VENV)/.security build/serving/.installed
	build/serving/bin/pip freeze --exclude ctrserve > build/serving.txt
	@$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement build/serving.txt \
		|| { echo "audit: a known vulnerability above, or the database could not be reached"; exit 1; }

clean:
	rm -rf $(VENV) artifacts demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
