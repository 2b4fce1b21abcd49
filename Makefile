# Everything a person does here is a target; `make` alone prints them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Set by CI: a missing service, data set or browser is then a failure instead of a skip.
export MILLRACE_REQUIRE ?=
# The public data sets, where they are at hand; tests skip with a reason where they are not.
export MILLRACE_DATA ?= $(wildcard ../shared/data)
# One thread per process: our kernels are small, and oversubscribed threads cost more than they give.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Compiled Python is kept whatever the shell says: without it every process of every test compiles all sources again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo kernels test test-all check format bench constraints clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Millrace needs Python 3.11 or newer; set PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.train: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/.dev  ## make the virtual environment with everything that development needs

# TRAIN= leaves the models out, and PyTorch with them: counters then rank.
TRAIN ?= .train
demo: $(VENV)/$(or $(TRAIN),.base)  ## a small world that lives on in accelerated time, served; prints a viewer's feed (Ctrl-C ends it)
	$(BIN)/millrace demo $(DEMO_ARGS)

# Two processes; each takes whole modules, and what the other has not begun when its own are done.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

kernels: $(VENV)/.dev  ## compile the kernels that tests and servers need, where that is not done yet
	-$(BIN)/python tests/compile_kernels.py

test: kernels  ## the default tests: at most three minutes
	$(PYTEST) $(PYTEST_ARGS)

test-all: test  ## the default tests, then browser, chaos, real-data, service and slow tests
	$(PYTEST) -m "browser or chaos or real or service or slow" --timeout 600 $(PYTEST_ARGS)

check: $(VENV)/.dev  ## format, lint, types, layers, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/.dev  ## rewrite the code in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## run every benchmark; each prints one JSON line
	@for bench in in-network log pipeline sources dpp why fan-out restart feed world loop; do \
		$(BIN)/millrace bench $$bench --json || exit 1; done

constraints: $(VENV)/.dev  ## write constraints.txt anew from this environment (names and versions only)
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/ @.*//; s/\+.*//' | grep == | sort -f > constraints.txt

clean:  ## remove what was built; data of homes is left alone
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
