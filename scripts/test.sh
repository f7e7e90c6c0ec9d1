#!/usr/bin/env bash
# Sets up .venv with what development needs, checks style, and runs the tests.
#
#   bash scripts/test.sh [pytest arguments]          # e.g. tests/metamers_test.py -k seeds
#
# Browser tests need a Chromium or Chrome on the PATH and are skipped, with a word, without one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
setup_environment dev
echo "== Style (ruff)"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
echo "== Types (pyrefly)"
.venv/bin/pyrefly check --python-interpreter-path=.venv/bin/python --output-format=min-text
echo "== Tests (pytest)"
# A few large XLA programs are compiled on one thread each: two processes use two cores.
exec .venv/bin/python -m pytest -n 2 --dist worksteal -q "$@"
