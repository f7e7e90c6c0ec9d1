#!/usr/bin/env bash
# Builds the documentation into build/docs/index.html: offline, and any warning is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/environment.sh
setup_environment docs
echo "== Documentation (Sphinx)"
.venv/bin/python -m sphinx -E -a -W --keep-going -q -b html docs build/docs
echo "== Nothing on its pages comes from elsewhere"
if grep -rnoE '(src|srcset|data)="(https?:)?//[^"]*"|<link [^>]*href="(https?:)?//[^"]*"' build/docs --include='*.html' ||
  grep -rnoE '(@import|url\()[^;)]*//[^;)]*' build/docs/_static --include='*.css'; then
  echo "The addresses above belong to other hosts." >&2
  exit 1
fi
echo "Documentation: $PWD/build/docs/index.html"
