# Each target does its own set-up, and does it once: the stamp is newer than what it was made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test pythons browser faults fuzz bench lint clean

demo: $(STAMP)
	@$(BIN)/python -m fixtures.demo

test: lint pythons browser
	$(BIN)/pytest -n auto

# Makes an environment for each other Python of 3.11 to 3.14 that is found, for the tests that depend on it.
pythons: $(VENV)/pythons/.made

$(VENV)/pythons/.made: $(STAMP) tests/pythons.py
	@$(BIN)/python -m tests.pythons $(VENV)/pythons
	@mkdir -p $(@D) && touch $@

# Installs the browser that some tests need, where that is allowed; else they are skipped, and say so.
browser: $(VENV)/.browser

$(VENV)/.browser: $(STAMP)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		{ timeout 120 apt-get update -q && DEBIAN_FRONTEND=noninteractive timeout 400 apt-get install -y -q --no-install-recommends chromium; } \
		>/dev/null 2>&1; } || echo "there is no chromium: tests in a browser are skipped"
	@touch $@

# Breaks eventlog on purpose, for about 20 minutes at most, and writes docs/reliability.md.
# Exit code 3 of the campaign: not all was tried; go on with `.venv/bin/python -m faults --resume --write`.
faults: $(STAMP)
	$(BIN)/python -m faults --write

# Measures eventlog beside what one would take instead, and writes bench/results.json and docs/.
bench: $(STAMP)
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python -m bench --write

# Looks for lines that the decoder and the importers stumble over, for a minute.
fuzz: $(STAMP)
	@PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[fuzz]'
	$(BIN)/python -c 'from pathlib import Path; from random import Random; \
		from faults.hostile_bytes import hostile_lines; folder = Path("$(VENV)/corpus"); folder.mkdir(exist_ok=True); \
		[(folder / f"seed{n}").write_bytes(line) for n, line in enumerate(hostile_lines(Random(1))) if len(line) < 4000]'
	$(BIN)/python -m faults.fuzz -max_total_time=60 -max_len=4096 -rss_limit_mb=4096 $(VENV)/corpus

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "eventlog needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV), once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip uninstall --quiet --yes eventlog 2>/dev/null # what this distribution was called before
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache
