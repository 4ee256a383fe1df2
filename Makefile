# Every target needs Python 3.10 or newer and Java 17; `make setup` checks both and says what to install.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stamps hold the time of the last setup: it is skipped until one of the files it depends on changes.
PACKAGES := $(VENV)/.packages-stamp

.DEFAULT_GOAL := help
.PHONY: help setup demo notebooks test test-fast lint format docs bench wheel lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(PACKAGES) ## Install into .venv, pinned, resolve the jars, record Spark's classes (skipped when nothing changed)
	@$(BIN)/python -m pipelines.java >/dev/null
	@$(BIN)/python -m pipelines.jars >/dev/null
	@$(BIN)/python -m pipelines.class_archive

$(PACKAGES): requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "reelhouse: Python 3.10 or newer is needed and $(PYTHON) is not; install it, or name it: make PYTHON=python3.11 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "reelhouse: this Python cannot make virtual environments; install python3-venv (apt-get install python3-venv)" >&2; exit 1; }
	@PYTHONPATH=. $(PYTHON) -m pipelines.java >/dev/null
	@echo "installing into $(VENV)"
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock \
	  && $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . || { \
	  echo "reelhouse: the packages could not be installed (above: why); check the network and the disk, then run make setup again" >&2; exit 1; }
	@touch $@

demo: setup ## Start a broker, publish real and simulated events, run the streams, show what came out
	@$(BIN)/python -m pipelines.demo

notebooks: setup ## Run the notebooks on the lake of the demo, into .work/notebooks
	@mkdir -p .work/notebooks && cp notebooks/*.ipynb .work/notebooks/
	@$(BIN)/jupyter execute --inplace .work/notebooks/*.ipynb

test: lint ## Lint, and run every test
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: setup ## Run the tests that need no broker, no cluster and no kills
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not cluster and not chaos and not stream"

lint: setup ## ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy pipelines
	@$(BIN)/lint-imports

format: setup ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: setup ## Write docs/tables.md and docs/lineage.md from the tables' declarations and definitions
	@$(BIN)/python -m pipelines.docs

bench: setup ## Run the benchmarks
	@$(BIN)/python -m benchmarks

wheel: setup ## Build dist/: the wheel, and reelhouse.whl with reelhouse.py for spark-submit
	@rm -f dist/*.whl
	@$(BIN)/python -m hatchling build -t wheel >/dev/null
	@cp dist/reelhouse-*-py3-none-any.whl dist/reelhouse.whl
	@cp conf/reelhouse.py dist/

lock: ## Pin the dependencies anew (needs uv)
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet -o requirements.lock

clean: ## Stop the embedded broker; remove its data, the lake and the caches (keeps .venv)
	@[ ! -x $(BIN)/reelhouse ] || $(BIN)/reelhouse broker stop
	@rm -rf .work .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find pipelines tests -name __pycache__ -type d -prune -exec rm -rf {} +
