# Everything starts here. `make help` says what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-demo demo test check format test-contracts test-python fuzz clean lock

# The faster of the two keccaks installed.
export ETH_HASH_BACKEND := pysha3
export SOLCX_BINARY_PATH := $(CURDIR)/.toolchain/solc
export APE_DATA_FOLDER := $(CURDIR)/.toolchain/ape
BIN := .venv/bin
NPM := node_modules/.bin
# Workers of the Python tests, and options for pytest: make test ARGS="-k journal"
WORKERS ?= auto
ARGS ?=
SECONDS_OF_FUZZING ?= 600
PIN := $(BIN)/python scripts/uv.py pip compile -q --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --python-version 3.11

# Runs a command that is talkative when all is well: its output is shown only if it fails.
quietly = $(2) > .toolchain/logs/$(1).log 2>&1 || { cat .toolchain/logs/$(1).log; exit 1; }

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## Tool chain, packages, compiled contracts; seconds when nothing changed, offline the second time
	@scripts/setup

setup-demo: ## What running needs, without the tools of testing; a part of setup
	@scripts/setup demo

demo: setup-demo ## Three chains, one margin: the whole story, checked step by step (make demo ARGS="--json out.json --keep")
	@$(BIN)/keeper demo $(ARGS)

test: setup check test-contracts test-python ## Everything a change must pass

check: setup ## Lint, format, types, import rules, contract lint and static analysis
	@echo "ruff: lint and format"; $(BIN)/ruff check -q && $(BIN)/ruff format --check -q
	@echo "mypy: types, strict"; $(BIN)/mypy --no-error-summary
	@echo "import-linter: who may import whom"; $(call quietly,imports,$(BIN)/lint-imports)
	@echo "forge fmt: contracts"; $(NPM)/forge fmt --check
	@echo "solhint: contracts"; $(call quietly,solhint,$(NPM)/solhint --disc --noPoster --max-warnings 0 'contracts/**/*.sol')
	@echo "slither: contracts, against the triage"; $(BIN)/python scripts/slither.py

format: setup ## Format Python and Solidity
	@$(BIN)/ruff check -q --fix && $(BIN)/ruff format -q && $(NPM)/forge fmt

test-contracts: setup ## Contract tests and invariants, by forge
	@$(NPM)/forge test

test-python: setup ## Python tests, each worker with a devnet of its own where a test wants one
	@$(BIN)/pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

fuzz: setup ## Contract tests with many more runs, another seed every time
	@FOUNDRY_PROFILE=deep timeout $(SECONDS_OF_FUZZING) $(NPM)/forge test --fuzz-seed 0x$$(openssl rand -hex 8)

clean: ## End this folder's devnet; remove what was built, not .venv and node_modules
	@for folder in .devnet .devnet/tests-*; do \
		if [[ -x $(BIN)/keeper && -d $$folder ]]; then $(BIN)/keeper devnet down --state $$folder; fi; done
	@rm -rf build .build .toolchain .devnet keeper/abi contracts/.cache .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
	@find keeper scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

lock: setup-demo ## Pin everything again after pyproject.toml or package.json changed (needs a network)
	@$(PIN) --extra dev pyproject.toml -o requirements-dev.lock
	@$(PIN) -c requirements-dev.lock pyproject.toml -o requirements.lock
	@$(PIN) -c requirements-dev.lock --group setup -o requirements-setup.lock
	@npm install --package-lock-only
