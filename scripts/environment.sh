# Sourced by the other scripts: makes .venv with the package and the extras asked for.
#
#   setup_environment speech        # pip install -e .[speech]
#
# Does nothing where that was done before with the same setup.py.

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c \
      'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
      2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11, 3.12 or 3.13 with its venv module is needed and was not found on the PATH;" \
    "set PYTHON=/path/to/python to name one." >&2
  return 1
}

setup_environment() {
  local extras=$1 python stamp wanted
  stamp=".venv/installed-$extras"
  wanted=$(cksum <setup.py)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    echo "== Making .venv with $("$python" --version)"
    "$python" -m venv .venv
  fi
  echo "== Installing metamer_jax[$extras] and what it needs into .venv (a minute or two)"
  .venv/bin/python -m pip install -qq --disable-pip-version-check -e ".[$extras]"
  echo "$wanted" >"$stamp"
}

# PyTorch, the packages that its tests run unmodified, and what these need, beside what is in .venv.
setup_torch() {
  local pip=(.venv/bin/python -m pip install -qq --disable-pip-version-check) wanted
  wanted=$(cksum setup.py scripts/environment.sh)
  if [ "$(cat .venv/installed-with-torch 2>/dev/null)" = "$wanted" ]; then
    return
  fi
  echo "== Installing PyTorch and what its tests run"
  # A build for CPUs, where one is offered; the plain name brings gigabytes for GPUs.
  "${pip[@]}" "torch==2.13.0+cpu" 2>/dev/null || "${pip[@]}" "torch==2.13.0"
  "${pip[@]}" -e ".[dev,torch,torch-tests]"
  # These ask for torchaudio and a compiler, which their networks do without.
  "${pip[@]}" --no-deps "torchcrepe==0.0.24" "resemblyzer==0.1.4"
  echo "$wanted" >.venv/installed-with-torch
}
