# `make run` and `make test` do all set-up themselves; nothing but python3 (>= 3.11) and make must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.PHONY: run test check format generate bench kill-matrix cases clean

run: $(READY)
	@$(BIN)/dripstone demo $(ARGS)

test: $(READY)
	@# One worker more than cores, for many tests wait for processes. Compiled modules are kept: hundreds of them load.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -n $$(( $$($(BIN)/python -c 'import os; print(os.cpu_count() or 1)') + 1 )) $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/loq
	$(BIN)/mypy
	$(BIN)/python proto/generate.py --check
	$(BIN)/python proto/generate.py --lint
	$(BIN)/python skills/generate.py --check
	$(MAKE) test

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: $(READY)
	$(BIN)/python proto/generate.py
	$(BIN)/python skills/generate.py

# Figures, as ratios to floors and peers measured in the same run; `make bench ARGS=--help` tells of the parts.
bench: $(READY)
	$(BIN)/python -m tests.bench $(ARGS)

# The other engines that `make bench` then measures beside ours, in an environment of their own.
bench-peers: .venv-peers/.ready
.PHONY: bench-peers

.venv-peers/.ready: tests/bench/peers/requirements.txt
	@test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	@echo "Installing into .venv-peers ..."
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r tests/bench/peers/requirements.txt
	@touch $@

# Real agent frameworks, each in an environment of its own, play the flagship story against this server; no model is asked.
interop: $(READY)
	$(BIN)/python -m tests.interop $(ARGS)
.PHONY: interop

# Others' checks of the MCP server and of what installs it: the protocol's own suite and inspector, the tools of bundles and
# skills, with the Node that they need, in an environment of their own. Packages come from wherever pip and npm are set to look.
conformance: $(READY) .venv-conformance/.ready
	$(BIN)/python -m tests.conformance $(ARGS)
.PHONY: conformance

.venv-conformance/.ready: tests/conformance/requirements.txt tests/conformance/package.json
	@test -x .venv-conformance/bin/python || $(PYTHON) -m venv .venv-conformance
	@echo "Installing into .venv-conformance ..."
	@.venv-conformance/bin/python -m pip install --quiet --disable-pip-version-check -r tests/conformance/requirements.txt
	@cp tests/conformance/package.json .venv-conformance/package.json
	@PATH="$(CURDIR)/.venv-conformance/bin:$$PATH" npm install --prefix .venv-conformance --ignore-scripts --no-package-lock \
	  --no-audit --no-fund --loglevel=error
	@touch $@

# The proof by kill -9, by power cuts between statements and by stories, at many more points than `make test` has time for:
# the dispatcher is killed at every await it has, which a table sums up for each database.
kill-matrix: $(READY)
	DRIPSTONE_KILLS=40 DRIPSTONE_LONGEST_TEST_SECONDS=3600 $(BIN)/pytest tests/chaos tests/engine/test_model.py tests/engine/test_stories.py $(ARGS)

# Every refusal of every method by both transports; `make test` asks for each method's by one of them.
cases: $(READY)
	DRIPSTONE_CASES=all DRIPSTONE_LONGEST_TEST_SECONDS=3600 $(BIN)/pytest tests/contract/test_cases.py $(ARGS)

# One file that desktop programs install: dist/dripstone-VERSION.mcpb, and its digest.
bundle: $(READY)
	@$(BIN)/python bundle/build.py
.PHONY: bundle

clean:
	rm -rf $(VENV) .venv-peers .venv-interop .venv-conformance .dripstone

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; this is $$($(PYTHON) --version). Say PYTHON=/path/to/python3.11."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $(READY)
