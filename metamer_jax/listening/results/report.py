"""What a listening experiment found, to look at: figures as PDF and PNG, and one report.html.

Answers that no person gave are labelled so in every figure, in the page's title and on top of it.
"""

import functools
import io
import logging
import os
import pathlib
from typing import TYPE_CHECKING, Any

import matplotlib
import pandas as pd

from metamer_jax import analysis, storage
from metamer_jax.figures import analyses
from metamer_jax.figures import listening as plots
from metamer_jax.listening import listeners
from metamer_jax.listening import responses as responses_module
from metamer_jax.report import page

if TYPE_CHECKING:
    from metamer_jax.listening.results.tables import Results

_FORMATS: dict[str, dict[str, Any]] = {  # Without dates: the same bytes every time.
    ".pdf": {"metadata": {"CreationDate": None}},
    ".png": {"dpi": 300, "facecolor": "white", "metadata": {"Software": None}},
}
# Figure to its title, what is to be seen, and the caption.
CAPTIONS = {
    "recognition_by_layer": (
        "Recognition by layer",
        "Share of right answers by network and layer of the metamer.",
        "Means over listeners; bars are 95 % intervals (BCa bootstrap over listeners; of a single "
        "listener, Wilson's over trials; none where all listeners agree).",
    ),
    "people_and_machines": (
        "Beside machine listeners",
        "Recognition of each network's layers by machines against that by this page's listeners.",
        "A point is a network's layer; means over listeners of either kind.",
    ),
    "recognition_matrix": (
        "Every network on every network's metamers",
        "Matrix of listeners by network and layer: share of metamers recognised.",
        "A frame marks a network and its own metamers, which were made for it to recognise; no "
        "curve or correlation here counts them.",
    ),
}
# Of words, drawn between the first of these and the further analyses.
_WORDS = {
    "recognition_by_word": analyses.Drawing(
        "recognition_by_word",
        plots.recognition_by_word,
        "Recognition by word",
        "Share of right answers by the word spoken in the target, for each network.",
        "Means over listeners and all layers, with intervals as above.",
    ),
    "confusion_by_network": analyses.Drawing(
        "confusion",
        plots.confusions,
        "Confusions by network",
        "Matrices of the word spoken and the word answered, one a network.",
        "Rows: the word spoken in the target; percentages of its trials, all layers pooled.",
    ),
    "confusion_by_layer": analyses.Drawing(
        "confusion_by_layer",
        functools.partial(plots.confusions, columns="layer"),
        "Confusions by network and layer",
        "Matrices of the word spoken and the word answered, one a network and layer.",
        "Rows: the word spoken in the target; percentages of its trials.",
    ),
}
CAPTIONS |= {
    name: (drawing.title, drawing.alt, drawing.caption)
    for name, drawing in (_WORDS | analyses.DRAWINGS).items()
}


def write(
    found: "Results",
    read: responses_module.Responses,
    folder: str | os.PathLike,
    *,
    panel: pd.DataFrame | None = None,
    about: pd.DataFrame | None = None,
) -> pathlib.Path:
    """Writes figures/<name>.{pdf,png}, tables of the panel, and report.html.

    Args:
        found: From `results.analyze`.
        read: What it was given.
        folder: Where; the tables of `results.write` stand there too.
        panel: Trials of machine listeners to stand beside the answers, or None.
        about: A row per machine listener for the report (`listeners.accuracy`), or None.

    Returns:
        The report's path.
    """
    folder = pathlib.Path(folder)
    panel_curve = extra = None
    if panel is not None:
        extra = panel_tables(found, panel)
        panel_curve = extra.get("machine_recognition")
        for name, table in extra.items():
            storage.write_csv(folder / f"{name}.csv", table)
            storage.write_text(folder / f"{name}.json", analysis.to_json(table) + "\n")
    drawn = draw(found, panel_curve, None if extra is None else extra["recognition_matrix"])
    for name, figure in drawn.items():
        save(figure, folder / "figures" / name)
    for name in set(CAPTIONS) - set(drawn):  # Of an earlier analysis.
        for suffix in (".pdf", ".png"):
            (folder / "figures" / f"{name}{suffix}").unlink(missing_ok=True)
    path = folder / "report.html"
    storage.write_text(path, render(found, read, drawn, extra or {}, about))
    return path


