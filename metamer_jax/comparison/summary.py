"""The report of a comparison: tables, figures and what they say, in report/ of its folder."""

import io
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from metamer_jax import storage
from metamer_jax.comparison import bootstrap, effects, plots, report, runner, significance, tables
from metamer_jax.comparison.entries import (
    CONNECTION,
    AnyEntry,
    SavedEntry,
    planned_contrasts,
)
from metamer_jax.comparison.tables import Answers

FOLDER = "report"
_DPI = 120  # Small enough for git.


def write(
    home: runner.ComparisonFolder, *, resamples: int = effects.DEFAULT.resamples
) -> pathlib.Path:
    """Writes the report of what is there so far.

    Leaves report/: recognition.csv (an answer a row), matrix.csv and matrix.npz, curves.csv,
    differences.csv, magnitudes.csv, tests.csv, anova.csv, yields.csv, accuracy.csv, figures as PNG,
    and report.md.

    Args:
        home: The comparison's folder.
        resamples: Bootstrap samples.

    Returns:
        Path of report.md.

    Raises:
        ValueError: No metamers have been cross-tested yet.
    """
    resampling = effects.Resampling(resamples)
    answers = tables.read_answers(home)
    entries = effects.entries_of(answers)
    contrasts = planned_contrasts(home.entries)
    trials = tables.recognition(answers)
    found = {
        "recognition": trials,
        "matrix": effects.matrix(answers, resampling),
        "curves": effects.curves(answers, resampling),
        "differences": effects.differences(answers, contrasts, resampling),
        "magnitudes": effects.magnitudes(answers, contrasts, resampling),
        "tests": significance.pairwise(answers, trials, contrasts),
        "anova": significance.variance(answers),
        "yields": yields(tables.verification(home), resampling),
        "accuracy": tables.accuracy(home),
    }
    folder = home.path(FOLDER)
    for name, table in found.items():
        storage.write_csv(folder / f"{name}.csv", table)
    storage.write_npz(folder / "matrix.npz", _arrays(answers))
    for name, figure in _figures(answers, found, entries):
        storage.write_bytes(folder / f"{name}.png", _png(figure))
    text = "\n".join(report.report(home, answers, found, entries, resampling)) + "\n"
    storage.write_text(folder / "report.md", text)
    return folder / "report.md"


def _png(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, facecolor="white")
    return file.getvalue()


def yields(table: pd.DataFrame, resampling: effects.Resampling) -> pd.DataFrame:
    """How many metamers are metamers: a row per entry and stage.

    Args:
        table: From `tables.verification`.
        resampling: Of seeds and targets.

    Returns:
        entry, stage, seeds, metamers, then class_match, passed (shares), relative_error and
        spearman (medians), each with <name>_low and <name>_high.
    """
    rows = []
    for (entry, stage), group in (
        table.groupby(["entry", "stage"], sort=False) if len(table) else ()
    ):
        row = {"entry": entry, "stage": stage, "seeds": group["network_seed"].nunique()}
        row["metamers"] = len(group)
        scores = {
            "class_match": group["class_match"].astype(float),
            "passed": (group["verdict"] == "pass").astype(float),
            "relative_error": group["relative_error"],
            "spearman": group["spearman"],
        }
        for name, values in scores.items():
            grid = (
                group.assign(value=values)
                .pivot_table(index="network_seed", columns=["target_id", "seed"], values="value")
                .to_numpy(float)
            )
            share = name in ("class_match", "passed")
            make = bootstrap.mean_interval if share else bootstrap.median_interval
            middle, low, high = make(
                grid,
                resamples=resampling.resamples,
                seed=resampling.seed,
                confidence=resampling.confidence,
            )
            row |= {name: middle, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _arrays(answers: Answers) -> dict[str, np.ndarray]:
    return {
        "scorer": np.array([m.name for m in answers.scorers]),
        "maker": np.array([m.name for m in answers.makers]),
        "stage": np.array(answers.stages),
        "word": np.array(answers.words),
        "target_id": answers.target_ids,
        "label": answers.labels,
        "heard": answers.heard,
        "natural": answers.natural,
        "verified": answers.passed,
    }


def panels(entries: Sequence[AnyEntry]) -> list[tuple[str, list[AnyEntry]]]:
    """Groups entries for figures: as published, at equal sizes, other trainings, saved models."""
    others = [e for e in entries if isinstance(e, SavedEntry)]
    plain = [e for e in entries if e.training is None and not e.variant and e not in others]
    first = [e for e in plain if e.connection == entries[0].connection]
    found = {"As published": plain}
    for contrast in planned_contrasts(entries):
        kind, _, size = contrast.question.partition(", ")
        if kind == CONNECTION and size:
            found.setdefault(size.capitalize(), [contrast.against]).append(contrast.of)
    rest = [e for e in entries if e.training or (e.variant and not e.variant.endswith("matched"))]
    if rest:
        found["Other pooling and training"] = [*first, *rest]
    if others:
        found["Saved models"] = [*first, *others]
    return [(title, shown) for title, shown in found.items() if shown]


def _figures(answers, found, entries) -> Iterator[tuple[str, object]]:
    count = len(answers.target_ids)
    for stage in [*answers.stages, effects.ALL]:
        yield (
            f"matrix_{stage}",
            plots.recognition_matrix(found["matrix"], entries, stage, num_targets=count),
        )
    grouped = panels(entries)
    for who, name in ((effects.ITSELF, "curves_itself"), (effects.OTHERS, "curves_others")):
        if (found["curves"]["who"] == who).any():
            yield (
                name,
                plots.curves(
                    found["curves"],
                    grouped,
                    answers.stages,
                    who=who,
                    chance=answers.chance,
                    entries=entries,
                ),
            )
    told = found["differences"].dropna(subset="difference")
    for stage in dict.fromkeys(told["stage"]):
        yield f"differences_{stage}", plots.differences(told, entries, stage)
