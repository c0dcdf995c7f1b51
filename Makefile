# The two commands of the README are `make study` and `make test`; both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup study test lint docs unit lock clean

help: ## List the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

setup: $(INSTALLED) ## Create .venv with the pinned dependencies (nothing to do when it is done).

# Compiling once here makes every later start several times faster, Ray workers included.
# uv installs several times faster than pip and shares files between checkouts; it is itself pinned by hash.
$(INSTALLED): pyproject.toml requirements.lock requirements-uv.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, '$(PYTHON)' is older: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

study: setup ## Run the quickstart study: real digits, about a minute on two cores.
	$(BIN)/filter-study run quickstart

test: setup lint docs ## Check style, types and layers; build the documentation; run every test.
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=10

lint: setup ## Check style, types and import layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# A link or anchor that leads nowhere is an error. The variable silences a notice about MkDocs' successor.
docs: setup ## Build the documentation into site/; open site/index.html.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

unit: setup ## Run the fast tests only.
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow and not browser'

lock: setup ## Renew the pins from pyproject.toml.
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --upgrade --all-extras --group dev pyproject.toml -o requirements.lock
	echo uv | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate -c requirements.lock - -o requirements-uv.lock

clean: ## Remove the environment and caches; studies are kept.
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache *.egg-info site
