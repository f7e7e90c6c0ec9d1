"""Figures of the further analyses of a listening experiment: one table in, one figure out.

`DRAWINGS` says which table each figure is drawn from, and what is to be seen.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib.ticker
import numpy as np
import pandas as pd

from metamer_jax.figures import listening, style
from metamer_jax.figures.style import Figure


class Drawing(NamedTuple):
    """A figure that a table allows."""

    table: str
    draw: Callable[..., Figure]  # (table, *, source)
    title: str
    alt: str
    caption: str


def forest(
    labels: Sequence[str],
    values: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    xlabel: str,
    zero: float | None = 0.0,
    bounds: tuple[float, float] | None = None,
    colors: Sequence[str] | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    source: str = "",
) -> Figure:
    """Draws estimates with their intervals, one below the other.

    Args:
        labels: [row] what each is.
        values: [row]; rows without a value are left out.
        low: [row] lower end of the interval, NaN for none.
        high: [row] upper end.
        xlabel: What is estimated, with its unit.
        zero: Where a line stands for no effect; None: no line.
        bounds: A band of values that do not matter.
        colors: [row]; None: all alike.
        log: A logarithmic axis.
        limits: Of the axis; None: what is drawn.
        source: Whose answers; "simulated" and "machine" are labelled.

    Returns:
        The figure.
    """
    shown = np.flatnonzero(np.isfinite(np.asarray(values, float))).tolist()
    longest = max((len(labels[i]) for i in shown), default=8)
    size = 3.2 + 0.075 * longest, 0.27 * max(len(shown), 1) + 0.9
    with listening.labelled_panel(*size, source) as (figure, axis):
        if bounds is not None:
            axis.axvspan(*bounds, color=style.GRID, alpha=0.6, linewidth=0)
        if zero is not None:
            axis.axvline(zero, color=style.MUTED, linewidth=1, linestyle=":")
        for row, i in enumerate(shown):
            color = style.network_color(0) if colors is None else colors[i]
            if np.isfinite(low[i]) and np.isfinite(high[i]):
                axis.plot([low[i], high[i]], [row, row], color=color, linewidth=1.6)
            axis.plot(values[i], row, "o", color=color, markersize=5)
        if log:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 3.0)))
            axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_yticks(range(len(shown)), [labels[i] for i in shown])
        axis.set(xlabel=xlabel, ylim=(len(shown) - 0.4, -0.6))
        if limits is not None:
            axis.set_xlim(limits)
    return figure


def rows(
    table: pd.DataFrame,
    label: str,
    columns: tuple[str, str, str],
    *,
    xlabel: str,
    zero: float | None = 0.0,
    scale: float = 1.0,
    colored: bool = False,
    source: str = "",
) -> Figure:
    """Draws the rows of a table as a forest.

    Args:
        table: The rows.
        label: Column of what each is.
        columns: Of the number and the ends of its interval.
        xlabel: What is estimated, with its unit.
        zero: Where a line stands for no effect; None: no line.
        scale: Factor from the column's unit to that of `xlabel`.
        colored: Whether each row is a network, with its colour.
        source: Whose answers; those of `listening.LABELS` are labelled.

    Returns:
        The figure.
    """
    return forest(
        table[label].astype(str).tolist(),
        *(scale * table[name].to_numpy(float) for name in columns),
        xlabel=xlabel,
        zero=zero,
        colors=[style.network_color(i) for i in range(len(table))] if colored else None,
        source=source,
    )


def by_layer(
    table: pd.DataFrame,
    columns: tuple[str, str, str],
    *,
    ylabel: str,
    source: str = "",
    zero: float | None = None,
) -> Figure:
    """Draws a number by layer, a line a network, with its interval.

    Args:
        table: A row per model and layer.
        columns: Of the number and the ends of its interval.
        ylabel: What it is, with its unit.
        source: Whose answers.
        zero: Where a line stands for none; None: no line.

    Returns:
        The figure.
    """
    with listening.layer_panel(table, source) as (figure, axis, places):
        listening.draw_by_layer(axis, table, columns, places)
        if zero is not None:
            axis.axhline(zero, color=style.MUTED, linewidth=1, linestyle=":")
        axis.set_ylabel(ylabel)
    return figure


def observers(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws people's recognition beside that of the generating network, a panel a network.

    Args:
        table: Rows of `analysis.recognition` by observer, model and layer.
        source: Whose answers.

    Returns:
        The figure.
    """
    models = list(dict.fromkeys(table["model"]))
    columns = min(3, len(models))
    rows_of = -(-len(models) // columns)
    with style.house_style(grid=False):
        layers = max(table.groupby("model")["layer"].nunique())
        size = columns * max(2.4, 0.34 * layers + 0.7) + 0.5, 2.7 * rows_of + 0.4
        figure = listening.labelled_figure(*size, source)
        axes = figure.subplots(rows_of, columns, squeeze=False, sharey=True).ravel()
        for axis in axes[len(models) :]:
            axis.set_axis_off()
        for i, (axis, model) in enumerate(zip(axes, models, strict=False)):
            own = table[table["model"] == model]
            names = list(dict.fromkeys(own["layer"]))
            for observer, line, fill in (
                ("human", "-", None),
                ("network", "--", style.PAPER),
            ):
                rows = own[own["observer"] == observer].set_index("layer").reindex(names)
                y, low, high = (
                    100 * rows[c].to_numpy(float) for c in ("mean", "ci_low", "ci_high")
                )
                axis.errorbar(
                    *(range(len(names)), y, style.errors(y, low, high)),
                    color=style.network_color(i),
                    linestyle=line,
                    marker="o",
                    mfc=fill,
                    ms=4.5,
                    capsize=2,
                    label={"human": "listeners", "network": "the network itself"}[observer],
                )
            axis.set_title(str(model), fontsize=8)
            axis.axhline(100 * float(own["chance"].iloc[0]), color=style.MUTED, lw=1, linestyle=":")
            axis.set_xticks(range(len(names)), names)
            listening.slant(axis)
            axis.set(ylim=(0, 104))
            if i % columns == 0:
                axis.set_ylabel("Recognised (%)")
        # Outside the panels: curves may run anywhere.
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8
        )
    return figure


