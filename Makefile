# Each target sets up what it needs on a bare machine with Python 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Byte code is written at installation even where the environment forbids it: start-up time depends on it.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all bench lint install peers clean

install: $(VENV)/installed

# What using Flyball needs; the tests need more.
$(VENV)/flyball: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed: $(VENV)/flyball
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(VENV)/flyball
	$(BIN)/flyball demo

test: install
	$(BIN)/python -m pytest -n 2 -q -m "not slow"

# The CPU build of PyTorch where the index has one. Heavy, so only the whole suite has them; PySpark needs Java 17.
$(VENV)/frameworks: $(VENV)/installed
	$(BIN)/python -m pip install --quiet catboost lightgbm torch==2.13.0 keras pyspark
	touch $@

test-all: install peers $(VENV)/frameworks
	$(BIN)/python -m pytest -n 2 -q
	$(BIN)/python -m pytest -n 2 -q -m "not slow" --database postgresql tests/domain tests/server/mlflow

# Other tools' clients, each in an environment of its own: tests/peers/NAME.txt says what it holds.
PEERS := $(patsubst tests/peers/%.txt,.peers/%/installed,$(wildcard tests/peers/*.txt))

peers: $(PEERS)

.peers/%/installed: tests/peers/%.txt
	$(PYTHON) -m venv .peers/$*
	.peers/$*/bin/python -m pip install --quiet --requirement $<
	touch $@

bench: install
	$(BIN)/python -m benchmarks

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) .bench .peers demo
