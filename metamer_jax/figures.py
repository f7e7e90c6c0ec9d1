"""Figures of a run: every function takes arrays or a table and returns a matplotlib `Figure`.

Nothing here reads or writes files or keeps state: figures are made without pyplot, so no backend
is chosen and none has to be closed. The panels are small; a page or a slide arranges them.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.figure
import matplotlib.ticker
import numpy as np
import pandas as pd

Figure = matplotlib.figure.Figure

# A page replaces these exact values by its theme's, so that a figure follows light and dark.
INK = "#22303c"
MUTED = "#66717c"
GRID = "#d5dbe1"
NULL = "#aab4be"

PASS = "#2a8f5b"
FAIL = "#cc4436"
NETWORKS = ("#2f78c4", "#d9702b", "#2f9e6e", "#a55bc4", "#c2a21d", "#c74f77", "#4aa3b8", "#7d6b5d")
_STAGES = ("#1f9a8a", "#3d8fd1", "#8a70d6", "#c65a9f", "#de6f4a")
COLORMAP = "magma"

MEASURES: Mapping[str, str] = {
    "spearman": "Spearman correlation",
    "pearson_r2": "Pearson R²",
    "snr_db": "SNR (dB)",
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draws in the style of all figures within the block."""
    with matplotlib.rc_context(
        {
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlecolor": INK,
            "axes.labelsize": 9,
            "axes.labelcolor": INK,
            "axes.edgecolor": MUTED,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.facecolor": "none",
            "grid.color": GRID,
            "grid.linewidth": 0.6,
            "figure.facecolor": "none",
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.8,
        }
    ):
        yield


def one_panel(
    width_in: float,
    height_in: float,
    *,
    left_in: float = 0.6,
    bottom_in: float = 0.48,
    top_in: float = 0.3,
) -> tuple[Figure, matplotlib.axes.Axes]:
    """One axes in margins of fixed size: panels line up, and no layout has to be solved."""
    figure = Figure(figsize=(width_in, height_in))
    figure.subplots_adjust(
        left=left_in / width_in,
        right=1 - 0.12 / width_in,
        bottom=bottom_in / height_in,
        top=1 - top_in / height_in,
    )
    return figure, figure.add_subplot()


def _power_of_ten(value: float, _: int) -> str:
    """Tick label 10⁻⁴ as plain text, which is quicker to set than a formula."""
    exponent = round(math.log10(value)) if value > 0 else 0
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _small_number(value: float, place: int) -> str:
    return f"{value:g}" if value >= 0.009 else _power_of_ten(value, place)


def network_color(index: int) -> str:
    """Returns the colour of the network at this place in the run's list."""
    return NETWORKS[index % len(NETWORKS)]


def stage_colors(num_stages: int) -> list[str]:
    """Returns `num_stages` colours, ordered from the first stage to the last."""
    colors = matplotlib.colors.LinearSegmentedColormap.from_list("stages", _STAGES)
    places = np.linspace(0, 1, num_stages) if num_stages > 1 else [0.0]
    return [matplotlib.colors.to_hex(colors(place)) for place in places]


def frequency_ticks(
    center_hz: np.ndarray, wanted_hz: Sequence[float] = (100, 500, 1000, 2000, 4000)
) -> list[tuple[float, float]]:
    """Places ticks on a channel axis.

    Args:
        center_hz: [channel], centre frequencies, Hz, ascending.
        wanted_hz: Frequencies to mark; those outside the channels are left out.

    Returns:
        Pairs (frequency in Hz, channel as a fractional index).
    """
    center_hz = np.asarray(center_hz, dtype=float)
    inside = [f for f in wanted_hz if center_hz[0] <= f <= center_hz[-1]]
    return [(f, float(np.interp(f, center_hz, np.arange(len(center_hz))))) for f in inside]


def hz_label(frequency_hz: float) -> str:
    """Writes 500 as "500" and 4000 as "4k"."""
    return f"{frequency_hz / 1000:g}k" if frequency_hz >= 1000 else f"{frequency_hz:g}"