def bayes_factors(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws Bayes factors by comparison on a logarithmic axis.

    Args:
        table: Rows of `analysis.bayes_factors`.
        source: Whose answers.

    Returns:
        The figure.
    """
    table, labels, colors = _comparisons(table)
    values = table["bf10"].to_numpy(float)
    nothing = np.full(len(values), np.nan)
    return forest(
        *(labels, np.clip(values, 1e-3, 1e6), nothing, nothing),
        xlabel="BF10: for no difference  <  1  <  for a difference",
        zero=1.0,
        bounds=(1 / 3, 3),
        colors=colors,
        log=True,
        source=source,
    )


def _comparisons(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str], list[str]]:
    """The rows that are drawn, with labels and colours; of many pairs, over all layers alone."""
    pairs = list(dict.fromkeys(zip(table["model_a"], table["model_b"], strict=True)))
    if len(pairs) > 3:
        table = table[table["layer"] == "all"]
    labels = [
        str(row.layer) if len(pairs) == 1 else f"{row.layer}: {row.model_b} less {row.model_a}"
        for row in table.itertuples()
    ]
    keys = zip(table["model_a"], table["model_b"], strict=True)
    return table, labels, [style.network_color(pairs.index(key)) for key in keys]


def equivalence(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws differences of recognition with the interval that an equivalence test compares.

    Args:
        table: Rows of `analysis.equivalence_tests`.
        source: Whose answers.

    Returns:
        The figure.
    """
    table, labels, colors = _comparisons(table)
    bound = 100 * float(table["bound"].iloc[0])
    values, low, high = (
        100 * table[c].to_numpy(float) for c in ("difference", "ci_low", "ci_high")
    )
    return forest(
        *(labels, values, low, high),
        xlabel="Difference of recognition (percentage points)",
        bounds=(-bound, bound),
        colors=colors,
        source=source,
    )


def consistency(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws kappas of errors, overall and within layers.

    Args:
        table: Rows of `analysis.error_consistency`.
        source: Whose answers; those of `listening.LABELS` are labelled.

    Returns:
        The figure.
    """
    first = table.assign(label=table["kind"] + ", all trials")
    second = pd.DataFrame(
        {
            "label": table["kind"] + ", within layers",
            "kappa": table["kappa_within"],
            "ci_low": table["within_low"],
            "ci_high": table["within_high"],
        }
    )
    both = pd.concat([first, second], ignore_index=True)
    names = ("kappa", "ci_low", "ci_high")
    return rows(both, "label", names, xlabel="Error consistency (kappa)", source=source)


def mixed_model(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws odds ratios by layer.

    Args:
        table: Rows of `analysis.mixed_model` or `analysis.gee`.
        source: Whose answers; those of `listening.LABELS` are labelled.

    Returns:
        The figure.
    """
    rows = table[table["odds_ratio"].notna()]
    labels = [
        str(r.effect) if r.level == "" else f"{r.effect}, {r.level}" for r in rows.itertuples()
    ]
    values, low, high = (rows[c].to_numpy(float) for c in ("odds_ratio", "ci_low", "ci_high"))
    xlabel = "Odds ratio of a right answer"
    return forest(labels, values, low, high, xlabel=xlabel, zero=1.0, log=True, source=source)


def ceiling(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws how well profiles predict a listener's, within the noise ceiling.

    Args:
        table: Rows of `analysis.noise_ceiling`.
        source: Whose answers.

    Returns:
        The figure.
    """
    bounds = float(table["lower"].iloc[0]), float(table["upper"].iloc[0])
    rows = table.assign(who=table["who"].replace({"listeners": "other listeners (lower bound)"}))
    return forest(
        rows["who"].astype(str).tolist(),
        *(rows[c].to_numpy(float) for c in ("r", "ci_low", "ci_high")),
        xlabel="Correlation with a listener's profile; band: noise ceiling",
        bounds=bounds if np.isfinite(bounds).all() else None,
        source=source,
    )


def reliability(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws split-half reliabilities.

    Args:
        table: Rows of `analysis.split_half`.
        source: Whose answers; those of `listening.LABELS` are labelled.

    Returns:
        The figure.
    """
    low = table["split_low"].to_numpy(float)
    return forest(
        list(table["what"]),
        *(table["spearman_brown"].to_numpy(float), low, table["split_high"].to_numpy(float)),
        xlabel="Reliability (split halves, stepped up)",
        limits=(min(0.0, float(np.nanmin(low))), 1.02),
        source=source,
    )


def stimuli(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws the share of right answers to every single metamer by layer.

    Args:
        table: Rows of `analysis.stimuli`.
        source: Whose answers.

    Returns:
        The figure.
    """
    models = list(dict.fromkeys(table["model"]))
    with listening.layer_panel(table, source) as (figure, axis, places):
        wide = 0.7 / len(models)
        for i, model in enumerate(models):
            for layer, rows in table[table["model"] == model].groupby("layer", sort=False):
                # In order within their layer's strip: a curve of how metamers spread.
                share = np.sort(100 * rows["proportion"].to_numpy(float))
                left = places[model, layer] + (i - len(models) / 2) * wide
                x = left + wide * (np.arange(len(share)) + 0.5) / len(share)
                axis.plot(x, share, ".", ms=3.5, color=style.network_color(i), alpha=0.7)
            axis.plot([], [], "o", ms=5, color=style.network_color(i), label=model)
        axis.set(ylim=(-4, 104), ylabel="Recognised (%), each metamer")
    return figure


def order(table: pd.DataFrame, *, source: str = "") -> Figure:
    """Draws recognition and response time in the course of a session.

    Args:
        table: Rows of `analysis.order_effects`.
        source: Whose answers.

    Returns:
        The figure.
    """
    measures = list(dict.fromkeys(table["what"]))
    with style.house_style(grid=False):
        figure = listening.labelled_figure(2.9 * len(measures) + 0.4, 2.7, source)
        for i, what in enumerate(measures):
            axis = figure.add_subplot(1, len(measures), i + 1)
            rows = table[(table["what"] == what) & (table["part"] != "slope")]
            y, low, high = (rows[c].to_numpy(float) for c in ("mean", "ci_low", "ci_high"))
            if what == "response time":
                y, low, high = (np.exp(side) for side in (y, low, high))
            else:
                y, low, high = (100 * side for side in (y, low, high))
            errors = style.errors(y, low, high)
            axis.errorbar(range(len(rows)), y, errors, marker="o", ms=5, capsize=2.5)
            axis.set_xticks(range(len(rows)), list(rows["part"]))
            name = "Response time (ms)" if what == "response time" else "Recognised (%)"
            axis.set(xlabel="Part of the session", ylabel=name)
    return figure


DRAWINGS: dict[str, Drawing] = {
    "people_and_networks": Drawing(
        "recognition_by_observer",
        observers,
        "Beside the networks themselves",
        "Recognition by layer, of listeners and of the network that the metamers were made from.",
        "Solid: means over listeners. Dashed: the generating network on the sounds that each "
        "listener heard. Bars: 95 % intervals (BCa bootstrap over listeners).",
    ),
    "half_stages": Drawing(
        "curve_summary",
        functools.partial(
            rows,
            label="model",
            columns=("half_stage", "half_low", "half_high"),
            xlabel="Layer of half recognition (place, 0 the first)",
            zero=None,
            colored=True,
        ),
        "Where half is recognised",
        "Layer at which each network's recognition curve has fallen by half, with its interval.",
        "A falling logistic curve fitted to the mean over listeners; 95 % intervals by bootstrap "
        "over listeners.",
    ),
    "contrasts": Drawing(
        "contrasts",
        functools.partial(
            rows,
            label="contrast",
            columns=("estimate", "ci_low", "ci_high"),
            xlabel="Contrast of shares of right answers",
        ),
        "Planned contrasts",
        "Planned contrasts of shares of right answers with their intervals.",
        "Means over listeners, 95 % BCa intervals; p in the table is corrected over the family.",
    ),
    "bayes_factors": Drawing(
        "bayes_factors",
        bayes_factors,
        "Evidence for and against a difference",
        "Bayes factors of the differences between networks at each layer, on a logarithmic axis.",
        "JZS Bayes factors of the paired t tests; band: less than threefold evidence either way. "
        "Drawn from 0.001 to a million; "
        "of more than three pairs, over all layers alone.",
    ),
    "equivalence": Drawing(
        "equivalence",
        equivalence,
        "Too small to matter?",
        "Differences between networks with 90 % intervals, and the band of differences too small "
        "to matter.",
        "Two networks are equivalent to within the band where the 90 % interval lies inside it "
        "(two one-sided tests).",
    ),
    "mixed_model": Drawing(
        "mixed_model",
        mixed_model,
        "Other listeners, other recordings",
        "Odds ratios of a right answer, from a mixed model of listeners and recordings.",
        "Logistic mixed model with crossed random effects of listeners and recordings; the later "
        "network, in alphabetical order, over the earlier; 95 % intervals.",
    ),
    "reliability": Drawing(
        "split_half",
        reliability,
        "Reliability",
        "Split-half reliability of cells, of metamers and of listeners.",
        "Stepped up to all listeners or trials (Spearman-Brown); lines: 95 % of random splits.",
    ),
    "noise_ceiling": Drawing(
        "noise_ceiling",
        ceiling,
        "The noise ceiling",
        "Correlations of a listener's profile over layers with those of machines and of others.",
        "No prediction of a single listener can be expected above the band.",
    ),
    "error_consistency": Drawing(
        "error_consistency",
        consistency,
        "The same errors?",
        "Kappa of right and wrong answers between pairs of observers, with intervals.",
        "0: errors agree as chance would have it; within layers: beyond that layers differ in "
        "difficulty.",
    ),
    "stimuli": Drawing(
        "stimuli",
        stimuli,
        "Every metamer",
        "Share of right answers to every single metamer, by layer and network.",
        "A point is a metamer; within a layer they stand in order.",
    ),
    "information": Drawing(
        "transmitted_information",
        functools.partial(
            by_layer,
            columns=("bits_corrected", "ci_low", "ci_high"),
            ylabel="Information (bits)",
            zero=0.0,
        ),
        "Information transmitted",
        "Bits that answers transmit about the word, by layer and network.",
        "Of all trials pooled, corrected for few trials; 95 % intervals by jackknife over "
        "listeners.",
    ),
    "response_bias": Drawing(
        "response_bias",
        functools.partial(
            rows,
            label="word",
            columns=("bias", "ci_low", "ci_high"),
            xlabel="Answered less spoken (percentage points)",
            scale=100,
        ),
        "Favourite words",
        "How much more often each word is answered than spoken, with intervals.",
        "Means over listeners, 95 % BCa intervals.",
    ),
    "confusion_similarity": Drawing(
        "confusion_similarity",
        functools.partial(
            rows,
            label="model",
            columns=("pearson_r", "ci_low", "ci_high"),
            xlabel="Correlation of wrong answers, people and networks",
        ),
        "The same confusions?",
        "Correlation of wrong answers by people and by networks, with intervals.",
        "Over pairs of words; 95 % intervals by jackknife over listeners.",
    ),
    "response_times": Drawing(
        "response_times",
        functools.partial(
            by_layer,
            columns=("geometric_mean_ms", "ci_low_ms", "ci_high_ms"),
            ylabel="Response time (ms)",
        ),
        "Response times",
        "Response time by layer and network, with intervals.",
        "Geometric means over listeners; 95 % intervals.",
    ),
    "order_effects": Drawing(
        "order_effects",
        order,
        "In the course of the session",
        "Recognition and response time in four parts of a session.",
        "Corrected for which metamers were heard when; 95 % intervals over listeners.",
    ),
}
