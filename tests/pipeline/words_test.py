"""Tests that a word is what it is called, from the recordings to the listeners' answers."""

import pytest
import small_run

from metamer_jax import configs, pipeline, runs
from metamer_jax.listening.building import material
from metamer_jax.listening.config import ListeningConfig
from metamer_jax.report.run_folder import RunFolder

WORDS = ("007", "NA", "nan", "null")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    small_run.write_recordings(folder, per_word=60)
    for old, new in zip(("rise", "fall"), (WORDS[:2], WORDS[2:]), strict=True):
        for number, path in enumerate(sorted((folder / old).iterdir())):
            target = folder / new[number % 2] / path.name
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
        (folder / old).rmdir()
    config = small_run.config(folder, folder / ".cache", stages=("dense",), targets_per_word=1)
    config = configs.replace_all(config, {"training.epochs": 1, "synthesis.steps": 5})
    made = tmp_path_factory.mktemp("run")
    page = pipeline.reproduce(config, made)
    return runs.read_run(made), page.read_text("utf-8")


def test_words_are_text_in_every_table_and_in_the_report(run):
    opened, page = run
    recordings = pipeline.load_recordings(opened)
    assert recordings.words == WORDS
    table = pipeline.read_verified(opened)
    assert sorted(table["word"]) == sorted(WORDS)
    assert set(table["target_prediction"]) | set(table["prediction"]) <= set(WORDS)
    shown = RunFolder(opened.folder)
    for name in ("verification/metamers.csv", "targets/targets.csv"):
        assert sorted(shown.csv(name)["word"]) == sorted(WORDS)
    assert not shown.problems
    listening = ListeningConfig(verified="any", natural_trials=0, catch_trials=0, practice_trials=0)
    assert sorted(material.load(opened, listening).metamers["word"]) == sorted(WORDS)
    for word in WORDS:
        assert f">{word}<" in page or f"“{word}”" in page, word
