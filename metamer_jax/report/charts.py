"""A run's figures, drawn for its report: as inline SVG, and as PNG beside it."""

import io
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax import configs, figures, storage
from metamer_jax.report import page, recognition
from metamer_jax.report.contents import RunContents
from metamer_jax.report.sample import unit_keys


def draw(run: RunContents, curves: pd.DataFrame, folder: pathlib.Path | None) -> dict[str, Any]:
    """Draws every chart as inline SVG, and as PNG into `folder`."""
    count = 0

    def finish(figure: figures.Figure, label: str, file: str | None) -> Any:
        nonlocal count
        count += 1
        if folder is not None and file is not None:
            _save_png(figure, folder / file)
        return page.svg(figure, label, f"f{count}")

    training, confusions, errors, error_panels, nulls = {}, {}, {}, {}, {}
    for network in run.networks:
        log, result = run.logs[network], run.results[network]
        if log is not None and "epoch" in log:
            training[network] = [
                finish(
                    figures.training_curves(
                        log,
                        measure=measure,
                        kept_epoch=result.get("best_epoch"),
                        color=figures.network_color(run.networks.index(network)),
                        title=network,
                    ),
                    f"{measure} of {network} by epoch, training and validation",
                    _file_name("training", network, measure),
                )
                for measure in ("accuracy", "loss")
                if f"validation_{measure}" in log
            ]
        counts = np.array(result.get("confusion", []), dtype=float)
        if counts.ndim == 2 and counts.shape == (len(run.words),) * 2:
            confusions[network] = finish(
                figures.confusion(counts, run.words, title=network),
                f"Confusions of {network} on the test recordings",
                _file_name("confusion", network),
            )
        errors[network], error_panels[network] = _draw_errors(run, network, finish)
        nulls[network] = _draw_nulls(run, network, finish)
    return dict(
        recognition=_draw_recognition(run, curves, finish),
        training=training,
        confusions=confusions,
        errors=errors,
        error_panels=error_panels,
        nulls=nulls,
    )


def _draw_recognition(run: RunContents, curves: pd.DataFrame, finish: Callable) -> Any:
    figure = recognition.draw(run, curves)
    if figure is None:
        return None
    label = "Share of metamers recognised, by stage and network; the table has the numbers"
    return finish(figure, label, "recognition.png")


def _draw_errors(run: RunContents, network: str, finish: Callable) -> tuple[Any, list[Any]]:
    steps, traces, panels = {}, {}, []
    for stage in run.stages[network]:
        found = run.traces(network, stage) if (network, stage) in run.ids else None
        if found is None:
            continue
        steps[stage], traces[stage] = found
        targets, seeds = run.ids[network, stage]
        rows = [run.row((network, stage, t, s)) for t in targets for s in seeds]
        failed = np.array([row is not None and not row["passed"] for row in rows])
        panels.append(
            finish(
                figures.error_traces(*found, failed=failed, title=stage),
                f"Relative error of single metamers of {network} at {stage} by gradient step",
                _file_name("error", network, stage),
            )
        )
    if not traces:
        return None, []
    chart = finish(
        figures.error_by_stage(steps, traces, title=network),
        f"Relative error of the metamers of {network} by gradient step, a line per stage",
        _file_name("error", network),
    )
    return chart, panels


def _draw_nulls(run: RunContents, network: str, finish: Callable) -> list[dict[str, Any]]:
    drawn = []
    table = run.metamers
    if table is None:
        return drawn
    for stage in run.stages[network]:
        rows = table[(table["network"] == network) & (table["stage"] == stage)]
        facts = run.null.get(network, {}).get(stage, {})
        charts = {}
        for measure in figures.MEASURES:
            name = f"{network}/{stage}/{measure}"
            edges = run.null_histograms.get(f"{name}_edges")
            counts = run.null_histograms.get(f"{name}_counts")
            if edges is None or counts is None:
                continue
            values = rows.get(measure, pd.Series(np.nan, index=rows.index)).to_numpy(float)
            passed = rows["passed"].to_numpy(bool)
            figure = figures.null_histogram(
                edges,
                counts,
                values[passed],
                values[~passed],
                maximum=facts.get(measure, {}).get("max"),
                measure=measure,
                title=stage,
            )
            file = _file_name("null", network, stage, measure) if measure == "spearman" else None
            label = (
                f"Null distribution of {figures.MEASURES[measure]} at {stage} of {network}; "
                f"{passed.sum()} metamers passed, {(~passed).sum()} failed"
            )
            charts[measure] = finish(figure, label, file)
        if charts:
            decided = []
            if "decided_by" in rows:
                decided = sorted(set(rows["decided_by"].dropna()))
            drawn.append(dict(stage=stage, charts=charts, facts=facts, decided_by=decided))
    return drawn


def save_pairs(run: RunContents, units: Sequence[tuple[int, int]], folder: pathlib.Path) -> None:
    """Saves one pair of cochleagrams per network and stage: that of the first target drawn."""
    rate_hz = run.config.cochleagram.envelope_rate_hz
    for unit in units[:1]:
        target = run.picture(unit[0])
        for key in unit_keys(run, unit):
            metamer = run.picture(key)
            if target is None or metamer is None:
                continue
            figure = figures.cochleagram_pair(
                target,
                metamer,
                center_hz=run.center_hz(len(target)),
                frame_rate_hz=rate_hz,
                titles=(f"“{run.word(unit[0])}”", f"metamer: {key[0]}, {key[1]}"),
                unit=unit_of_envelope(run.config.cochleagram),
            )
            _save_png(figure, folder / _file_name("cochleagrams", key[0], key[1]))


def unit_of_envelope(config: configs.CochleagramConfig) -> str:
    """The unit of a compressed envelope."""
    return "dB" if config.compression == "decibel" else "arbitrary units"


def _save_png(figure: figures.Figure, path: pathlib.Path) -> None:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor="white")
    storage.write_bytes(path, file.getvalue())


def _file_name(*parts: str) -> str:
    return "_".join(re.sub(r"[^\w-]+", "-", part) for part in parts) + ".png"


def count_yields(run: RunContents, by: str | None = None) -> pd.DataFrame | None:
    """Counts metamers, class matches and passes by network and stage (and `by`)."""
    if run.metamers is None or run.metamers.empty:
        return None
    groups = run.metamers.groupby(["network", "stage", *([by] if by else [])], sort=False)
    optimised = {}
    if "passed_optimised" in run.metamers:
        optimised = {"passed_optimised": ("passed_optimised", "sum")}
    return groups.agg(
        metamers=("verdict", "size"),
        class_match=("class_match", "sum"),
        passed=("passed", "sum"),
        **optimised,
        median_relative_error=("relative_error", "median"),
        median_spearman=("spearman", "median"),
    ).reset_index()
