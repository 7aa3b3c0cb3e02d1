# `make` alone explains itself. Every target sets up what it needs, once, and again when a requirements file changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
# Our programs, which Ctrl-C ends without a traceback: where env can, it waits until Python has started. Those with
# $(TIED) end with make, even by kill -9: that is make's process id, read while make certainly runs.
PROGRAM = $(shell env --block-signal=INT true 2>/dev/null && echo env --block-signal=INT) $(PY) -m local.program
TIED = --tied=$(shell echo $$PPID)
export PYTHONPATH := src:.
# Set-up compiles nothing (local/set-up). A machine that keeps Python from storing what it compiles would compile moto and
# all else again at the start of every program.
unexport PYTHONDONTWRITEBYTECODE

RUN_READY := $(VENV)/.ready-to-run
DEV_READY := $(VENV)/.ready-to-develop
# Test files are distributed over processes, two for each core (tests/conftest.py says why), each with its own PostgreSQL
# and local stack; ARGS=-n0 runs them in one process.
# In the order of tests/conftest.py, as xdist's own has the files with the fewest tests, which are the slowest, last.
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
# What to look at when the tests take longer than CONTRIBUTING.md allows.
SLOWEST := --durations=10 --durations-min=5
CHECKED := src local stack tests $(wildcard tools bench lab simulator faults sallyport sallyport_audit)

# $(options) is --change-set='...' for CHANGE_SET, and so on, for every variable in the target's own help that has a
# value. ARGS are words for another program. What an option means and takes, the program's parser says, and it alone.
options = $(call options_of,$@)
options_of = $(foreach name,$(filter-out ARGS,$(call taken,$1)),$(if $($(name)),--$(call option,$(name))=$(call quoted,$($(name)))))
taken = $(shell awk -v names_of=$1 -f make/look.awk -- $(MAKEFILE_LIST) -- --)
option = $(shell echo $1 | tr A-Z_ a-z-)
quoted = '$(subst ','\'',$1)'

##@ Use it on this machine

.PHONY: run
run: $(RUN_READY) ## the whole stack on 127.0.0.1:8080, until Ctrl-C
#? PORT=9000 and PARTNER_PORT=9001 for other ports
	@exec $(PROGRAM) $(TIED) local run $(if $(PORT),--port $(PORT)) $(if $(PARTNER_PORT),--partner-port $(PARTNER_PORT))

.PHONY: partner
partner: $(RUN_READY) ## the demo partner alone, which fails in every way that partners do: docs/partner.md
#? PORT=8081 for plain HTTP, TLS=9443 for the first of seven ports with TLS
	@exec $(PROGRAM) $(TIED) local.partner $(options)

.PHONY: token
token: $(RUN_READY) ## another token for the stack that `make run` runs, with all scopes
#? TENANT=acme for another tenant, SCOPES=read,send for some scopes
	@$(PROGRAM) local token $(options)

.PHONY: admin
admin: $(RUN_READY) ## what operators do, on the stack that `make run` runs; without EVENT, the list of it
#? EVENT=JSON to do one of them, or a file of it such as events/attempt-redrive.json
	@$(PROGRAM) local admin $(options)

.PHONY: run-clean
run-clean: $(RUN_READY) ## delete what `make run` stores: database, seal key, token, logs
	@$(PROGRAM) local clean

##@ Work on it

.PHONY: test
test: $(DEV_READY) ## all tests, short runs of make chaos, faults and bench too, and make invoke where Docker runs
#? ONLY=tests/unit for some of them, ARGS="-n0 -x" for pytest
	@$(PY) -m pytest $(SIDE_BY_SIDE) $(if $(ONLY),,--cov --cov-report=term $(SLOWEST)) $(ARGS) $(or $(ONLY),tests)
	@$(if $(ONLY)$(ARGS),,echo "== branch coverage of the core"; \
		$(PY) -m coverage report --include='src/domain/*,src/flows/*,src/db/*,src/egress/*' --fail-under=99)

