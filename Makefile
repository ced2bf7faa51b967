PYTHON ?= python

.PHONY: help fmt lint types layers check test test-all test-lowest docs proto bench

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

fmt:  ## format the code and mend what can be mended without thought
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

lint:  ## ruff, on format and on rules
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:  ## mypy, strict
	$(PYTHON) -m mypy

layers:  ## who may import whom
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

check: lint types layers docs  ## all that needs no test run

test:  ## the fast tier, as the README runs it
	$(PYTHON) -m pytest

test-all:  ## every tier
	$(PYTHON) -m pytest --all-tiers

test-lowest:  ## the fast tier under the lowest versions that pyproject.toml allows, in a venv of its own
	$(PYTHON) tests/lowest.py

docs:  ## build the documentation; a warning is an error
	@$(PYTHON) -c 'import sphinx, furo, myst_parser' || { echo "the documentation needs: pip install -e '.[dev]'" >&2; exit 1; }
	$(PYTHON) -m sphinx -q -W --keep-going -b html docs docs/_build/html

proto:  ## compile the protos into their descriptor set
	$(PYTHON) -m stepflow_grpc.proto.regenerate

bench:  ## the benchmarks, one after the other
	$(PYTHON) benchmarks/bench_import.py
	$(PYTHON) benchmarks/bench_batch.py --store memory --items 20000 --steps 3
	$(PYTHON) benchmarks/bench_growth.py --max-items 100000
