"""What the README and docs/ show runs, exists, and is what they say."""

import collections
import json
import os
import re
import subprocess
import sys

import pages
import pytest

import metamer_jax
from metamer_jax import configs, models
from metamer_jax.commands.__main__ import MODULES

CALLS = [call for page in pages.PAGES for call in pages.calls(page)]
# Parses the flags of commands as their drivers would, each in a fork, since drivers share names.
PARSE = """
import importlib, json, os, sys
from absl import flags
from metamer_jax import analysis, comparison, listening, pipeline, report  # Once for all.

def refused(module, commands):
    importlib.import_module(module)
    for where, arguments in commands:
        try:
            left = flags.FLAGS([module, *arguments])[1:]
        except flags.Error as error:
            return f"{where}: {error}"
        if left:
            return f"{where}: not a flag: {left}"
        flags.FLAGS.unparse_flags()

wrong = False
for module, commands in json.load(sys.stdin).items():
    if os.fork():
        wrong |= os.wait()[1] != 0
        continue
    reason = "not parsed"  # Where it cannot be imported.
    try:
        reason = refused(module, commands)
    finally:
        print(f"{module}: {reason}" if reason else "", file=sys.stderr, flush=True)
        os._exit(bool(reason))  # At once: what ends a process as large as this takes a second.
sys.exit(wrong)
"""


def sessions():
    """Pages with something to run: without what is slow, and, where something is, with it."""
    found = []
    for page in pages.PAGES:
        slow = {block.is_slow for block in pages.blocks(page) if block.runs}
        if False in slow:
            found.append(pytest.param(page, False, id=page))
        if True in slow:
            found.append(pytest.param(page, True, id=f"{page} whole", marks=pytest.mark.slow))
    return found


@pytest.mark.parametrize("page, slow", sessions())
def test_it_runs_from_top_to_bottom(page, slow, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(pages.link_checkout(tmp_path))
    names, printed = {}, ""
    for block in pages.blocks(page):
        if block.words == ("output",):
            assert printed.strip() == block.text.strip(), block
        if not block.runs or (block.is_slow and not slow):
            continue
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), names)
            printed = capsys.readouterr().out
        else:
            run_commands(block, tmp_path, timeout_s=None if slow else 60)


def run_commands(block, folder, timeout_s):
    """Runs a block of bash as a reader does who has activated .venv."""
    # The suite itself is not run again within the suite.
    lines = [c for c in pages.command_lines(block) if not re.search(r"pytest|scripts/test\.sh", c)]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(["source .venv/bin/activate", *lines])],
        cwd=folder,
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"},  # They pay in whole runs.
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,  # What takes longer says so: "bash slow".
    )
    assert done.returncode == 0, f"{block}:\n{done.stdout[-5000:]}"


def test_every_flag_exists():
    asked = collections.defaultdict(list)
    for block, target, arguments in CALLS:
        module = {"scripts/reproduce.sh": "experiments.reproduce"}.get(target, target)
        if module == "metamer_jax.commands":
            length = 2 if arguments[0] == "listen" else 1
            module = f"{module}.{MODULES[' '.join(arguments[:length])]}"
            arguments = arguments[length:]
        if module.startswith(("experiments.", "metamer_jax.c")) and "--help" not in arguments:
            asked[module].append((str(block), arguments))
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps(asked),
        cwd=pages.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_program_is_known():
    assert {"experiments.reproduce", "scripts/reproduce.sh", "scripts/test.sh"} <= {
        target for _, target, _ in CALLS
    }
    for block, target, arguments in CALLS:
        if target.endswith(".sh"):
            assert (pages.ROOT / target).is_file(), block
        elif target == "pytest":
            named = [word for word in arguments if word.startswith("tests")]
            assert all((pages.ROOT / word).exists() for word in named), block


@pytest.mark.parametrize("page", pages.PAGES)
def test_words_behind_a_language_mean_something(page):
    for block in pages.blocks(page):
        assert set(block.words) <= {"slow", "output", *pages.NEEDS}, block
        if block.language == "python" and not block.runs:
            compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_link_leads_to_a_file(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", pages.text_of(page)):
        if "://" not in link and not link.startswith("#"):
            path = (pages.ROOT / page).parent / link.partition("#")[0]
            assert path.exists(), f"{page}: {link}"


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_name_of_the_package_exists(page):
    for name in set(re.findall(r"\bmj\.([A-Za-z]\w*)", pages.text_of(page))):
        assert hasattr(metamer_jax, name), name


@pytest.mark.parametrize("page", pages.PAGES)
def test_every_path_that_is_named_exists(page):
    named = re.findall(
        r"`((?:metamer_jax|experiments|tests|scripts)/[\w/.]+)`", pages.text_of(page)
    )
    for path in named:
        assert (pages.ROOT / path).exists(), path


def test_every_choice_in_the_table_of_settings_exists():
    table = pages.text_of("docs/settings.md")
    rows = dict(re.findall(r"^\| `--(\w+)` \| (.*) \|$", table, re.MULTILINE))
    rows["training"] = table.partition("## Recipes of training")[2].partition("\n## ")[0]
    known = {
        "preset": configs.PRESETS,
        "dataset": configs.DATASETS,
        "training": configs.TRAINING_RECIPES,
        "recipe": configs.SYNTHESIS_RECIPES,
        "split": ("random", "speaker", "official"),
        "networks": models.MODELS,
    }
    assert set(rows) == set(known)
    for flag, choices in known.items():
        assert all(f"`{choice}`" in rows[flag] for choice in choices), flag


def test_every_room_is_in_the_reference():
    reference = "".join(pages.text_of(p) for p in pages.PAGES if p.startswith("docs/api/"))
    shown = set(re.findall(r"automodule:: metamer_jax\.(\w+)", reference))
    rooms = {path.parent.name for path in (pages.ROOT / "metamer_jax").glob("*/__init__.py")}
    assert rooms <= shown


def test_the_readme_is_short():
    assert len(pages.text_of("README.md").splitlines()) < 150