def panel_tables(found: "Results", panel: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Returns what machine listeners recognise, and how it agrees with the answers."""
    settings = found.settings
    counted = {"chance": settings["chance"], "seed": settings["seed"]}
    others = listeners.of_others(panel)
    others = others[~others["layer"].isin(settings["exclude_layers"])]
    tables = {
        "machine_recognition": analysis.recognition(
            others, resamples=settings["resamples"], **counted
        ).assign(source=listeners.SOURCE),
        "recognition_matrix": analysis.recognition_matrix(panel, chance=settings["chance"]).assign(
            source=listeners.SOURCE
        ),
    }
    if found.source != listeners.SOURCE and "recognition" in found.tables:
        kept = found.exclusions.trials
        kept = kept[~kept["layer"].isin(settings["exclude_layers"])]
        tables["agreement"] = listeners.agreement(kept, panel).assign(
            source=f"{found.source} and {listeners.SOURCE}"
        )
    return tables


def draw(
    found: "Results", panel_curve: pd.DataFrame | None, matrix: pd.DataFrame | None
) -> dict[str, plots.Figure]:
    """Returns the figures that the tables allow, by name."""
    tables, source = found.tables, found.source
    drawn: dict[str, plots.Figure] = {}
    beside = None if source == listeners.SOURCE else panel_curve
    if "recognition" in tables:
        drawn["recognition_by_layer"] = plots.recognition_by_layer(
            tables["recognition"], source=source, panel=beside
        )
    for name, drawing in _WORDS.items():
        if drawing.table in tables:
            drawn[name] = drawing.draw(tables[drawing.table], source=source)
    if beside is not None and "recognition" in tables:
        drawn["people_and_machines"] = plots.agreement(tables["recognition"], beside, source=source)
    for name, drawing in analyses.DRAWINGS.items():
        if drawing.table in found.with_numbers:
            drawn[name] = drawing.draw(tables[drawing.table], source=source)
    if matrix is not None:
        drawn["recognition_matrix"] = plots.recognition_matrix(matrix)
    return drawn


def save(figure: plots.Figure, stem: pathlib.Path) -> None:
    """Writes a figure as PDF (text stays text) and PNG (300 dpi, white), the same every time."""
    for suffix, options in _FORMATS.items():
        file = io.BytesIO()
        # It tells of every glyph, in drivers that show what is logged.
        logging.getLogger("fontTools").setLevel(logging.WARNING)
        with matplotlib.rc_context({"pdf.fonttype": 42}):
            figure.savefig(file, format=suffix[1:], **options)
        storage.write_bytes(stem.with_suffix(suffix), file.getvalue())


def render(
    found: "Results",
    read: responses_module.Responses,
    drawn: dict[str, plots.Figure],
    extra: dict[str, pd.DataFrame],
    about: pd.DataFrame | None,
) -> str:
    """Returns report.html."""
    kept = found.exclusions
    svgs = {
        name: page.svg(figure, CAPTIONS[name][1], f"f{number}")
        for number, (name, figure) in enumerate(drawn.items())
    }
    label = plots.LABELS.get(found.source, "")
    title, by_model = "Listening experiment", found.tables.get("recognition_by_model")
    shown = {**found.tables, **extra}
    return page.render(
        "listening_report.html.jinja",
        title=f"{label.split(':')[0]} · {title}" if label else title,
        heading=title,
        run_name=found.source,
        label=label,
        machine=found.source == listeners.SOURCE,
        found=found,
        read=read,
        participants=kept.trials["participant"].nunique(),
        counted=int(kept.sessions["kept"].sum()),
        overall=None if by_model is None else float(by_model["mean"].mean()),
        omitted=by_reason(found),
        further=[
            (name, drawing.table, name in drawn)
            for name, drawing in analyses.DRAWINGS.items()
            if drawing.table in found.tables
        ],
        figures=svgs,
        captions=CAPTIONS,
        tables={name: _shown(name, table) for name, table in shown.items()},
        exclusions=_cells(kept.counts.drop(columns="source", errors="ignore")),
        about=None if about is None else _cells(about.drop(columns="source", errors="ignore")),
    )


def by_reason(found: "Results") -> dict[str, str]:
    """Returns why tables are missing, with their names."""
    names: dict[str, list[str]] = {}
    for name, reason in found.omitted.items():
        names.setdefault(reason, []).append(name)
    return {reason: ", ".join(them) for reason, them in names.items()}


# Columns of each table that the page shows; the files have them all.
_COLUMNS = {
    "recognition": "model layer mean ci_low ci_high n correct trials wilson_low "
    "wilson_high p_chance",
    "recognition_by_model": "model mean ci_low ci_high n correct trials p_chance",
    "recognition_by_word": "model word mean ci_low ci_high n correct trials",
    "recognition_of_other_sounds": "kind mean ci_low ci_high n correct trials",
    "compare_models": "layer model_a model_b difference ci_low ci_high statistic df p p_holm "
    "p_permutation dz n unit reason",
    "compare_models_paper": "layer model_a model_b proportion_a proportion_b statistic df p "
    "p_holm n unit reason",
    "anova_observers": "model effect F df1 df2 p p_gg p_hf np2 p_perm scheme n left_out reason",
    "power": "unit n power ci_low ci_high proportion_a proportion_b trials listener_sd model_sd "
    "item_sd items alpha simulations",
    "stimuli": "model layer word target_id correct trials proportion wilson_low wilson_high "
    "item_rest_r modal_response modal_share reason",
    "machine_recognition": "model layer mean ci_low ci_high n correct trials",
    "recognition_matrix": "listener model layer own correct trials proportion wilson_low "
    "wilson_high",
    "agreement": "level model pearson_r pearson_low pearson_high spearman_r spearman_low "
    "spearman_high n unit listeners machines reason",
}


def _shown(name: str, table: pd.DataFrame) -> dict[str, Any]:
    whole = table
    columns = [c for c in _COLUMNS.get(name, "").split() if c in table]
    table = table[columns] if columns else table.drop(columns="source", errors="ignore")
    # Columns that say nothing take room.
    says_something = [c for c in table if c != "reason" or (table[c] != "").any()]
    return _cells(table.loc[:, says_something], whole)


_LONG = 30  # Characters that a column of texts is given more room for.


def _cells(table: pd.DataFrame, whole: pd.DataFrame | None = None) -> dict[str, Any]:
    """A table as texts: names of columns, their kinds, and rows; and all of it, to be saved."""
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    rows = [
        [_text(value, str(name)) for value, name in zip(row, table, strict=True)]
        for row in table.itertuples(index=False)
    ]
    longest = [max((len(row[i]) for row in rows), default=0) for i in range(len(numeric))]
    return {
        "names": [str(n).replace("_", " ") for n in table],
        "numeric": numeric,
        "kinds": [
            "num" if is_number else "long" if n > _LONG else ""
            for is_number, n in zip(numeric, longest, strict=True)
        ],
        "rows": rows,
        "whole": table if whole is None else whole,
    }


_SHARES = (
    "mean",
    "proportion",
    "difference",
    "share",
    "wilson",
    "ci_",
    "test_",
    "pearson",
    "spearman",
    "kappa",
    "r_",
    "bits",
    "bias",
    "half_",
    "estimate",
)


def _text(value: Any, name: str) -> str:
    if value is None or value is pd.NA or value != value:
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else ""
    if isinstance(value, str):
        return value
    number = float(value)
    if name == "p" or name.startswith("p_"):
        return "<\u00a0.001" if number < 0.001 else f"{number:.3f}".lstrip("0")
    if name.startswith(_SHARES):
        return f"{number:.3f}"
    return str(int(number)) if number.is_integer() else page.number(number)