def cochleagram_pair(
    target: np.ndarray,
    metamer: np.ndarray,
    *,
    center_hz: np.ndarray,
    frame_rate_hz: float,
    titles: tuple[str, str] = ("target", "metamer"),
) -> Figure:
    """Draws a target's cochleagram beside its metamer's, on the target's colour scale.

    Args:
        target: [channel, frame].
        metamer: [channel, frame].
        center_hz: [channel], centre frequencies, ascending.
        frame_rate_hz: Frames per second.
        titles: Over the left and the right panel.

    Raises:
        ValueError: The two differ in shape, or `center_hz` does not fit them.
    """
    target, metamer = np.asarray(target), np.asarray(metamer)
    if target.ndim != 2 or target.shape != metamer.shape:
        raise ValueError(
            f"target and metamer must be [channel, frame] and alike, got {target.shape} and "
            f"{metamer.shape}"
        )
    if len(center_hz) != target.shape[0]:
        raise ValueError(f"center_hz must hold {target.shape[0]} channels, got {len(center_hz)}")
    ticks = frequency_ticks(center_hz)
    with house_style():
        figure = Figure(figsize=(6.4, 2.9), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        for axis, values, title in zip(axes, (target, metamer), titles, strict=True):
            image = axis.imshow(
                values,
                origin="lower",
                aspect="auto",
                cmap=COLORMAP,
                vmin=0,
                vmax=float(np.nanmax(target)) or 1.0,
                extent=(0, 1000 * values.shape[1] / frame_rate_hz, -0.5, len(values) - 0.5),
            )
            axis.set(title=title, xlabel="Time (ms)")
            axis.grid(False)
            axis.set_yticks([place for _, place in ticks], [hz_label(f) for f, _ in ticks])
        axes[0].set_ylabel("Frequency (Hz)")
        figure.colorbar(image, ax=axes, label="Compressed envelope", pad=0.01)
    return figure


def training_curves(
    log: pd.DataFrame,
    *,
    measure: str = "accuracy",
    kept_epoch: int | None = None,
    color: str = NETWORKS[0],
    title: str = "",
) -> Figure:
    """Draws one measure by epoch: validation (solid) and training (dashed).

    Args:
        log: A row per epoch: epoch, train_<measure>, validation_<measure>.
        measure: "accuracy" or "loss".
        kept_epoch: The epoch whose weights were kept, marked if given.
        color: Of both lines.
        title: Over the panel.
    """
    with house_style():
        figure, axis = one_panel(5.0, 2.6)
        scale = 100 if measure == "accuracy" else 1
        for name, label, style in (
            ("train", "training", "--"),
            ("validation", "validation", "-"),
        ):
            column = f"{name}_{measure}"
            if column not in log:
                continue
            face = color if style == "-" else "none"
            values = scale * log[column]
            axis.plot(log["epoch"], values, style, color=color, label=label, linewidth=1.5)
            axis.plot(log["epoch"], values, "o", color=color, mfc=face, markersize=3.5)
        if kept_epoch is not None:
            axis.axvline(kept_epoch, color=MUTED, linewidth=1, linestyle=":", label="kept")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        label = "Accuracy (%)" if measure == "accuracy" else "Cross-entropy"
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
    axis.yaxis.set_major_formatter(_small_number)
    axis.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def error_by_stage(
    steps: Mapping[str, np.ndarray], traces: Mapping[str, np.ndarray], *, title: str = ""
) -> Figure:
    """Draws how the relative error of the matched activation falls, a line per stage.

    Args:
        steps: Stage to [point], the gradient steps at which the error was noted.
        traces: Stage to [metamer, point], |activation - target| / |target|; the line is the
            median, the band the 10th to 90th percentile.
        title: Over the panel.
    """
    with house_style():
        figure, axis = one_panel(5.6, 3.3, top_in=0.52)
        shown = []
        for (stage, values), color in zip(traces.items(), stage_colors(len(traces)), strict=True):
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
    """
    values = _hold_last(traces)
    failed = np.zeros(len(values), bool) if failed is None else np.asarray(failed, bool)
    with house_style():
        figure, axis = one_panel(2.6, 2.1)
        places = np.unique(np.linspace(0, len(values) - 1, max_lines).round().astype(int))
        for place in places[np.argsort(failed[places], kind="stable")]:
            color = FAIL if failed[place] else NULL
            axis.plot(steps, values[place], color=color, linewidth=0.8, alpha=0.8)
        axis.plot(steps, np.nanmedian(values, axis=0), color=NETWORKS[0])
        _log_axis(axis, values)
        axis.set(title=title, xlabel="Gradient step")
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
    """
    passed, failed = (np.asarray(v, float)[np.isfinite(v)] for v in (passed, failed))
    counts = np.asarray(counts, dtype=float)
    share = counts / max(counts.sum(), 1)
    floor = share[share > 0].min() / 2 if np.any(share > 0) else 1e-6
    with house_style():
        figure, axis = one_panel(2.6, 2.1)
        axis.stairs(np.maximum(share, floor), edges, fill=True, color=NULL, baseline=floor)
        axis.set_yscale("log")
        # Above the histogram's top a strip is kept free for the metamers, one row per verdict.
        top = max(share.max(), floor * 10)
        span = math.log10(top / floor)
        heights = [top * 10 ** (span * place) for place in (0.16, 0.32)]
        for values, height, color, marker in (
            (failed, heights[0], FAIL, "x"),
            (passed, heights[1], PASS, "|"),
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
            axis.axvline(maximum, color=INK, linewidth=0.9, linestyle=":")
        axis.set_ylim(floor, top * 10 ** (span * 0.46))
        everything = np.concatenate([np.asarray(edges, float)[[0, -1]], passed, failed])
        if measure == "snr_db":
            occupied = np.flatnonzero(share > 0)
            low = edges[occupied[0]] if occupied.size else edges[0]
            everything = np.concatenate([[low], edges[-1:], passed, failed])
        pad = 0.02 * (everything.max() - everything.min() or 1.0)
        axis.set_xlim(everything.min() - pad, everything.max() + pad)
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=4))
        axis.yaxis.set_major_formatter(_power_of_ten)
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set(title=title, xlabel=MEASURES.get(measure, measure), ylabel="Share of pairs")
    return figure


