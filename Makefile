# `make demo` and `make test` set up what they need on a machine with Python >= 3.11, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Where it is set, as in images of Docker, every process of the tests would compile the package again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo test test-fast mutants lint types imports docs clean

help:
	@echo "make demo    serve the example shop with the simulator of all gateways"
	@echo "make test    run the tests"
	@echo "make test-fast  run the unit tests, without any server"
	@echo "make mutants break one safety condition at a time and see that a test notices"
	@echo "make lint    ruff: rules and format"
	@echo "make types   mypy, strict"
	@echo "make imports the directions of imports"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove what these commands made"

# Once installed, nothing here asks the network again until the requirements change.
$(READY): pyproject.toml constraints.txt tests/public-clients.txt tests/bootstrap.sh
	@sh tests/bootstrap.sh $(PYTHON) $(VENV)
	@touch $(READY)

demo: $(READY)
	@$(BIN)/python -m example_app

test: $(READY)
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

# This is the loop while writing code: tests that need a server are left out, and those with generated
# input try a tenth of their examples.
test-fast: $(READY)
	@SMSTESTS_SERVICES=none SMSTESTS_EXAMPLES=10 $(BIN)/python -m pytest -n auto --maxprocesses 8 tests/unit $(ARGS)

# Mutants are named after functions, so they follow the code. Name some: make mutants ARGS="*check*"
mutants: $(READY)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --group mutation
	@$(BIN)/mutmut run $(ARGS)
	@$(BIN)/mutmut results

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache instance
