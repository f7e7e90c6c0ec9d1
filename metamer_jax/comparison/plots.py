"""Figures of a comparison: tables of `effects` in, matplotlib figures out."""

import math
from collections.abc import Sequence

import matplotlib.patches
import numpy as np
import pandas as pd

from metamer_jax.comparison import effects
from metamer_jax.comparison.entries import AnyEntry
from metamer_jax.figures import style
from metamer_jax.figures.style import Figure

# One colour for each way of connecting over frequency, in every figure; line and mark for the rest.
_LINES = {
    "": ("-", "o"),
    "parameter_matched": ("--", "s"),
    "representation_matched": (":", "D"),
    "matched": ("-.", "^"),
    "antialiased": ("--", "v"),
}
_TRAINED_LINES = (("--", "P"), (":", "X"), ("-.", "*"))
_COLUMNS = 3  # Of panels, at most.


def looks(entries: Sequence[AnyEntry]) -> dict[str, dict]:
    """Says how each entry is drawn, by label: colour, line and mark."""
    connections = list(dict.fromkeys(entry.connection for entry in entries))
    trainings = list(dict.fromkeys(entry.training for entry in entries if entry.training))
    found = {}
    for entry in entries:
        line, mark = _LINES.get(entry.variant, ("-", "h"))
        color = style.network_color(connections.index(entry.connection))
        if entry.training is not None:
            place = trainings.index(entry.training)
            line, mark = _TRAINED_LINES[place % len(_TRAINED_LINES)]
            color = style.network_color(4 + place)
        found[entry.label] = {"color": color, "linestyle": line, "marker": mark}
    return found


