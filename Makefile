PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := -c constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test test-slow check catalog docs format clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Stillhouse needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(PIP_ARGS) $(CONSTRAINTS) -e '.[dev]'
	@touch $@

install: $(VENV)/installed ## create .venv with all extras (PIP_ARGS is passed on to pip)

demo: install ## distil a digits network, from nothing to a downloaded student
	$(BIN)/python examples/demo.py

test: install ## unit, integration and fault tests (under 15 minutes on two cores)
	$(BIN)/python -m pytest -m "not slow"

test-slow: install ## what takes longer: many kills, the API against its own description
	$(BIN)/python -m pytest -m slow

check: install ## lint, types, import contracts, duplicate and dead code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/pylint --disable=all --enable=duplicate-code --min-similarity-lines=10 --ignore-imports=y --ignore-signatures=y stillhouse app worker

catalog: install ## write the architectures' figures from the engine into the spec package
	$(BIN)/python -m worker.catalog

docs: install ## write the reference pages from the code
	$(BIN)/python -m docs.generate

format: install ## let ruff lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the other targets made
	rm -rf $(VENV) demo-output build *.egg-info
