# Two commands matter: `make demo` and `make test`. Each makes what it needs, once, in .venv.
.DEFAULT_GOAL := help
# Environments are made side by side.
MAKEFLAGS += --jobs=3
# Tests start many processes, each of which would compile what it imports.
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help demo docs test nightly bench clean chromium

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
PANDAS_2 := .venv-pandas2
PEERS := .venv-peers
RUN := $(VENV)/bin/python
FRAME_TESTS := $(addprefix tests/frames/test_,arrow.py constructors.py numpy.py pandas.py pandas_types.py streams.py) tests/test_accessor.py
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --non-interactive)
QUIET_PIP := -m pip install --quiet --disable-pip-version-check --no-input

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/demo.stamp  ## a year of flights into a store, compacted, queried, drawn
	$(RUN) notebooks/demo.py

docs: $(VENV)/docs.stamp  ## pages, notebooks and reference as a site, in site/
	$(RUN) docs/build.py site --run

test: $(VENV)/test.stamp $(PANDAS_2)/test.stamp chromium  ## everything: rules, types, units, properties, faults
	$(RUN) -m pytest -n 2 --dist worksteal
	@if [ -e $(PANDAS_2)/test.stamp ]; then set -x; $(PANDAS_2)/bin/python -m pytest -n 2 -k "pandas or not constructors" $(FRAME_TESTS); \
		else echo "skipped: the tests with pandas 2, which could not be installed (pip says why above)"; fi

nightly: $(VENV)/test.stamp  ## the same tests with larger numbers, for hours
	MITOFRAME_NIGHTLY=1 $(RUN) -m pytest --timeout=14400
	for round in $$(seq 20); do MITOFRAME_OTHER_EXAMPLES=1 $(RUN) -m pytest -n 2 --ignore tests/faults --ignore tests/browser || exit 1; done

bench: $(VENV)/bench.stamp $(PEERS)/peers.stamp  ## side by side with peers; writes benchmarks/RESULTS.md
	$(RUN) benchmarks/queries.py --peers-python $(PEERS)/bin/python --write-results
	$(RUN) benchmarks/stages.py --write-results
	$(RUN) benchmarks/ingest.py --peers-python $(PEERS)/bin/python --write-results
	$(RUN) benchmarks/scale.py --peers-python $(PEERS)/bin/python --write-results
	$(RUN) benchmarks/maintenance.py --write-results
	$(RUN) benchmarks/startup.py --write-results
	$(RUN) benchmarks/inspecting.py --write-results
	$(RUN) benchmarks/report.py

# For the tests of the widget, which are skipped where it may not be installed.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
		|| { $(AS_ROOT) apt-get update --quiet \
		&& $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends chromium; } \
		|| echo "the tests in a browser will be skipped: chromium is not installed, and could not be"

clean:  ## remove environments and outputs
	rm -rf $(VENV) $(PANDAS_2) $(PEERS) demo-out site browser-out benchmarks/.data

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mitoframe needs Python 3.11 or newer; give one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[notebook]'
	touch $@

$(VENV)/docs.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[docs,notebook,duckdb]'
	touch $@

$(VENV)/test.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[test]'
	touch $@

# Without a network there is no stamp and no failure: the tests are skipped, and the next run tries again.
$(PANDAS_2)/test.stamp: $(RUN) pyproject.toml
	$(RUN) -m venv $(PANDAS_2)
	$(PANDAS_2)/bin/python $(QUIET_PIP) --editable '.[test-frames]' 'pandas<3' && touch $@ || rm -f $@

$(VENV)/bench.stamp: $(RUN) pyproject.toml
	$(RUN) $(QUIET_PIP) --editable '.[bench]'
	touch $@

$(PEERS)/peers.stamp: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python $(QUIET_PIP) --requirement benchmarks/peers/requirements.txt
	touch $@