def recognition_matrix(
    matrix: pd.DataFrame, entries: Sequence[AnyEntry], stage: str, *, num_targets: int
) -> Figure:
    """Draws who recognises whose metamers at one stage; framed where a network hears its own.

    Args:
        matrix: From `effects.matrix`.
        entries: In drawing order, makers and scorers alike.
        stage: Which, or `effects.ALL`.
        num_targets: For the title.

    Returns:
        The figure.
    """
    rows = matrix[matrix["stage"] == stage]
    titles = {entry.label: entry.title for entry in entries}
    scorers = [e for e in titles if e in set(rows["scorer"])]
    makers = [e for e in titles if e in set(rows["maker"])]
    # Where a network meets its own metamers only in one seed, what it says of itself stands.
    rows = rows.sort_values("itself", ascending=False, kind="stable")
    percent = rows.drop_duplicates(["scorer", "maker"]).pivot(
        index="scorer", columns="maker", values="mean"
    )
    percent = 100 * percent.reindex(index=scorers, columns=makers).to_numpy(float)
    label_in = 0.3 + 0.072 * max(map(len, titles.values()))
    cell_in = 0.36
    where = "all stages of the networks" if stage == effects.ALL else stage
    title = f"{where}: metamers recognised (%), {num_targets} targets"
    below_in = 0.4 + 0.72 * (label_in - 0.3)  # Names at 45 degrees.
    width = max(label_in + cell_in * len(makers) + 0.3, 0.08 * len(title) + 0.2)
    height = below_in + cell_in * max(len(scorers), 2) + 0.45
    with style.house_style():
        figure, axis = style.one_panel(
            width, height, left_in=label_in, bottom_in=below_in, top_in=0.35
        )
        style.percentages(axis, percent, aspect="auto")
        for y, x in np.ndindex(percent.shape):
            if scorers[y] == makers[x]:
                frame = {"fill": False, "edgecolor": style.INK, "linewidth": 1.2}
                axis.add_patch(matplotlib.patches.Rectangle((x - 0.5, y - 0.5), 1, 1, **frame))
        axis.set_xticks(
            range(len(makers)),
            [titles[m] for m in makers],
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
        axis.set_yticks(range(len(scorers)), [titles[s] for s in scorers])
        _head(figure, title)
        axis.set(xlabel="Made from", ylabel="Heard by")
    return figure


def curves(
    table: pd.DataFrame,
    panels: Sequence[tuple[str, Sequence[AnyEntry]]],
    stages: Sequence[str],
    *,
    who: str,
    chance: float,
    entries: Sequence[AnyEntry],
) -> Figure:
    """Draws recognition by stage, a line an entry, panels side by side on one axis.

    Bars are intervals over seeds and targets; the first point is what the same listeners
    recognise of the targets themselves.

    Args:
        table: From `effects.curves`.
        panels: Title and entries of each.
        stages: In processing order.
        who: Whose answers, of `effects.WHO`.
        chance: Share of right answers by guessing.
        entries: All of the comparison, for colours that stay from figure to figure.

    Returns:
        The figure.
    """
    drawn, stages = looks(entries), [effects.NATURAL, *stages]
    rows = table[table["who"] == who].set_index(["entry", "stage"])
    lines = -(-len(panels) // _COLUMNS)
    counts = [len(line) for line in np.array_split(range(len(panels)), lines)]  # Of panels.
    columns = max(counts)
    legend_in = 0.2 * max(len(each) for _, each in panels) + 0.1
    panel_in = 2.9 + legend_in
    width, height = 3.3 * columns + 0.6, panel_in * lines + 0.35
    with style.house_style():
        figure = Figure(figsize=(width, height))
        figure.set_facecolor("white")
        # Each line's panels fill it, however many there are.
        cells = math.lcm(*counts)
        grid = figure.add_gridspec(
            lines, cells,
            left=0.6 / width, right=1 - 0.1 / width, bottom=0.85 / height,
            wspace=0.06 * cells / columns,
            top=1 - (legend_in + 0.3) / height, hspace=(legend_in + 1.1) / 1.9,
        )  # fmt: skip
        axes, left = [], []
        for line, count in enumerate(counts):
            for place in range(count):
                span = slice(place * cells // count, (place + 1) * cells // count)
                axes.append(figure.add_subplot(grid[line, span], sharey=axes[0] if axes else None))
                axes[-1].tick_params(labelleft=place == 0)
            left.append(axes[-count])
        for axis, (title, shown) in zip(axes, panels, strict=True):
            shifts = np.linspace(-0.5, 0.5, len(shown)) * min(0.5, 0.1 * (len(shown) - 1))
            here = [s for s in stages if any((e.label, s) in rows.index for e in shown)]
            for entry, shift in zip(shown, shifts, strict=True):
                if entry.label not in rows.index.get_level_values("entry"):
                    continue
                own = 100 * rows.loc[entry.label].reindex(here)[["mean", "low", "high"]]
                y, low, high = own.to_numpy(float).T
                look = drawn[entry.label]
                axis.errorbar(
                    np.arange(len(here)) + shift,
                    y,
                    np.nan_to_num(np.clip([y - low, high - y], 0, None)),
                    capsize=2,
                    elinewidth=0.9,
                    markersize=4.5,
                    linewidth=1.4,
                    label=entry.title,
                    **look,
                )
            axis.axhline(100 * chance, color=style.MUTED, linewidth=1, linestyle=":")
            names = ["target itself" if s == effects.NATURAL else s for s in here]
            turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
            axis.set_xticks(range(len(here)), names, **turned)
            axis.set(xlim=(-0.5, len(here) - 0.5), ylim=(0, 104))
            axis.set_title(title, pad=legend_in * 72 + 2)
            axis.legend(
                loc="lower left", bbox_to_anchor=(-0.02, 0.99), ncols=1, borderaxespad=0.2,
                handlelength=2.6,
            )  # fmt: skip
        for axis in left:
            axis.set_ylabel("Recognised (%)")
        axes[0].annotate(
            "chance", (-0.45, 100 * chance), (0, 2), textcoords="offset points",
            fontsize=7.5, color=style.MUTED,
        )  # fmt: skip
    return figure


def differences(table: pd.DataFrame, entries: Sequence[AnyEntry], stage: str) -> Figure:
    """Draws the planned differences of recognition with their intervals, question by question.

    Args:
        table: From `effects.differences`.
        entries: For titles and colours.
        stage: Which, or `effects.ALL`.

    Returns:
        The figure.
    """
    rows = table[(table["stage"] == stage) & table["difference"].notna()]
    titles, drawn = {e.label: e.title for e in entries}, looks(entries)
    labels, places, heads, place = [], [], [], 0
    for question, group in rows.groupby("question", sort=False):
        heads.append((place, question))
        place += 1
        for row in group.itertuples():
            labels.append((place, row))
            place += 1
    label_in = 0.2 + 0.068 * max(
        [len(titles[row.of]) + len(titles[row.against]) + 3 for _, row in labels], default=10
    )
    with style.house_style():
        height = 0.24 * max(place, 3) + 0.9
        figure, axis = style.one_panel(label_in + 3.6, height, left_in=label_in, top_in=0.35)
        for place, row in labels:
            y, low, high = 100 * row.difference, 100 * row.low, 100 * row.high
            color = drawn[row.of]["color"]
            axis.plot([low, high], [place, place], color=color, linewidth=1.4)
            axis.plot([y], [place], drawn[row.of]["marker"], color=color, markersize=5)
        for place, question in heads:
            axis.annotate(
                question, (0, place), (-label_in * 72 + 8, 0), va="center", fontsize=8.5,
                xycoords=("axes fraction", "data"), textcoords="offset points",
                fontweight="bold", color=style.INK,
            )  # fmt: skip
        places = [place for place, _ in labels]
        names = [f"{titles[row.of]} − {titles[row.against]}" for _, row in labels]
        axis.set_yticks(places, names)
        axis.axvline(0, color=style.MUTED, linewidth=1)
        axis.set_ylim(max([*places, 1]) + 0.7, -0.7)
        axis.grid(False, axis="y")
        where = "mean of the networks' stages" if stage == effects.ALL else stage
        _head(figure, f"Recognised by networks of other connections: {where}")
        axis.set_xlabel("Difference (percentage points), with interval")
    return figure


def _head(figure, text):
    """A title from the figure's left edge: names below may be longer than the axes are wide."""
    height = figure.get_figheight()
    figure.text(
        0.01, 1 - 0.08 / height, text, va="top", fontsize=9.5, fontweight="bold", color=style.INK
    )
