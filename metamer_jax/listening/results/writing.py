"""The results written to a folder: tables, figures, reports."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import pandas as pd

from metamer_jax import analysis, storage
from metamer_jax.analysis import suite
from metamer_jax.listening import listeners, responses
from metamer_jax.listening.results import exclusions, report
from metamer_jax.listening.results.summary import summary
from metamer_jax.listening.results.tables import Results, analyze


def write(
    results: Results,
    read: responses.Responses,
    folder: str | os.PathLike,
    *,
    panel: pd.DataFrame | None = None,
    about: pd.DataFrame | None = None,
) -> pathlib.Path:
    """Writes tables, trials, figures, report.html and summary.json; replaces earlier ones.

    Args:
        results: From `analyze`.
        read: What it was given.
        folder: Where.
        panel: Trials of machine listeners to show beside the answers, or None.
        about: A row per machine listener for the report (`listeners.accuracy`), or None.

    Returns:
        The folder.
    """
    folder = pathlib.Path(folder)
    responses.write_trials(folder / "trials.csv", read.trials)
    responses.write_trials(folder / "trials_counted.csv", results.exclusions.trials)
    accounts = {
        "sessions": results.exclusions.sessions,
        "exclusions": results.exclusions.counts.assign(source=results.source),
    }
    for name, told in (("questionnaire", read.questionnaire), ("confidence", read.confidence)):
        if told is None or told.empty:
            (folder / f"{name}.csv").unlink(missing_ok=True)
        else:
            told = told.assign(source=results.source)
            storage.write_csv(folder / f"{name}.csv", responses.neutral(told))
    for name, table in (accounts | results.tables).items():
        storage.write_csv(folder / f"{name}.csv", responses.neutral(table))
        storage.write_text(folder / f"{name}.json", analysis.to_json(table) + "\n")
    for name in results.omitted:  # Of an earlier analysis.
        for suffix in (".csv", ".json"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
    report.write(results, read, folder, panel=panel, about=about)
    storage.write_json(folder / "summary.json", summary(results, read))
    return folder


_CONFIG = suite.AnalysisConfig()
_EVERYBODY = exclusions.ExclusionRules(
    reference_min=None, catch_min=None, headphones=False, answered_min=None, repeats=False
)


def write_machines(
    trials: pd.DataFrame,
    folder: str | os.PathLike,
    *,
    words: Sequence[str],
    about: pd.DataFrame | None = None,
    config: suite.AnalysisConfig = _CONFIG,
) -> tuple[Results, responses.Responses]:
    """Analyses what machine listeners answered, and writes it as `write` does; nobody is excluded.

    Args:
        trials: From `listeners.listen_to_run` or `listen_to_experiment`; what networks say of
            their own metamers is kept in trials.csv and in the matrix, and left out of all else.
        folder: Where.
        words: The choices.
        about: From `listeners.accuracy`; also written as listeners.csv.
        config: How they are analysed.

    Returns:
        As from `analyze`, and all trials.
    """
    folder = pathlib.Path(folder)
    responses.write_trials(folder / "trials.csv", trials)
    read = responses.read(folder / "trials.csv")
    found = analyze(
        dataclasses.replace(read, trials=listeners.of_others(read.trials)),
        config,
        rules=_EVERYBODY,
        words=words,
    )
    if about is not None:
        storage.write_csv(folder / "listeners.csv", about)
    write(found, read, folder, panel=read.trials, about=about)
    return found, read
