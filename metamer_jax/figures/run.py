"""What a run's networks learnt, how its metamers were found and whether they are any."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.axes
import matplotlib.ticker
import numpy as np
import pandas as pd

from metamer_jax.figures import style
from metamer_jax.figures.style import Figure

MEASURES: Mapping[str, str] = {
    "spearman": "Spearman correlation",
    "pearson_r2": "Pearson R²",
    "snr_db": "SNR (dB)",
}


def training_curves(
    log: pd.DataFrame,
    *,
    measure: str = "accuracy",
    kept_epoch: int | None = None,
    color: str = style.NETWORKS[0],
    title: str = "",
) -> Figure:
    """Draws one measure by epoch: validation (solid) and training (dashed).

    Args:
        log: A row per epoch: epoch, train_<measure>, validation_<measure>.
        measure: "accuracy" or "loss".
        kept_epoch: The epoch whose weights were kept, marked if given.
        color: Of both lines.
        title: Over the panel.

    Returns:
        The figure.
    """
    with style.house_style():
        figure, axis = style.one_panel(5.0, 2.6)
        scale = 100 if measure == "accuracy" else 1
        for name, label, line in (
            ("train", "training", "--"),
            ("validation", "validation", "-"),
        ):
            column = f"{name}_{measure}"
            if column not in log:
                continue
            face = color if line == "-" else "none"
            values = scale * log[column]
            axis.plot(log["epoch"], values, line, color=color, label=label, linewidth=1.5)
            axis.plot(log["epoch"], values, "o", color=color, mfc=face, markersize=3.5)
        if kept_epoch is not None:
            axis.axvline(kept_epoch, color=style.MUTED, linewidth=1, linestyle=":", label="kept")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        label = "Accuracy (%)" if measure == "accuracy" else "Cross-entropy (nats)"
        axis.set(xlabel="Epoch", ylabel=label, title=title)
        axis.legend()
    return figure


def _hold_last(traces: np.ndarray) -> np.ndarray:
    """Fills NaNs along the last axis with the value before: a stopped metamer keeps its error."""
    table = pd.DataFrame(np.atleast_2d(np.asarray(traces, dtype=float)))
    return table.replace([np.inf, -np.inf], np.nan).ffill(axis=1).to_numpy()


def _log_axis(axis: matplotlib.axes.Axes, values: np.ndarray) -> None:
    """A logarithmic error axis with plain numbers, wide enough for at least a decade."""
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min(), values.max()) if values.size else (0.1, 1.0)
    low, high = min(low / 1.2, 0.1), max(high * 1.2, 1.0)
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    axis.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_small_number))
    axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _power_of_ten(value: float, _: int) -> str:
    """Tick label 10⁻⁴ as plain text, which is quicker to set than a formula."""
    exponent = round(math.log10(value)) if value > 0 else 0
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _small_number(value: float, place: int) -> str:
    return f"{value:g}" if value >= 0.009 else _power_of_ten(value, place)


def error_by_stage(
    steps: Mapping[str, np.ndarray], traces: Mapping[str, np.ndarray], *, title: str = ""
) -> Figure:
    """Draws how the relative error of the matched activation falls, a line per stage.

    Args:
        steps: Stage to [point], the gradient steps at which the error was noted.
        traces: Stage to [metamer, point], |activation - target| / |target|; the line is the
            median, the band the 10th to 90th percentile.
        title: Over the panel.

    Returns:
        The figure.
    """
    with style.house_style():
        figure, axis = style.one_panel(5.6, 3.3, top_in=0.52)
        shown = []
        for (stage, values), color in zip(
            traces.items(), style.stage_colors(len(traces)), strict=True
        ):
            values = _hold_last(values)
            low, median, high = np.nanpercentile(values, (10, 50, 90), axis=0)
            axis.fill_between(steps[stage], low, high, color=color, alpha=0.16, linewidth=0)
            axis.plot(steps[stage], median, color=color, label=stage)
            shown.append(low)
        _log_axis(axis, np.concatenate(shown) if shown else np.array([]))
        axis.set(xlabel="Gradient step", ylabel="Relative error")
        axis.set_title(title, pad=19)
        # Above the axes: curves may run anywhere.
        axis.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 0.97), ncols=len(traces), columnspacing=1.2
        )
    return figure


def error_traces(
    steps: np.ndarray,
    traces: np.ndarray,
    *,
    failed: np.ndarray | None = None,
    title: str = "",
    max_lines: int = 24,
) -> Figure:
    """Draws the relative error of single metamers of one stage, and their median.

    Args:
        steps: [point].
        traces: [metamer, point].
        failed: [metamer], True where verification failed: drawn in red.
        title: Over the panel.
        max_lines: At most so many single lines, evenly taken from the list.

    Returns:
        The figure.
    """
    values = _hold_last(traces)
    failed = np.zeros(len(values), bool) if failed is None else np.asarray(failed, bool)
    with style.house_style():
        figure, axis = style.one_panel(2.6, 2.1)
        places = np.unique(np.linspace(0, len(values) - 1, max_lines).round().astype(int))
        for place in places[np.argsort(failed[places], kind="stable")]:
            color = style.FAIL if failed[place] else style.NULL
            axis.plot(steps, values[place], color=color, linewidth=0.8, alpha=0.8)
        axis.plot(steps, np.nanmedian(values, axis=0), color=style.NETWORKS[0])
        _log_axis(axis, values)
        axis.set(title=title, xlabel="Gradient step", ylabel="Relative error")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
    return figure


def null_histogram(
    edges: np.ndarray,
    counts: np.ndarray,
    passed: np.ndarray,
    failed: np.ndarray,
    *,
    maximum: float | None = None,
    measure: str = "spearman",
    title: str = "",
) -> Figure:
    """Draws the null distribution of a measure and marks the metamers over it.

    Args:
        edges: [bin + 1].
        counts: [bin], pairs of different recordings.
        passed: [metamer], the measure of metamers that passed verification.
        failed: [metamer], of those that failed.
        maximum: The largest value among the pairs, drawn as a line.
        measure: A key of `MEASURES`.
        title: Over the panel.

    Returns:
        The figure.
    """
    passed, failed = (np.asarray(v, float)[np.isfinite(v)] for v in (passed, failed))
    counts = np.asarray(counts, dtype=float)
    share = counts / max(counts.sum(), 1)
    floor = share[share > 0].min() / 2 if np.any(share > 0) else 1e-6
    with style.house_style():
        figure, axis = style.one_panel(2.6, 2.1)
        axis.stairs(np.maximum(share, floor), edges, fill=True, color=style.NULL, baseline=floor)
        axis.set_yscale("log")
        # Above the histogram's top a strip is kept free for the metamers, one row per verdict.
        top = max(share.max(), floor * 10)
        span = math.log10(top / floor)
        heights = [top * 10 ** (span * place) for place in (0.16, 0.32)]
        for values, height, color, marker in (
            (failed, heights[0], style.FAIL, "x"),
            (passed, heights[1], style.PASS, "|"),
        ):
            axis.plot(
                values,
                np.full(len(values), height),
                marker,
                color=color,
                markersize=7 if marker == "|" else 5,
                markeredgewidth=1.1,
                alpha=0.75,
                clip_on=False,
            )
        if maximum is not None and math.isfinite(maximum):
            axis.axvline(maximum, color=style.INK, linewidth=0.9, linestyle=":")
        axis.set_ylim(floor, top * 10 ** (span * 0.46))
        everything = np.concatenate([np.asarray(edges, float)[[0, -1]], passed, failed])
        if measure == "snr_db":
            occupied = np.flatnonzero(share > 0)
            low = edges[occupied[0]] if occupied.size else edges[0]
            everything = np.concatenate([[low], edges[-1:], passed, failed])
        pad = 0.02 * (everything.max() - everything.min() or 1.0)
        axis.set_xlim(everything.min() - pad, everything.max() + pad)
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=4))
        axis.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(_power_of_ten))
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set(title=title, xlabel=MEASURES.get(measure, measure), ylabel="Share of pairs")
    return figure


def nulls_by_stage(
    nulls: Mapping[str, tuple[np.ndarray, np.ndarray]], table: pd.DataFrame, *, title: str = ""
) -> Figure:
    """Draws the null distributions of Spearman's correlation, a row a stage, with the metamers.

    Args:
        nulls: Stage to (edges [bin + 1], counts [bin]) of pairs of different recordings.
        table: A row per metamer: stage, spearman, null_max, verdict, decided_by.
        title: Over the panel.

    Returns:
        The figure.
    """
    with style.house_style():
        figure, axis = style.one_panel(6.4, 0.5 * len(nulls) + 0.95, left_in=1.2)
        for place, (stage, (edges, counts)) in enumerate(nulls.items()):
            share = np.asarray(counts, float) / max(np.max(counts), 1)
            axis.stairs(place - 0.7 * share, edges, fill=True, color=style.NULL, baseline=place)
            rows = table[table["stage"] == stage]
            axis.plot(
                rows["null_max"], np.full(len(rows), place - 0.2), "|", color=style.INK, ms=14
            )
            color = np.where(rows["verdict"] == "pass", style.PASS, style.FAIL)
            axis.scatter(rows["spearman"], np.full(len(rows), place - 0.2), s=40, c=color, zorder=3)
        decided = table.drop_duplicates("stage").set_index("stage")["decided_by"]
        names = [
            stage if decided[stage] == "spearman" else f"{stage}\n(error decides)"
            for stage in nulls
        ]
        axis.set_yticks(range(len(nulls)), names)
        axis.set(xlim=(-1, 1.03), ylim=(len(nulls) - 0.7, -0.9), title=title)
        axis.set_xlabel("Spearman correlation with the recording; line: the best of chance")
        axis.grid(False, axis="y")
    return figure


def confusion(counts: np.ndarray, words: Sequence[str], *, title: str = "") -> Figure:
    """Draws which word was taken for which, as percentages of each spoken word.

    Args:
        counts: [word, word], spoken by recognised.
        words: Their names.
        title: Over the panel.

    Returns:
        The figure.

    Raises:
        ValueError: `counts` does not fit `words`.
    """
    counts = np.asarray(counts, dtype=float)
    if counts.shape != (len(words), len(words)):
        raise ValueError(
            f"counts must be [{len(words)}, {len(words)}] for {len(words)} words, "
            f"got {counts.shape}"
        )
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with style.house_style():
        label_in = 0.45 + 0.065 * max(map(len, words))
        size = label_in + 0.33 * max(len(words), 5) + 0.12
        figure, axis = style.one_panel(size, size + 0.2, left_in=label_in, bottom_in=label_in)
        # Numbers of more words than that would be too small to read.
        few = len(words) <= 16
        image = style.percentages(axis, percent, written=percent >= (0.5 if few else np.inf))
        if not few:
            figure.colorbar(image, ax=axis, label="Share of the word spoken (%)", shrink=0.6)
        axis.set_xticks(range(len(words)), words, rotation=45, ha="right")
        axis.set_yticks(range(len(words)), words)
        axis.set(xlabel="Recognised (% of each word spoken)", ylabel="Spoken", title=title)
    return figure
