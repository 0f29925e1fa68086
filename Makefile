# Everything runs in a virtual environment of its own, made where there is none.
#   make demo    the main job on real HTTP, against a server that starts cold
#   make test    style, types and tests (SELECT='not figures' leaves long runs out, TESTS=tests/state takes these alone)
#   make slow    the tests marked fuzz, with 10,000 examples each (EXAMPLES=2000 with fewer)
#   make bench   what a guarded call costs, beside its peers: docs/speed.md (BENCH=--quick takes at most five minutes)
#   make success whose calls succeed on servers that start cold, beside other strategies (half an hour)
PYTHON ?= python3
VENV ?= .venv
SELECT ?=
TESTS ?=
JOBS ?= 2
EXAMPLES ?= 10000
BENCH ?=
RUN := env -u PYTHONPATH $(VENV)/bin/python

.PHONY: demo test lint unit slow bench success clean
demo: $(VENV)/ready-demo
	$(RUN) examples/demo/main.py

test: lint unit

lint: $(VENV)/ready-lint
	$(RUN) -m ruff check .
	$(RUN) -m mypy

unit: $(VENV)/ready-test
	$(RUN) -m pytest -n $(JOBS) -m '$(SELECT)' $(TESTS)

slow: $(VENV)/ready-test
	EXAMPLES=$(EXAMPLES) $(RUN) -m pytest -n 2 -m fuzz --hypothesis-profile=slow

bench: $(VENV)/ready-bench
	$(RUN) benchmarks/speed.py --out docs --readme README.md $(BENCH)

success: $(VENV)/ready-bench
	$(RUN) benchmarks/success.py --out docs

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per extra: made anew when setup.py changes, so that a second run installs nothing.
$(VENV)/ready-%: setup.py | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
