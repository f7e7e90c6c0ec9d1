"""What the core install lacks is named, with the command that brings it, where it is asked for."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
HIDE = """
import sys
for name in ("mixedlm", "playwright", "statsmodels", "starlette", "uvicorn"):
    sys.modules[name] = None
"""
ASK = """
import numpy as np
import pandas as pd
from metamer_jax import analysis, comparison, pipeline, report
from metamer_jax.listening.building import build
from metamer_jax.listening.results import tables

trials = pd.DataFrame(
    [
        {"participant": p, "model": m, "layer": "conv1", "correct": (i + p * len(m)) % 2}
        | {"target_id": i, "stimulus_id": f"{m}{i}"}
        for p in range(4) for m in ("a", "bb") for i in range(6)
    ]
)

def ask(name, call):
    try:
        call()
    except ImportError as error:
        print(name, error, sep=": ")

ask("holm", lambda: analysis.intervals.correct(np.array([0.01, 0.02])))
ask("gee", lambda: analysis.gee(trials, kinds=None))
ask("kappa", lambda: analysis.error_consistency(trials, None, kinds=None))
ask("mixed", lambda: analysis.mixed_model(trials, kinds=None))
ask("recognition", lambda: analysis.recognition(trials, kinds=None, resamples=9))
"""
DRIVER = """
import runpy
sys.argv = ["{0}", "--experiment=none"]
runpy.run_module("experiments.{0}", run_name="__main__")
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", HIDE + code], capture_output=True, text=True, cwd=ROOT
    )


def test_analyses_name_the_extra():
    found = run(ASK)
    assert found.returncode == 0, found.stderr
    told = dict(line.split(": ", 1) for line in found.stdout.splitlines())
    assert set(told) == {"holm", "gee", "kappa", "mixed"}
    for name, text in told.items():
        package = "mixedlm" if name == "mixed" else "statsmodels"
        assert text.endswith(f"needs the package {package}: pip install 'metamer_jax[statistics]'")


@pytest.mark.parametrize(
    "driver, line",
    [
        (
            "serve_listening_test",
            "the listening server needs uvicorn: pip install 'metamer_jax[listening]'",
        ),
        (
            "pilot_listening_test",
            "a pilot needs the package playwright: pip install 'metamer_jax[pilot]'",
        ),
    ],
)
def test_drivers_name_the_extra(driver, line):
    found = run(DRIVER.format(driver))
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].endswith(line)
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("extra", ["listening", "statistics"])
def test_the_scripts_install_the_extra(extra):
    text = (ROOT / "scripts" / "reproduce.sh").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("setup_environment")]
    assert extra in line.split()[1].split(",")
