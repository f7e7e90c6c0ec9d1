#!/usr/bin/env bash
# From a fresh machine to verified metamers: sets up .venv, then runs every stage.
#
#   bash scripts/reproduce.sh                        # preset 'quick' on the embedded corpus
#   bash scripts/reproduce.sh --preset=paper --dataset=mini_speech_commands
#
# Flags are those of `python -m experiments.reproduce --help`. The same command again continues
# a run that was interrupted. Needs Python 3.11 to 3.13 and nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
setup_environment speech,statistics,listening
echo "== Running python -m experiments.reproduce $*"
exec .venv/bin/python -m experiments.reproduce "$@"
