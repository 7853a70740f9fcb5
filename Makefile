# Everything that is done with this checkout at a desk and in CI. `make demo` and `make test` need nothing but
# Python 3.11 or 3.12 with its venv module: they make .venv and install what constraints.txt pins.

PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-faults test-cluster lint format fuzz clean

demo: .venv/installed  ## a synthetic cohort from DICOM to a report
	$(BIN)/python scripts/demo.py demo

test: .venv/installed-dev  ## the test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-faults: .venv/installed-dev .venv/azurite/installed  ## things really killed, disks full, stores refusing: 30 to 45 minutes
	$(BIN)/python -m pytest -m faults

test-cluster: .venv/installed-cluster  ## `ray up` over three hosts on this machine, as root: 15 to 20 minutes
	$(BIN)/python -m pytest -m cluster tests/test_cluster.py

fuzz: .venv/installed-dev  ## 50,000 mutations of valid series: minutes to an hour
	LUNGCT_FUZZ_EXAMPLES=50000 $(BIN)/python -m pytest tests/test_dicom_hostile.py -k mutations

lint: .venv/installed-dev  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/cli_docs.py --check

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "lungct needs Python 3.11 or 3.12 with venv (Debian: apt install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# What hosts on one machine need besides Python; packages are installed only where a program is missing (Debian, root).
.venv/installed-cluster: .venv/installed
	@test "$$(id -u)" = 0 || { echo "make test-cluster needs root: it makes hosts out of network namespaces" >&2; exit 2; }
	@for p in ip sshd ssh rsync unshare nsenter setpriv ps; do command -v $$p || test -x /usr/sbin/$$p || exit 1; done >/dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
		iproute2 openssh-server openssh-client rsync util-linux procps; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,cluster]'
	@touch $@

# Azure's emulator; without it (npm) the tests of abfs:// are skipped.
.venv/azurite/installed:
	npm install --prefix .venv/azurite --no-audit --no-fund --silent azurite || echo "no npm: the tests of abfs:// are skipped" >&2
	@mkdir -p $(@D) && touch $@

clean:
	rm -rf .venv demo build dist *.egg-info
