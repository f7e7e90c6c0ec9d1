"""Figures of a listening experiment: tables in, matplotlib figures out.

They take the tables of `analysis` and keep no state. What no person answered is labelled so inside
the figure: it stays labelled wherever the figure goes.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib.patches
import numpy as np
import pandas as pd

from metamer_jax.figures import style
from metamer_jax.figures.style import Axes, Figure

# Above every figure whose answers are of this source.
LABELS = {
    "simulated": "SIMULATED listeners: no person answered",
    "machine": "MACHINE listeners: networks, no person answered",
}
_MARKERS = "osD^vP*X"


def labelled_figure(width_in: float, height_in: float, source: str) -> Figure:
    """Returns an empty figure, labelled where no person answered.

    Args:
        width_in: Inches.
        height_in: Inches.
        source: Whose answers; those of `LABELS` are labelled.
    """
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    if source in LABELS:
        figure.suptitle(
            LABELS[source], color=style.FAIL, fontsize=8.5, fontweight="bold", x=0.02, ha="left"
        )
    return figure


@contextlib.contextmanager
def labelled_panel(width_in: float, height_in: float, source: str) -> Iterator[tuple[Figure, Axes]]:
    """Draws within the block, in the style of all figures, on the one panel of a figure.

    Args:
        width_in: Inches.
        height_in: Inches.
        source: Whose answers; those of `LABELS` are labelled.

    Yields:
        The figure and its panel.
    """
    with style.house_style(grid=False):
        figure = labelled_figure(width_in, height_in, source)
        yield figure, figure.add_subplot()


Places = dict[tuple[str, str], int]  # Of (model, layer) on an axis.


@contextlib.contextmanager
def layer_panel(table: pd.DataFrame, source: str) -> Iterator[tuple[Figure, Axes, Places]]:
    """The same with an axis of layers, named below it, and the legend above.

    Args:
        table: Rows with model and layer.
        source: Whose answers; those of `LABELS` are labelled.

    Yields:
        The figure, its panel, and the places of layers.
    """
    places, labels = layer_places(table)
    with labelled_panel(max(4.2, 0.75 * len(labels) + 1.2), 3.3, source) as (figure, axis):
        yield figure, axis, places
        axis.set_xticks(range(len(labels)), labels)
        axis.set(xlim=(-0.4, len(labels) - 0.6), xlabel="Layer matched by the metamer")
        if max(map(len, labels)) > 12 or len(labels) > 8:
            slant(axis)
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)


def draw_by_layer(
    axis: Axes, table: pd.DataFrame, columns: tuple[str, str, str], places: Places
) -> None:
    """Draws a number by layer, a line a network, with its interval.

    Args:
        axis: Where.
        table: A row per model and layer.
        columns: Of the number and the ends of its interval.
        places: Of the layers.
    """
    for model, color, shift in spread(list(dict.fromkeys(table["model"]))):
        rows = table[table["model"] == model]
        x = np.array([places[model, layer] for layer in rows["layer"]]) + shift
        order = np.argsort(x)
        y, low, high = (rows[name].to_numpy(float)[order] for name in columns)
        errors = style.errors(y, low, high)
        axis.errorbar(x[order], y, errors, color=color, marker="o", ms=5, capsize=2.5, label=model)


def intervals(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the intervals that are drawn, for rows of `analysis.recognition`.

    BCa over listeners; of one listener, Wilson's over trials; NaN where neither is defined (all
    listeners alike).
    """
    single = (table["n"] == 1).to_numpy()
    low = np.where(single, table["wilson_low"], table["ci_low"]).astype(float)
    high = np.where(single, table["wilson_high"], table["ci_high"]).astype(float)
    return low, high


def layer_places(table: pd.DataFrame) -> tuple[Places, list[str]]:
    """Places layers on an axis: (model, layer) to place, and what to write below each.

    Models with the same layers share their names; otherwise a layer is its place in its model.

    Returns:
        Places by (model, layer), and the label of each place.
    """
    by_model = {
        str(model): list(dict.fromkeys(group["layer"]))
        for model, group in table.groupby("model", sort=False)
    }
    longest = max(by_model.values(), key=len)
    in_order = all(
        layers == sorted(layers, key=longest.index)
        for layers in by_model.values()
        if set(layers) <= set(longest)
    )
    if set(table["layer"]) <= set(longest) and in_order:
        places = {(m, layer): longest.index(layer) for m, own in by_model.items() for layer in own}
        return places, [str(name) for name in longest]
    places = {(model, layer): i for model, own in by_model.items() for i, layer in enumerate(own)}
    return places, [str(i + 1) for i in range(len(longest))]


