# The two commands: `make run` and `make test`. Everything they need is set up by the step that needs it.
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    := .venv
BIN     := $(VENV)/bin
SECONDS_FUZZ ?= 60
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_ROOT_USER_ACTION = ignore
# Else each of the tests' processes compiles all that it imports again.
unexport PYTHONDONTWRITEBYTECODE
SOURCES := headend protocols concentrator_sim api schemas tests

.PHONY: run test check unit bench fuzz lock clean help

help:            ## this list
	@sed -n 's/^\([a-z]*\): .*## /\1\t/p' $(MAKEFILE_LIST)

run: $(VENV)/.run      ## start the whole thing with a simulated field; Ctrl-C stops it (ARGS="--meters 500 --port 8001")
	$(BIN)/headend run --demo $(ARGS)

test: check unit       ## style, types, imports, and every test on embedded PostgreSQL and TimescaleDB

check: $(VENV)/.test   ## style, types, imports
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.test
	deploy/mosquitto.sh -- deploy/timescaledb.sh test -- $(BIN)/pytest -n 3 --dist worksteal

bench: $(VENV)/.bench  ## the benchmarks, as ratios in one run
	deploy/mosquitto.sh -- deploy/timescaledb.sh test -- $(BIN)/headend bench

fuzz: $(VENV)/.fuzz    ## fuzz every decoder, SECONDS_FUZZ seconds each (60)
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS_FUZZ)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: deploy/lock/run.txt pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --require-hashes -r deploy/lock/run.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test $(VENV)/.bench $(VENV)/.fuzz: $(VENV)/.%: deploy/lock/%.txt $(VENV)/.run
	$(BIN)/pip install --quiet --require-hashes -r deploy/lock/$*.txt
	@touch $@

lock:            ## pin the dependencies again (needs pip-tools)
	deploy/lock/compile.sh

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build *.egg-info
