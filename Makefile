# make reproduce-all     every study of SCALE (embedded unless said otherwise), then the report
# make test              everything that is checked, without network
# make help              the other targets

SCALE  ?= embedded
DEVICE ?= cpu
ARGS   ?=
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STUDIES := gallery table1 contrast convergence table2 ground-truth nhanes decoy mfaba-table1 mfaba-table2 axioms steps beyond-images cost

DOCUMENTED := "" .xdnn .attributions .metrics .models .datasets .training .studies .report .run .cells .plugins .compare .attribute .estimate

# The larger scales fetch first what is not there yet; `python -m reproduce run` never does.
FETCHED := $(if $(filter-out embedded,$(SCALE)),data)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce-all report data docs list test lint bench bench-check bench-history bench-record bench-prove clean $(STUDIES)

help: ## show this
	@echo "usage: make TARGET [SCALE=embedded|subset|paper] [DEVICE=cpu|cuda] [ARGS='--seed 1']"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18
	@echo "  one study:      make $(STUDIES)"
	@echo
	@echo "examples"
	@echo "  make reproduce-all                                    everything that runs without downloads"
	@echo "  make table1 ARGS='--seed 1'                           one study with other seeds"
	@echo "  make data table1 SCALE=subset DATA_MIRROR=/mnt/mirror  fetched data, a mirror asked first"
	@echo "  make bench BASE=main                                  this working tree timed against main"

setup: $(VENV)/.installed ## make .venv from requirements.txt (again only when that file changes)

$(VENV)/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

reproduce-all: setup $(FETCHED) ## every study of SCALE, then the report
	$(PY) -m reproduce run all --scale $(SCALE) --device $(DEVICE) $(ARGS)

$(STUDIES): setup $(FETCHED)
	$(PY) -m reproduce run $@ --scale $(SCALE) --device $(DEVICE) $(ARGS)

report: setup ## join the result files of SCALE again
	$(PY) -m reproduce report --scale $(SCALE)

data: setup ## compose or fetch, and verify, the data of SCALE
	$(PY) -m reproduce data --scale $(SCALE)

docs: setup ## API reference from the docstrings, and the theory, into docs/api
	$(PY) -m pdoc --docformat google --output-directory docs/api $(addprefix reproduce,$(DOCUMENTED)) '!reproduce.attributions.'

list: setup ## studies, models, methods, data sets, and what is there
	$(PY) -m reproduce list --scale $(SCALE)

test: setup lint ## lint, types and tests
	$(PY) -m pytest

lint: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

bench: setup ## time everything in benchmarks/ (BASE=<git revision>: against that revision, alternately)
ifdef BASE
	$(PY) -m benchmarks.gate versus $(BASE)
else
	$(PY) -m pytest benchmarks --benchmark-enable --benchmark-json=.cache/benchmarks.json
endif

bench-check: setup ## the gate: passes, ratios and peak bytes against benchmarks/baseline.json
	$(PY) -m benchmarks.gate check

bench-history: setup ## draw the ratios of all checks so far into .cache/timings.png
	$(PY) -m benchmarks.gate history

bench-record: setup ## measure the gate's baseline again (ten repetitions)
	$(PY) -m benchmarks.gate record

bench-prove: setup ## show that the gate catches three slowdowns, and that it is quiet where nothing changed
	$(PY) -m benchmarks.gate prove
	$(PY) -m benchmarks.gate alarms

clean: ## remove finished cells and trained nets (results and fetched data stay)
	rm -rf .cache