def recognition_by_layer(
    table: pd.DataFrame, *, source: str = "", panel: pd.DataFrame | None = None
) -> Figure:
    """Draws recognition by layer, a line a network, with intervals and the chance line.

    Args:
        table: Rows of `analysis.recognition` by model and layer.
        source: Whose answers; "simulated" and "machine" are labelled.
        panel: The same of machine listeners, drawn dashed beside them.

    Returns:
        The figure.
    """
    low, high = intervals(table)
    percent = table.assign(mean=100 * table["mean"], low=100 * low, high=100 * high)
    with layer_panel(table, source) as (figure, axis, places):
        draw_by_layer(axis, percent, ("mean", "low", "high"), places)
        if panel is not None:
            for model, color, shift in spread(list(dict.fromkeys(table["model"]))):
                rows = panel[(panel["model"] == model)]
                rows = rows[[(model, layer) in places for layer in rows["layer"]]]
                x = np.array([places[model, layer] for layer in rows["layer"]]) + shift
                order = np.argsort(x)
                y = 100 * rows["mean"].to_numpy(float)[order]
                name = f"{model}, machines (n = {rows['n'].max()})" if len(rows) else ""
                axis.plot(
                    *(x[order], y, "--"),
                    color=color,
                    marker="o",
                    mfc=style.PAPER,
                    ms=4.5,
                    label=name,
                )
        mark_chance(axis, table["chance"].iloc[0])
        axis.set(ylim=(0, 104), ylabel="Recognised (%)")
    return figure


def spread(models: Sequence[str]) -> list[tuple[str, str, float]]:
    """Models with a colour and a shift that keeps their marks apart."""
    shifts = (
        np.linspace(-0.5, 0.5, len(models)) * min(0.5, 0.1 * (len(models) - 1))
        if len(models) > 1
        else [0.0]
    )
    return [
        (model, style.network_color(i), float(shift))
        for i, (model, shift) in enumerate(zip(models, shifts, strict=True))
    ]


def slant(axis) -> None:
    """Slants the names below an axis, which end at their ticks."""
    for text in axis.get_xticklabels():
        text.set(rotation=35, ha="right", rotation_mode="anchor")


def mark_chance(axis, chance: float, linestyle: Any = ":") -> None:
    """Draws a line at the share of right answers by guessing, and says on the right what it is."""
    percent = 100 * float(chance)
    axis.axhline(percent, color=style.MUTED, linewidth=1, linestyle=linestyle)
    axis.annotate(
        f"chance\n{percent:.3g} %",
        *((1, percent), (3, 0), ("axes fraction", "data"), "offset points"),
        va="center",
        fontsize=7.5,
        color=style.MUTED,
    )


