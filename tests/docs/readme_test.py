"""What the README says exists, exists, and what it shows runs."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

from metamer_jax import configs, models

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_runs(code):
    exec(compile(code, "README.md", "exec"), {})


def commands():
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def modules():
    return sorted(set(re.findall(r"python -m (experiments\.\w+)", "\n".join(commands()))))


def test_every_driver_exists():
    assert modules()
    for module in modules():
        assert importlib.util.find_spec(module), module


def test_every_script_exists():
    scripts = re.findall(r"bash (\S+\.sh)", "\n".join(commands()))
    assert {"scripts/reproduce.sh", "scripts/test.sh"} <= set(scripts)
    for script in scripts:
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("module", modules())
def test_every_flag_is_explained_by_help(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    shown = done.stdout + done.stderr
    name = module.rpartition(".")[2]
    for line in commands():
        script = "reproduce" if "reproduce.sh" in line else None
        if module not in line and script != name:
            continue
        for flag in re.findall(r"--(\w+)", line):
            assert re.search(rf"--(\[no\])?{flag}\b", shown), f"{module} has no --{flag}"


def test_every_choice_in_the_settings_table_exists():
    rows = dict(re.findall(r"^\| `--(\w+)` \| (.*) \|$", README, re.MULTILINE))
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


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
