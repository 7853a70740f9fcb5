# Everything that people and CI do with this checkout. The targets need only Python 3.11 or 3.12 with its venv module,
# except where they say more: each creates .venv and installs the versions that constraints.txt pins.

PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-fast test-faults test-cluster test-browser lint format fuzz clean

demo: .venv/installed  ## run everything on a synthetic cohort, from DICOM to a report
	$(BIN)/python scripts/demo.py demo

test: .venv/installed-dev  ## run the test suite: under 8 minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: .venv/installed-dev  ## run the tests without Ray and stores, while you edit: under a minute
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile \
		-m 'not ray and not stores and not slow and not faults and not cluster and not browser'

test-faults: .venv/installed-dev .venv/azurite/installed  ## kill processes, fill disks, refuse requests: 30 to 45 minutes
	$(BIN)/python -m pytest -m faults

test-cluster: .venv/installed-cluster  ## run `ray up` over three hosts on this machine, as root: 15 to 20 minutes
	$(BIN)/python -m pytest -m cluster tests/test_cluster.py

test-browser: .venv/installed-browser  ## look at reports in headless Chromium, wide and narrow, light and dark: a minute
	$(BIN)/python -m pytest -m browser tests/test_reporting_browser.py

fuzz: .venv/installed-dev  ## read 50,000 mutated series: minutes to an hour
	LUNGCT_FUZZ_EXAMPLES=50000 $(BIN)/python -m pytest tests/test_dicom_hostile.py tests/test_dicom_differential.py \
	    -k "mutated or noise or damaged_files"

lint: .venv/installed-dev  ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/cli_docs.py --check

format: .venv/installed-dev  ## rewrite the code in the project's style
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

# Programs that hosts on one machine need besides Python; where one is missing, Debian's packages are installed.
HOST_PROGRAMS := ip nsenter ps rsync setpriv ssh sshd unshare
HOST_PACKAGES := iproute2 openssh-client openssh-server procps rsync util-linux

.venv/installed-cluster: .venv/installed
	@test "$$(id -u)" = 0 || { echo "make test-cluster needs root, to run hosts in network namespaces" >&2; exit 2; }
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=; \
	for p in $(HOST_PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	test -z "$$missing" || { echo "installing what is missing:$$missing" >&2; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends $(HOST_PACKAGES); }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,cluster]'
	@touch $@

# Debian's Chromium and a font; Playwright brings no browser of its own.
.venv/installed-browser: .venv/installed
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 || { \
		echo "make test-browser needs Chromium, which only root can install (Debian: apt install chromium)" >&2; exit 2; }; \
		echo "installing what is missing: chromium" >&2; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,browser]'
	@touch $@

# Azure's emulator, which needs npm; without it the tests of abfs:// are skipped.
.venv/azurite/installed:
	npm install --prefix .venv/azurite --no-audit --no-fund --silent azurite || echo "Azurite could not be installed (is npm?): the tests of abfs:// are skipped" >&2
	@mkdir -p $(@D) && touch $@

clean:
	rm -rf .venv demo build dist *.egg-info