def recognition_by_word(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws recognition by word, networks side by side, over all layers.

    Args:
        table: Rows of `analysis.recognition` by model and word.
        source: Whose answers.

    Returns:
        The figure.
    """
    models = list(dict.fromkeys(table["model"]))
    words = list(dict.fromkeys(table["word"]))
    with labelled_panel(max(4.2, 0.55 * len(words) + 1.0), 3.1, source) as (figure, axis):
        width = 0.8 / len(models)
        for i, model in enumerate(models):
            rows = table[table["model"] == model].set_index("word").reindex(words)
            x = np.arange(len(words)) + (i - (len(models) - 1) / 2) * width
            y, low, high = (100 * np.asarray(v, float) for v in (rows["mean"], *intervals(rows)))
            errors, color = style.errors(y, low, high), style.network_color(i)
            axis.bar(x, y, 0.92 * width, color=color, label=model)
            axis.errorbar(x, y, errors, fmt="none", ecolor=style.INK, elinewidth=0.9, capsize=2)
        mark_chance(axis, table["chance"].iloc[0])
        axis.set_xticks(range(len(words)), words)
        axis.set(ylim=(0, 104), ylabel="Recognised (%)", xlabel="Word spoken")
        axis.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return figure


def confusions(table: pd.DataFrame, *, columns: str | None = None, source: str = "") -> Figure:
    """Draws which word was answered to which: a row of matrices a network, a column a layer.

    Args:
        table: Rows of `analysis.confusion` by model, and by `columns`, the choices in order.
        columns: "layer", or None: one matrix a network, side by side.
        source: Whose answers.

    Returns:
        The figure.
    """
    models, words = (list(dict.fromkeys(table[name])) for name in ("model", "word"))
    across = models if columns is None else list(dict.fromkeys(table[columns]))
    down = [None] if columns is None else models
    answers = [*words, *(a for a in dict.fromkeys(table["response"]) if a not in words)]
    side = max(1.35, 0.19 * len(words)) if columns else max(2.6, 0.3 * len(words) + 0.4)
    with style.house_style(grid=False):
        figure = labelled_figure(
            side * len(across) + 0.9, (side + (0.25 if columns else 0.5)) * len(down) + 0.7, source
        )
        axes = figure.subplots(len(down), len(across), squeeze=False)
        few = len(words) <= 16  # Numbers of more words than that would be too small to read.
        image = None
        for i, row in enumerate(down):
            for j, column in enumerate(across):
                axis = axes[i, j]
                model, layer = (column, None) if row is None else (row, column)
                part = table[table["model"] == model]
                if layer is not None:
                    part = part[part[columns] == layer]
                axis.set_title(str(model) if layer is None else f"{layer}", fontsize=8.5)
                if part.empty:
                    axis.set_axis_off()
                    continue
                share = part.pivot(index="word", columns="response", values="share")
                percent = 100 * share.reindex(index=words, columns=answers).to_numpy(float)
                written = np.nan_to_num(percent) >= (0.5 if few else np.inf)
                image = style.percentages(
                    axis, percent, written=written, fontsize=5.5 if columns else 7.5
                )
                size = 6 if columns else 8
                bottom, left = i == len(down) - 1, j == 0
                axis.set_xticks(
                    range(len(answers)), answers if bottom else [], rotation=90, fontsize=size
                )
                axis.set_yticks(range(len(words)), words if left else [], fontsize=size)
                if left:
                    axis.set_ylabel("Spoken" if layer is None else f"{model}\nSpoken", fontsize=8.5)
                if bottom:
                    axis.set_xlabel("Answered (%)", fontsize=8.5)
        if image is not None and not few:
            figure.colorbar(image, ax=axes, label="Share of the word spoken (%)", shrink=0.6)
    return figure


def recognition_matrix(matrix: pd.DataFrame) -> Figure:
    """Draws how often each listener recognises each network's metamers.

    Args:
        matrix: From `machines.recognition_matrix`. Cells of a network and its own metamers, which
            were made for it to recognise, have a frame.

    Returns:
        The figure.
    """
    listeners = list(dict.fromkeys(matrix["listener"]))
    columns = list(dict.fromkeys(zip(matrix["model"], matrix["layer"], strict=True)))
    shares = matrix.set_index(["listener", "model", "layer"])["proportion"]
    width_in = max(4.2, 0.5 * len(columns) + 0.085 * max(map(len, listeners)) + 0.8)
    with labelled_panel(width_in, 0.32 * len(listeners) + 1.7, "machine") as (figure, axis):
        values = np.array([[shares.get((who, *at), np.nan) for at in columns] for who in listeners])
        style.percentages(axis, 100 * values, aspect="auto")
        for i, j in np.argwhere(~np.isnan(values)):
            if listeners[i] == columns[j][0]:
                box = ((j - 0.47, i - 0.46), 0.94, 0.92)
                axis.add_patch(matplotlib.patches.Rectangle(*box, fill=False, ec=style.FAIL, lw=1))
        axis.set_xticks(range(len(columns)), [layer for _, layer in columns])
        slant(axis)
        axis.set_yticks(range(len(listeners)), listeners)
        models = [model for model, _ in columns]
        for j in range(1, len(columns)):
            if models[j] != models[j - 1]:
                axis.axvline(j - 0.5, color=style.MUTED, linewidth=1)
        for model in dict.fromkeys(models):
            at = [j for j, each in enumerate(models) if each == model]
            axis.text(
                *(float(np.mean(at)), -0.62, model),
                ha="center",
                va="bottom",
                fontsize=8.5,
                fontweight="bold",
            )
        axis.set(ylabel="Listener", xlabel="Recognised (%), metamers of network and layer")
    return figure


def agreement(people: pd.DataFrame, machines: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws each layer's recognition by people against that by machines.

    Args:
        people: Rows of `analysis.recognition` by model and layer.
        machines: The same of machine listeners.
        source: Of the former.

    Returns:
        The figure.
    """
    both = people.merge(machines, on=["model", "layer"], suffixes=("", "_machine"))
    models = list(dict.fromkeys(people["model"]))
    places, labels = layer_places(people)
    with labelled_panel(4.6, 3.4, source) as (figure, axis):
        axis.plot([0, 100], [0, 100], color=style.GRID, linewidth=1)
        for i, model in enumerate(models):
            for row in both[both["model"] == model].itertuples():
                place = places[model, row.layer]
                axis.plot(
                    *(100 * row.mean_machine, 100 * row.mean),
                    marker=_MARKERS[place % len(_MARKERS)],
                    color=style.network_color(i),
                    linestyle="none",
                    markersize=6,
                )
        for i, model in enumerate(models):
            axis.plot([], [], "s", color=style.network_color(i), label=model)
        for place, label in enumerate(labels):
            marker = _MARKERS[place % len(_MARKERS)]
            axis.plot([], [], marker, color=style.MUTED, mfc="none", label=label)
        whose = "simulated listeners" if source == "simulated" else "people"
        axis.set(xlim=(-3, 103), ylim=(-3, 103), aspect="equal")
        axis.set(xlabel="Recognised by machines (%)", ylabel=f"Recognised by {whose} (%)")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
