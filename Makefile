# make demo   the demo app on http://127.0.0.1:8080 (options: make demo ARGS="--port 9000")
# make test   every test, on real servers and a real browser, which it installs where it can
# make check  lint, format, types, and a build of the wheel

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PIP_ENV := PIP_DISABLE_PIP_VERSION_CHECK=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest check format servers bench clean

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/.demo: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_ENV) $(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(PIP_ENV) $(BIN)/pip install --quiet --editable '.[sql]' --group demo
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.demo
	$(PIP_ENV) $(BIN)/pip install --quiet --editable '.[all]' --group dev
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m demo $(ARGS)

servers:
	@sh tests/servers/install.sh

test: $(VENV)/.dev servers
	$(BIN)/python -m pytest -n auto --cov --cov-report=term-missing:skip-covered $(ARGS)

# The lowest versions that pyproject.toml declares, in an environment of their own.
test-lowest: servers
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	$(PIP_ENV) .venv-lowest/bin/pip install --quiet --upgrade 'pip>=25.1'
	$(PIP_ENV) .venv-lowest/bin/pip install --quiet --editable '.[all]' --group test --constraint tests/lowest.txt
	.venv-lowest/bin/python -m pytest -n auto $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m build --wheel --no-isolation --outdir build/wheel . >/dev/null

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/live_request.py $(ARGS)
	@echo "the stores: $(BIN)/python benchmarks/stores.py URL..."

clean:
	rm -rf $(VENV) .venv-lowest build dist screenshots .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
