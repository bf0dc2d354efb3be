# make demo: everything from a fresh machine to a report. make test: everything to a verdict on the code.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow golden lint format clean
.DEFAULT_GOAL := test

# Installed again whenever what is depended upon changes.
$(READY): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/oubliette demo

# Two workers of one thread each: tiny models are slower on more.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'slow or not slow'

# Does the package still give what tests/golden.json says? For changes that are to move no bit.
golden: $(READY)
	$(BIN)/python benchmarks/golden.py compare

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist runs .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
