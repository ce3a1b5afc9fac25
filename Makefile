# make reproduce-all     every study of SCALE (embedded unless said otherwise), then the report
# make test              everything that is checked, without network
# make help              the other targets

SCALE  ?= embedded
DEVICE ?= cpu
SEEDS  ?= 1
ARGS   ?=
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
# a study is a file: reproduce/studies/mfaba_table1.py is `make mfaba-table1`
STUDIES := $(subst _,-,$(filter-out __init__,$(basename $(notdir $(wildcard reproduce/studies/*.py)))))

# The larger scales fetch first what is not there yet; `python -m reproduce run` never does.
FETCHED := $(if $(filter-out embedded smoke,$(SCALE)),data)

RUN := --scale $(SCALE) --device $(DEVICE) --seeds $(SEEDS) $(ARGS)

BENCH := --benchmark-enable --benchmark-storage

.DEFAULT_GOAL := help
.PHONY: help setup reproduce-all publish report compare data docs readme list test lint bench bench-check bench-history bench-record bench-self-test peers clean $(STUDIES)

help: ## show this
	@echo "usage: make TARGET [SCALE=embedded|subset|paper|smoke] [DEVICE=cpu|cuda] [SEEDS=1] [ARGS='--workers 4']"
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 18
	@echo "  one study:      make $(STUDIES)"
	@echo
	@echo "examples"
	@echo "  make reproduce-all                                    everything that runs without downloads"
	@echo "  make reproduce-all SEEDS=5                            the same with five trainings of each net"
	@echo "  make table1 ARGS='--seed 1'                           one study with another seed"
	@echo "  make data table1 SCALE=subset DATA_MIRROR=/mnt/mirror  fetched data, a mirror asked first"
	@echo "  make bench BASE=main                                  this working tree timed against main"

setup: $(VENV)/.installed ## make .venv from requirements.txt (again only when that file or pyproject.toml changes)

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make setup PYTHON=python3.11")'
	@echo "setting up $(VENV): the packages of requirements.txt, pinned. On Linux that is about 6 GB on disk, of which torch with"
	@echo "its CUDA libraries is 5 GB; the first time takes some minutes, most of them for the download"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

reproduce-all: setup $(FETCHED) ## every study of SCALE, then the report
	$(PY) -m reproduce run all $(RUN)

$(STUDIES): setup $(FETCHED)
	$(PY) -m reproduce run $@ $(RUN)

publish: setup $(FETCHED) ## measure the tracked results of SCALE again, on a clean tree
	$(PY) -m reproduce publish $(RUN)

report: setup ## join the result files of SCALE again
	$(PY) -m reproduce report --scale $(SCALE)

compare: setup ## hold your own results of SCALE against the published ones
	$(PY) -m reproduce compare --scale $(SCALE)

data: setup ## compose or fetch, and verify, the data of SCALE
	$(PY) -m reproduce data --scale $(SCALE)

docs: setup ## the documentation as a site, into site/ (a broken link is an error)
	$(PY) -m sphinx --quiet --fail-on-warning --builder html docs site

readme: setup ## the blocks of README and docs/ that are made from published results and registries
	$(PY) -m reproduce.report.readme

list: setup ## studies, models, methods, data sets, and what is there
	$(PY) -m reproduce list --scale $(SCALE)

test: setup lint ## lint, types and tests
	$(PY) -m pytest

lint: setup
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

bench: setup ## time everything in benchmarks/ and keep it (BASE=<git revision>: that revision first, then compare)
	$(if $(BASE),git worktree add --quiet --detach .cache/base $(BASE))
	$(if $(BASE),trap 'git worktree remove --force .cache/base' EXIT; cd .cache/base && PYTHONPATH=$$PWD ../../$(PY) -m pytest benchmarks $(BENCH)=$(CURDIR)/.cache/benchmarks --benchmark-save=base)
	$(PY) -m pytest benchmarks $(BENCH)=.cache/benchmarks --benchmark-save=here $(if $(BASE),--benchmark-compare --benchmark-group-by=name)

bench-check: setup ## passes, ratios and peak bytes against benchmarks/baseline.json
	$(PY) -m benchmarks.regression check

bench-history: setup ## compare the seconds of all kept runs of `make bench`
	$(PY) -m pytest_benchmark --storage .cache/benchmarks compare --group-by=name --columns=min,median,rounds

peers: setup ## IG against captum at 224 px on this machine, as a row of README (half an hour, idle; PEERS='alexnet resnet50')
	$(PY) -m benchmarks.peers $(PEERS) --out results/published/peers

bench-record: setup ## measure the baseline of bench-check again (ten repetitions)
	$(PY) -m benchmarks.regression record

bench-self-test: setup ## show that bench-check finds three slowdowns, and nothing where nothing changed
	$(PY) -m benchmarks.regression self-test

clean: ## remove finished tasks and trained nets (results and fetched data stay)
	rm -rf .cache
