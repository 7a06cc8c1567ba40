# `make demo` and `make test` are all that a reader needs. Everything creates .venv and installs into it first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PYTEST := MUJOCO_GL=$${MUJOCO_GL:-disable} $(BIN)/python -m pytest

.PHONY: demo test test-slow quick install clean
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/tdm demo

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST)

# what `make test` leaves out because it takes minutes
test-slow: install
	$(PYTEST) -m slow

clean:
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
