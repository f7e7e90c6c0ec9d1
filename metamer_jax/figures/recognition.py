"""Recognition by stage: people, machine listeners, the paper's people, and apart the network."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.lines
import numpy as np
import pandas as pd

from metamer_jax.figures import style
from metamer_jax.figures.listening import mark_chance, slant, spread
from metamer_jax.figures.style import Figure

# Whose judgement a curve is, in the order in which they are named.
WHO = ("people", "machine", "own", "paper")
_LINES: Mapping[str, Mapping[str, Any]] = {
    "people": {"linestyle": "-", "marker": "o", "markersize": 5.5},
    "machine": {"linestyle": "--", "marker": "o", "markersize": 5, "mfc": style.PAPER},
    "own": {"linestyle": "-", "marker": "s", "markersize": 4, "linewidth": 1.2},
    "paper": {"linestyle": ":", "marker": "D", "markersize": 3.5, "linewidth": 1.5},
}


def recognition_curves(
    table: pd.DataFrame, *, networks: Sequence[str], stages: Sequence[str], chance: float | None
) -> Figure:
    """Draws how often metamers are recognised, by the stage that they match.

    The network's own judgements, which its metamers were made for, stand framed in a panel apart,
    which is the only one where nobody else has listened.

    Args:
        table: Rows who (of `WHO`), model, layer, proportion, low, high, listeners; no interval
            where an end is NaN.
        networks: In drawing order; each has a colour.
        stages: In processing order.
        chance: Share of right answers by guessing; None: it differs, or nobody knows it.

    Returns:
        The figure.
    """
    others = [who for who in WHO if who != "own" and (table["who"] == who).any()]
    panels = [others, ["own"]] if others else [["own"]]
    wide = max(4.3, 0.72 * len(stages) + 1.1)
    own = max(2.0, 0.3 * len(stages) + 0.8) if others else 0.0
    rows = max(-(-len(networks) // 2), len(panels[0]))  # Of the legend.
    top_in = max(0.25 + 0.19 * rows, 0.5)
    with style.house_style(grid=False):
        below_in = 0.86  # Slanted names of stages and, below, what they are.
        height_in = below_in + 2.22 + top_in
        figure = Figure(figsize=(wide + own, height_in))
        widths = (wide - 0.8, own - 0.45)[: len(panels)]
        shared = {"sharey": True, "squeeze": False}
        axes = figure.subplots(1, len(panels), width_ratios=widths, **shared)[0]
        figure.subplots_adjust(
            left=0.6 / (wide + own),
            right=1 - (0.1 if others else 0.55) / (wide + own),  # Beside the last: chance.
            bottom=below_in / height_in,
            top=1 - top_in / height_in,
            wspace=0.42,
        )
        for axis, shown in zip(axes, panels, strict=True):
            for who in shown:
                _draw_curves(axis, table[table["who"] == who], who, networks, stages)
            axis.set_xticks(range(len(stages)), stages)
            axis.set(xlim=(-0.4, len(stages) - 0.6), ylim=(0, 105))
            slant(axis)
        if chance is not None:
            sparse = (0, (1, 3))
            mark_chance(axes[0], chance, sparse)
            for axis in axes[1:]:
                axis.axhline(100 * chance, color=style.MUTED, linewidth=1, linestyle=sparse)
        axes[0].set(ylabel="Recognised (%)", xlabel="Stage that the metamer matches")
        axes[-1].spines[:].set_visible(True)
        axes[-1].tick_params(labelleft=True)
        if others:
            title = "by the network\nthey were made for"
            axes[-1].set_title(title, fontsize=8, fontweight="normal")
        _legend(axes[0], table, networks, panels[0], rows)
    return figure


def _legend(axis, table, networks, shown, rows):
    """Networks by colour, and in a column of their own the kinds of lines."""
    line = matplotlib.lines.Line2D
    colors = [
        line([], [], color=color, linewidth=4, label=network)
        for network, color, _ in spread(networks)
    ]
    names = _names(table, len(networks))
    kinds = [line([], [], color=style.INK, label=names[who], **_LINES[who]) for who in shown]
    empty = [line([], [], linestyle="none", label=" ")] * (-len(colors) % rows)
    axis.legend(
        handles=[*colors, *empty, *kinds],
        ncols=-(-len(colors) // rows) + 1,
        loc="lower left",
        bbox_to_anchor=(-0.03, 1.01),
        handlelength=2.8,
        columnspacing=1.5,
    )


def _names(table, count):
    people = table.loc[table["who"] == "people", "listeners"]
    several = "the run’s other network" if count == 2 else "the run’s other networks"
    return {
        "people": f"people (n = {int(people.max())})" if len(people) else "people",
        "machine": f"machine listener: {several}",
        "own": "by the network they were made for",
        "paper": "people, the paper’s counts",
    }


def _draw_curves(axis, rows, who, networks, stages):
    places = {stage: place for place, stage in enumerate(stages)}
    for network, color, shift in spread(networks):
        own = rows[(rows["model"] == network) & rows["layer"].isin(stages)]
        if own.empty:
            continue
        x = own["layer"].map(places).to_numpy(float) + shift
        order = np.argsort(x)
        y, low, high = (
            100 * own[name].to_numpy(float)[order] for name in ("proportion", "low", "high")
        )
        if who != "paper":  # Its dots stay dots; the table has its intervals.
            errors = style.errors(y, low, high)
            axis.errorbar(x[order], y, errors, fmt="none", ecolor=color, elinewidth=1, capsize=2)
        axis.plot(x[order], y, color=color, **_LINES[who])
