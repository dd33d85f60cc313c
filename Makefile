# Two commands matter: `make demo` and `make test`. Each makes what it needs, once, in .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test nightly bench clean

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
PEERS := .venv-peers
RUN := $(VENV)/bin/python
QUIET_PIP := -m pip install --quiet --disable-pip-version-check --no-input

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/demo.stamp  ## a year of flights into a store, compacted, queried, drawn
	$(RUN) notebooks/demo.py

test: $(VENV)/test.stamp  ## everything: rules, types, units, properties, faults
	$(RUN) -m pytest

nightly: $(VENV)/test.stamp  ## the same tests with larger numbers, for hours
	MITOFRAME_NIGHTLY=1 $(RUN) -m pytest --timeout=14400

bench: $(VENV)/bench.stamp $(PEERS)/peers.stamp  ## side by side with peers; writes benchmarks/RESULTS.md
	$(RUN) benchmarks/ingest.py --peers-python $(PEERS)/bin/python --write-results
	$(RUN) benchmarks/startup.py --write-results
	$(RUN) benchmarks/report.py

clean:  ## remove environments and outputs
	rm -rf $(VENV) $(PEERS) demo-out benchmarks/.data

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mitoframe needs Python 3.11 or newer; give one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[notebook]'
	touch $@

$(VENV)/test.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[test]'
	touch $@

$(VENV)/bench.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[bench]'
	touch $@

$(PEERS)/peers.stamp: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(QUIET_PIP) --requirement benchmarks/peers/requirements.txt
	touch $@
