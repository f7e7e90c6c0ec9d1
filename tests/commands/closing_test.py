"""What a finished run says in the terminal, against tables made by hand."""

import logging as standard_logging

import absl.logging
import pytest

from metamer_jax import configs, runs, storage
from metamer_jax.commands import closing, drivers


def test_the_table_says_what_the_files_say(tmp_path):
    run = runs.Run(tmp_path, configs.ExperimentConfig(), resumed=True)
    row = {"network": "a", "metamers": 4, "class_match": 4, "median_spearman": 1.0}
    storage.write_csv(
        run.path("verification", "yields.csv"),
        [
            {**row, "stage": "conv1", "word": "no", "passed": 1, "median_relative_error": 0.5},
            {**row, "stage": "conv1", "word": "all", "passed": 3, "median_relative_error": 0.012},
            {**row, "stage": "dense", "word": "all", "passed": 0, "median_relative_error": 0.2},
        ],
    )
    heard = [("a", 1.0), ("b", 0.25), ("c", 0.75)]
    storage.write_csv(
        run.path("verification", "recognition.csv"),
        [
            {"listener": name, "model": "a", "layer": "conv1", "own": name == "a", "proportion": p}
            for name, p in heard
        ],
    )
    storage.write_json(run.path("networks", "a", "result.json"), {"test_accuracy": 0.826})
    lines = [line.split() for line in closing.table(run).splitlines()]
    assert lines[1:] == [
        ["a", "83%", "conv1", "3/4", "1.2e-02", "50%"],
        ["a", "83%", "dense", "0/4", "2.0e-01", "-"],
    ]
    run.path("verification", "recognition.csv").unlink()
    assert [line.split()[-1] for line in closing.table(run).splitlines()[1:]] == ["-", "-"]


@pytest.fixture
def quiet():
    handler, jax_log = absl.logging.get_absl_handler(), standard_logging.getLogger("jax")
    before = jax_log.level
    drivers._be_quiet()
    yield handler
    handler.setFormatter(absl.logging.PythonFormatter())
    jax_log.setLevel(before)


def test_lines_are_what_they_say_and_backends_that_are_not_there_are_no_news(quiet):
    def line(level):
        return quiet.format(
            standard_logging.LogRecord("x", level, "f.py", 1, "%d of %d", (1, 2), None)
        )

    assert line(standard_logging.INFO) == "1 of 2"
    assert line(standard_logging.WARNING) == "warning: 1 of 2"
    backends = standard_logging.getLogger("jax._src.xla_bridge")
    assert not backends.isEnabledFor(standard_logging.INFO)
    assert backends.isEnabledFor(standard_logging.WARNING)
