# make demo         the demo app, which prints its address (options: make demo ARGS="--port 9000")
# make test         every test, on real servers and a real browser, which it installs where it can
# make check        lint, format, types, and what a release uploads, built and checked
# make format       what lint and format can mend by themselves
# make model        the long form of tests/model: more interleavings, more random worlds (takes minutes)
# make dist         what a release uploads: wheel and sdist, checked as the index will
# make test-wheel   the built wheel, in an environment that has none of the stores' drivers
# make test-sdist   the tests in the built sdist that need no server and no browser
# make test-lowest  the tests that need no browser, on the lowest versions that pyproject.toml declares
# make test-bare    make demo and make test on a Debian with nothing but Python, make and git (takes root)
# make docs         the site, into build/docs
# make bench        what a live request costs
# make clean        remove what these have made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
ARGS ?=
PIP_ENV := PIP_DISABLE_PIP_VERSION_CHECK=1

# CI asks for this much of the package's branches. A run that ARGS narrow cannot have it.
COVERED := $(if $(CI),$(if $(ARGS),,--cov-fail-under=98))

.DEFAULT_GOAL := help
.PHONY: help demo test model test-wheel test-sdist test-lowest test-bare check dist format servers docs bench clean

help:
	@sed -n 's/^# make /make /p' Makefile

# Makes the environment in the folder $(1). We run its pip to see whether it is whole: a machine without ensurepip leaves
# one behind that has a python and no pip.
define venv
@$(1)/bin/pip --version >/dev/null 2>&1 \
	|| { PYTHON=$(PYTHON) sh tests/servers/install.sh venv && $(PYTHON) -m venv --clear $(1); }
$(PIP_ENV) $(1)/bin/pip install --quiet --upgrade 'pip>=25.1'
endef

$(VENV)/.demo: pyproject.toml
	$(call venv,$(VENV))
	$(PIP_ENV) $(BIN)/pip install --quiet --editable '.[sql,devices,security]' --group demo
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.demo
	$(PIP_ENV) $(BIN)/pip install --quiet --editable '.[all]' --group dev
	@touch $@

$(VENV)/.docs: pyproject.toml
	$(call venv,$(VENV))
	$(PIP_ENV) $(BIN)/pip install --quiet --editable '.[all]' --group docs
	@touch $@

$(LOWEST)/.test: pyproject.toml tests/lowest.txt
	$(call venv,$(LOWEST))
	$(PIP_ENV) $(LOWEST)/bin/pip install --quiet --editable '.[all]' --group test --constraint tests/lowest.txt
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/python -m demo $(ARGS)

servers:
	@sh tests/servers/install.sh tests

test: $(VENV)/.dev servers
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term-missing:skip-covered $(COVERED) $(ARGS)

model: $(VENV)/.dev
	$(BIN)/python -m tests.model $(ARGS)

# No library's lowest version bears on these: they try our own rules, the terminal, and docs that are for the versions of
# today.
NOT_LOWEST := tests/model tests/test_rules.py tests/test_simulation.py tests/test_house.py tests/test_cli_process.py \
	tests/test_tutorial.py

test-lowest: $(LOWEST)/.test servers
	$(LOWEST)/bin/python -m pytest -n auto --dist worksteal -m "not browser" $(addprefix --ignore ,$(NOT_LOWEST)) \
		--ignore-glob 'tests/test_docs_*' $(ARGS)

# The environment is made anew each time, since what an earlier wheel needed must not be there.
test-wheel: dist
	$(PYTHON) -m venv --clear build/venv
	$(PIP_ENV) build/venv/bin/pip install --quiet dist/*.whl
	build/venv/bin/python -I tests/wheel/check.py

# Nothing of this folder may serve it: it is unpacked elsewhere, and its package goes before the editable one.
test-sdist: dist
	sh tests/sdist/run.sh dist/*.tar.gz $(abspath $(BIN)/python) $(ARGS)

test-bare:
	$(PYTHON) tests/bare/run.py

# The wheel is built from the sdist, which so is known to hold what that takes.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist . >/dev/null
	$(BIN)/twine check --strict dist/*

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory dist

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/docs
	@echo "the site: build/docs/index.html"

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/live_request.py $(ARGS)
	@echo "the stores: $(BIN)/python benchmarks/stores.py URL..."

clean:
	rm -rf $(VENV) $(LOWEST) build dist screenshots .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
