"""What networks stand up to, and what a step of synthesis costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd

from metamer_jax.figures import style
from metamer_jax.figures.style import Figure


def accuracy_under_attack(table: pd.DataFrame) -> Figure:
    """Draws accuracy by the size of perturbations, a panel for each domain and norm.

    Args:
        table: Of `robustness.measure`. Solid: under attack, with a ring where the network was
            trained at that size; dashed: under random perturbations; on the left: as it is.

    Returns:
        The figure.
    """
    conditions = list(dict.fromkeys(zip(table["domain"], table["norm"], strict=True)))
    networks = list(dict.fromkeys(zip(table["run"], table["network"], strict=True)))
    with style.house_style():
        figure = Figure(figsize=(3.1 * len(conditions) + 0.4, 3.3), facecolor="white")
        axes = figure.subplots(1, len(conditions), sharey=True, squeeze=False)[0]
        for axis, (domain, norm) in zip(axes, conditions, strict=True):
            here = table[(table["domain"] == domain) & (table["norm"] == norm)]
            sizes = np.sort(here.loc[here["epsilon"] > 0, "epsilon"].unique())
            unperturbed = sizes[0] / 2  # Zero has no place on a logarithmic axis.
            for index, (run, network) in enumerate(networks):
                rows = here[(here["run"] == run) & (here["network"] == network)]
                rows = rows.sort_values("epsilon")
                x = rows["epsilon"].where(rows["epsilon"] > 0, unperturbed)
                color = style.network_color(index)
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

    Returns:
        The figure.
    """
    colors = {"yardstick": style.MUTED, "dense": style.NETWORKS[1], "multirate": style.NETWORKS[0]}
    with style.house_style():
        figure = Figure(figsize=(7, 0.24 * len(rows) + 1.0), facecolor="white")
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


def benchmark_history(releases: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Draws how much faster a step was than the plain dense path, by stage, over the releases.

    Args:
        releases: Rows of `benchmark_bars` by release, the oldest first; of each stage the fastest
            row counts.

    Returns:
        The figure.
    """
    names = list(releases)
    best: dict[str, dict[int, float]] = {}
    for place, rows in enumerate(releases.values()):
        for row in rows:
            if row["method"] == "multirate":
                of_stage = best.setdefault(row["stage"], {})
                of_stage[place] = max(row["ratio"], of_stage.get(place, 0.0))
    with style.house_style():
        figure = Figure(figsize=(7, 4), facecolor="white")
        axis = figure.subplots()
        for index, (stage, ratios) in enumerate(best.items()):
            marker = "os^Dv"[index // len(style.NETWORKS) % 5]
            color = style.network_color(index % len(style.NETWORKS))
            axis.plot(list(ratios), list(ratios.values()), f"{marker}-", color=color, label=stage)
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axis.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
        axis.set(xlabel="Release", ylabel="Times faster than the plain dense path")
        axis.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.tight_layout()
    return figure
