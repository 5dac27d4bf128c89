# The verbs of the project. `make demo` and `make test` are all a fresh machine needs: Python 3.11+, git and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup demo test test-all clients check bench docs lock format clean
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Everything is compiled here: where PYTHONDONTWRITEBYTECODE is set, each process would compile its libraries anew (half of the start of most).
setup: .venv/.ready ## the virtual environment, from the locked requirements

.venv/.ready: requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	$(BIN)/python -m compileall -q src
	@touch $@

demo: setup ## the closed loop on a real year of flights
	$(BIN)/treadle demo --build build/demo

test: setup ## unit, rooms, journeys and upgrade tests
	$(BIN)/python -m pytest -m "not heavy and not mlflow"

test-all: setup clients ## the same, the heavy batteries (kill -9, whole demo), and real MLflow clients
	$(BIN)/python -m pytest

clients: build/clients/mlflow-new/.ready build/clients/mlflow-old/.ready ## environments of real MLflow clients, for test-all

build/clients/mlflow-%/.ready: tests/mlflow/requirements-%.txt | setup
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(@D)/bin/python --require-hashes -r $<
	@touch $@

check: setup ## lint, types, import contract, dependencies
	$(BIN)/ruff check src tests bench examples docs
	$(BIN)/ruff format --check src tests bench examples docs
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/deptry src

format: setup ## let ruff format the code
	$(BIN)/ruff check --fix src tests bench examples docs
	$(BIN)/ruff format src tests bench examples docs

bench: setup ## speed beside plain calls and physical ceilings
	$(BIN)/python -m bench

docs: setup ## the documentation as HTML in docs/_build
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

lock: setup ## resolve the requirements anew
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra s3 --group dev --universal --generate-hashes --no-header --quiet -o requirements/dev.txt
	$(BIN)/uv pip compile requirements/bootstrap.in --universal --generate-hashes --no-header --quiet -o requirements/bootstrap.txt
	$(BIN)/uv pip compile tests/mlflow/requirements-new.in --universal --generate-hashes --no-header --quiet -o tests/mlflow/requirements-new.txt
	$(BIN)/uv pip compile tests/mlflow/requirements-old.in --universal --generate-hashes --no-header --quiet -o tests/mlflow/requirements-old.txt

clean: ## remove what was built
	rm -rf build dist docs/_build .venv