def yields_bars(yields: pd.DataFrame, *, networks: Sequence[str], stages: Sequence[str]) -> Figure:
    """Draws the share of verified metamers by stage and network; outlines show class match.

    Args:
        yields: Rows network, stage, metamers, class_match, passed, the last three counts; where
            there is a column `word`, its rows "all" are drawn.
        networks: In drawing order.
        stages: In processing order.
    """
    table = yields[yields["word"] == "all"] if "word" in yields else yields
    table = table.set_index(["network", "stage"])
    with house_style():
        figure, axis = one_panel(max(4.0, 0.66 * len(stages) + 0.7), 3.1, top_in=0.55)
        width = 0.8 / len(networks)
        for place, network in enumerate(networks):
            rows = table.reindex([(network, stage) for stage in stages])
            x = np.arange(len(stages)) + (place - (len(networks) - 1) / 2) * width
            color = network_color(place)
            passed, matched = (
                (100 * rows[name] / rows["metamers"]).to_numpy(float)
                for name in ("passed", "class_match")
            )
            axis.bar(x, passed, width * 0.9, color=color, label=network)
            axis.bar(x, matched, width * 0.9, fill=False, edgecolor=color, linewidth=1.1)
        axis.set_xticks(range(len(stages)), stages)
        axis.set(ylim=(0, 104), ylabel="Metamers (%)")
        axis.grid(False, axis="x")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return figure


