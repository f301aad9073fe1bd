# Everything a person or a build server does here. `make help` lists it.
#
#   ARGS=…     handed on:  make test ARGS="-k limits -x"   make bench ARGS="--json bench.json"
#   AGAINST=… a commit to compare the bench with:  make bench AGAINST=HEAD~10
#   TESTERS=N processes that run the tests; 0: all in one, which debuggers need
#   ORDERS=N   size of the demo
#   PYTHON=…   the interpreter to make .venv from; without it the first of the usual names that is 3.11 or newer

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# The tests start hundreds of processes: none of them translates all modules anew.
unexport PYTHONDONTWRITEBYTECODE

ORDERS ?= 3000
ARGS ?=
TESTERS ?= 2
AGAINST ?=
PYTHON ?=

BIN := .venv/bin
# Made when .venv holds exactly what the lock says; every target needs it, none makes it twice.
INSTALLED := .venv/.installed

# The access rules of every stage, and of one partner as an example.
ACLS := MYPAY_NETWORKS_DIR=deploy/networks $(BIN)/mypay topics acl --print --partner example-partner

.PHONY: help install demo test tools mutants check types rules acls bench format lock pictures holidays clean

help:
	@echo "make install   make .venv from requirements.lock (every other target does so when needed)"
	@echo "make demo      run ORDERS=$(ORDERS) signed orders through the gateway and check the books; MYPAY_DEMO_KEEP=1 leaves it running"
	@echo "make test      run the tests: ARGS are pytest's"
	@echo "make tools     get Helm, hadolint and Kubernetes' schemas into .venv: with them make test tests the whole deployment"
	@echo "make mutants   change every pure rule in every small way and show what no test sees: ARGS are modules or rooms, as consents.rules.limits"
	@echo "make check     format, lint, types, import rules, drift of schemas, guides, access rules and the database's roles"
	@echo "make acls      write deploy/kafka/acls.sh, Kafka's access rules, anew"
	@echo "make bench     measure the gateway on this machine: ARGS are those of mypay bench; AGAINST=<commit> compares with another"
	@echo "make format    format the sources and apply the linter's safe fixes"
	@echo "make lock      write requirements.lock, deploy/requirements.lock and deploy/kafka-jars.sha256 anew"
	@echo "make pictures  take the guide's pictures of the console anew, from a demo that runs; needs Chromium, and a font with Korean"
	@echo "make holidays  write gateway/base/holidays.py anew, from the package holidays"
	@echo "make clean     delete .venv and all caches; the data of local stacks stay in var/"

install: $(INSTALLED)
	@echo ".venv is ready"

$(INSTALLED): requirements.lock pyproject.toml
	@rm -f $@
	@if ! $(BIN)/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=""; \
	    for name in $(if $(PYTHON),"$(PYTHON)",python3.11 python3.12 python3.13 python3); do \
	        if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$name"; break; fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "Python 3.11 or newer is needed, and $(if $(PYTHON),$(PYTHON) is none,none of python3.11, python3.12, python3.13 and python3 is one)." >&2; \
	        echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(or $(MAKECMDGOALS),install)" >&2; \
	        exit 1; \
	    fi; \
	    if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        echo "$$python cannot make virtual environments: its module ensurepip is missing." >&2; \
	        echo "On Debian and Ubuntu: apt-get install $$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; \
	        exit 1; \
	    fi; \
	    echo "Making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv; \
	fi
	@echo "Installing the packages of requirements.lock into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/mypay demo --orders $(ORDERS)

# Two files at a time, in their order: who waits for servers lets the other compute. Each process has servers of its own,
# and a file stays whole: its tests share a world, and go on with what those before them left there.
test: $(INSTALLED)
	@$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

tools: $(INSTALLED)
	@$(BIN)/python -m tests.support.deployment_tools

mutants: $(INSTALLED)
	@$(BIN)/python -m tests.support.mutation $(ARGS)

# Types take as long as all the rest.
check: $(INSTALLED)
	@$(MAKE) --jobs=2 types rules

types: $(INSTALLED)
	$(BIN)/mypy --no-error-summary

rules: $(INSTALLED)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypay schemas check
	$(BIN)/mypay docs check
	$(BIN)/mypay migrate roles --check
	$(BIN)/mypay deploy check
	@$(ACLS) | cmp -s - deploy/kafka/acls.sh || { echo "deploy/kafka/acls.sh is not what the code says: make acls" >&2; exit 1; }

acls: $(INSTALLED)
	@$(ACLS) > deploy/kafka/acls.sh

bench: $(INSTALLED)
	@$(BIN)/mypay bench $(if $(AGAINST),--against $(AGAINST)) $(ARGS)

format: $(INSTALLED)
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

lock: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "Resolving the Python packages"
	@$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    --universal --python-version 3.11 --output-file requirements.lock >/dev/null
	@$(BIN)/uv pip compile --quiet pyproject.toml deploy/image.in --extra console --extra archive --extra otel --generate-hashes \
	    --no-emit-index-url --no-annotate --no-header --universal --python-version 3.11 --constraint requirements.lock --output-file deploy/requirements.lock >/dev/null
	@echo "Resolving Kafka's libraries"
	@$(BIN)/python -m gateway.proving.stack.pin

pictures: $(INSTALLED)
	@$(BIN)/python -m tests.support.pictures

holidays: $(INSTALLED)
	@$(BIN)/python -m gateway.base.holiday_table

clean:
	@rm -rf .venv mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build *.egg-info
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