.PHONY: cov
cov: $(DEV_READY) ## all tests, then htmlcov/index.html: the branches that no test covers
#? ONLY=tests/unit for some of them, ARGS="-x" for pytest
	@$(PY) -m pytest $(SIDE_BY_SIDE) --cov --cov-report=term --cov-report=html $(ARGS) $(or $(ONLY),tests)
	@echo "See htmlcov/index.html"

.PHONY: check
check: check-format check-lint check-types check-imports check-spelling check-links validate check-scan ## what CI checks: format, lint, types, layers, spelling, links, templates, scanners

.PHONY: format
format: $(DEV_READY) ## format the Python files and fix what ruff can fix
	@$(VENV)/bin/ruff format $(CHECKED)
	@$(VENV)/bin/ruff check --fix $(CHECKED)

.PHONY: check-format
check-format: $(DEV_READY)
	@echo "== format"
	@$(VENV)/bin/ruff format --check $(CHECKED)

.PHONY: check-lint
check-lint: $(DEV_READY)
	@echo "== lint"
	@$(VENV)/bin/ruff check $(CHECKED)

.PHONY: check-types
check-types: $(DEV_READY)
	@echo "== types"
	@$(VENV)/bin/mypy $(CHECKED)

.PHONY: check-imports
check-imports: $(DEV_READY)
	@echo "== layers"
	@$(VENV)/bin/lint-imports --no-logo

.PHONY: check-spelling
check-spelling: $(DEV_READY)
	@echo "== spelling"
	@$(VENV)/bin/codespell $(CHECKED) infra make docs Makefile template.yaml samconfig.toml $(wildcard *.md)

.PHONY: clean
clean: ## delete the virtual environments, the build and all caches, but not the data of `make run`
	rm -rf .venv .venv-sam .venv-scan .venv-bench .venv-sdks .aws-sam .lab .mutants .simulation .faults htmlcov .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.*

# The groups of `make help`, in this order; files in make/ add to them.
##@ Prove it
##@ Measure it
##@ Update the generated documents
##@ Build and deploy

#* PYTHON=/path/to/python3.13 sets up with this Python instead of the first that is found (all targets)

include $(wildcard make/*.mk)

# Check before anything starts: a variable that none of these targets takes, an invalid value, something that this
# machine lacks. A make that a target calls gets the variables that the target passes and none of the command line's.
MAKEOVERRIDES =
given := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
wrong := $(shell $(if $(filter command,$(origin PYTHON)),PYTHON=$(call quoted,$(PYTHON))) make/look $(MAKEFILE_LIST) \
	-- $(foreach goal,$(or $(MAKECMDGOALS),help),$(call quoted,$(goal))) -- $(foreach name,$(given),$(call quoted,$(name)=$($(name)))))
$(if $(wrong),$(error $(wrong)))

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { group = substr($$0, 5); if (!known[group]++) names[++count] = group } \
		/^[a-zA-Z0-9_-]+:.*## / { sub(/:.*/, "", $$1); text[group] = text[group] sprintf("  make %-12s %s\n", $$1, $$2) } \
		/^#\* / { all = sprintf("\n%s\n", substr($$0, 4)) } \
		/^#\? / { text[group] = text[group] sprintf("  %-17s %s\n", "", substr($$0, 4)) } \
		END { for (at = 1; at <= count; at++) if (text[names[at]]) printf "\n%s\n%s", names[at], text[names[at]]; printf "%s", all }' $(MAKEFILE_LIST)

$(RUN_READY): src/requirements.txt local/requirements.txt local/set-up
	@local/set-up $(VENV) src/requirements.txt local/requirements.txt
	@touch $@

$(DEV_READY): $(RUN_READY) requirements-dev.txt tests/node/package-lock.json
	@local/set-up $(VENV) requirements-dev.txt
	@# What a test runs with Node.js; without npm, or without its registry, that test is skipped and says so.
	@mkdir -p $(VENV)/node && cp tests/node/package*.json $(VENV)/node
	@! command -v npm >/dev/null || { cd -P $(VENV)/node && npm ci --ignore-scripts --no-audit --no-fund --silent; } || true
	@touch $@