def confusion(counts: np.ndarray, words: Sequence[str], *, title: str = "") -> Figure:
    """Draws which word was taken for which, as percentages of each spoken word.

    Args:
        counts: [word, word], spoken by recognised.
        words: Their names.
        title: Over the panel.

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
    with house_style():
        label_in = 0.45 + 0.065 * max(map(len, words))
        size = label_in + 0.33 * max(len(words), 5) + 0.12
        figure, axis = one_panel(size, size + 0.2, left_in=label_in, bottom_in=label_in)
        # From a theme-neutral tint to full colour; the numbers carry the values.
        tint = matplotlib.colors.LinearSegmentedColormap.from_list(
            "tint", [(*matplotlib.colors.to_rgb(NETWORKS[0]), a) for a in (0.0, 1.0)]
        )
        axis.imshow(percent, cmap=tint, vmin=0, vmax=100)
        axis.grid(False)
        if len(words) <= 16:
            for row, column in zip(*np.nonzero(percent >= 0.5), strict=True):
                value = percent[row, column]
                axis.text(
                    column,
                    row,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if value > 55 else INK,
                )
        axis.set_xticks(range(len(words)), words, rotation=45, ha="right")
        axis.set_yticks(range(len(words)), words)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
        axis.set(xlabel="Recognised (%)", ylabel="Spoken", title=title)
    return figure


def metamer_grid(
    pictures: Mapping[str, Sequence[tuple[str, np.ndarray]]],
    *,
    center_hz: np.ndarray,
    duration_s: float,
    word: str,
) -> Figure:
    """Draws a target and its metamers from every stage, one row per network.

    Args:
        pictures: Network -> (label, cochleagram [channel, frame]) in order, the target first.
        center_hz: [channel] centre frequencies, Hz, ascending.
        duration_s: Of the sound.
        word: What is spoken.
    """
    rows, columns = len(pictures), max(len(row) for row in pictures.values())
    with house_style():
        figure = Figure(figsize=(1.75 * columns + 0.6, 1.75 * rows + 0.5))
        figure.set_facecolor("white")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        top = max(np.max(image) for row in pictures.values() for _, image in row)
        for line, (network, row) in zip(axes, pictures.items(), strict=True):
            for axis, (label, image) in zip(line, row, strict=True):
                axis.imshow(
                    image,
                    origin="lower",
                    aspect="auto",
                    cmap=COLORMAP,
                    vmin=0,
                    vmax=top,
                    extent=(0, 1000 * duration_s, 0, len(image)),
                )
                axis.set_title(label, fontsize=8.5)
                axis.grid(False)
                ticks = frequency_ticks(center_hz)
                axis.set_yticks([place for _, place in ticks], [hz_label(f) for f, _ in ticks])
            line[0].set_ylabel(f"{network}\nfrequency (Hz)")
        for axis in axes[-1]:
            axis.set_xlabel("time (ms)")
        figure.suptitle(
            f"“{word}” and sounds that each network hears as the same, matched at one stage",
            fontsize=10,
            color=INK,
        )
        figure.tight_layout()
    return figure


def accuracy_under_attack(table: pd.DataFrame) -> Figure:
    """Draws accuracy by the size of perturbations, a panel for each domain and norm.

    Args:
        table: Of `robustness.measure`. Solid: under attack, with a ring where the network was
            trained at that size; dashed: under random perturbations; on the left: as it is.
    """
    conditions = list(dict.fromkeys(zip(table["domain"], table["norm"], strict=True)))
    networks = list(dict.fromkeys(zip(table["run"], table["network"], strict=True)))
    with house_style():
        figure = Figure(figsize=(3.1 * len(conditions) + 0.4, 3.3))
        figure.set_facecolor("white")
        axes = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
        for axis, (domain, norm) in zip(axes, conditions, strict=True):
            here = table[(table["domain"] == domain) & (table["norm"] == norm)]
            sizes = np.sort(here.loc[here["epsilon"] > 0, "epsilon"].unique())
            unperturbed = sizes[0] / 2  # Zero has no place on a logarithmic axis.
            for index, (run, network) in enumerate(networks):
                rows = here[(here["run"] == run) & (here["network"] == network)]
                rows = rows.sort_values("epsilon")
                x = rows["epsilon"].where(rows["epsilon"] > 0, unperturbed)
                color = network_color(index)
                axis.plot(x, 100 * rows["random_accuracy"], "--", color=color, linewidth=1.2)
                axis.plot(
                    x,
                    100 * rows["adversarial_accuracy"],
                    "o-",
                    color=color,
                    markersize=3.5,
                    label=f"{run}: {network}",
                )
                trained = rows["trained"].to_numpy(bool)
                axis.plot(
                    x[trained],
                    100 * rows.loc[trained, "adversarial_accuracy"],
                    "o",
                    color=color,
                    mfc="none",
                    markersize=9,
                )
            axis.set_xscale("log")
            axis.set_xticks([unperturbed, *sizes], ["0", *(f"{size:g}" for size in sizes)])
            axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
            axis.set(title=f"{domain}, {norm}", xlabel="Relative size", ylim=(0, 100))
        axes[0].set_ylabel("Words recognised (%)")
        axes[0].legend(fontsize=7)
        figure.tight_layout()
    return figure


def benchmark_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws the time of a step for each stage, method and batch size, on a logarithmic axis.

    Args:
        rows: With stage, method, batch_size, ms_per_target_step and ratio.
    """
    colors = {"yardstick": MUTED, "dense": NETWORKS[1], "multirate": NETWORKS[0]}
    with house_style():
        figure = Figure(figsize=(7, 0.24 * len(rows) + 1.0))
        figure.set_facecolor("white")
        axis = figure.subplots()
        labels = [f"{r['stage']}, {r['method']}, {r['batch_size']}" for r in rows]
        values = [r["ms_per_target_step"] for r in rows]
        axis.barh(range(len(rows)), values, color=[colors[r["method"]] for r in rows])
        for place, row in enumerate(rows):
            text = f" {row['ms_per_target_step']:.2f} ms, x {row['ratio']:.0f}"
            axis.text(values[place], place, text, va="center", fontsize=7.5)
        axis.set_yticks(range(len(rows)), labels, fontsize=7.5)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_xlim(right=max(values) * 6)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("per target and step: forward, backward, update (ms)")
        figure.tight_layout()
    return figure
