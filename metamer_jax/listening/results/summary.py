"""The results in words, and as one JSON object."""

import json
import math

import pandas as pd

from metamer_jax import analysis
from metamer_jax.figures import listening as plots
from metamer_jax.listening import responses
from metamer_jax.listening.results import report
from metamer_jax.listening.results.tables import Results


def summary(results: Results, read: responses.Responses) -> dict[str, object]:
    """Returns what summary.json holds."""
    kept = results.exclusions.trials
    return {
        "schema_version": 1,
        "source": results.source,
        "simulated": results.simulated,
        "machine": results.machine,
        "participants": int(kept["participant"].nunique()),
        "sessions_read": len(read.sessions),
        "sessions_counted": int(results.exclusions.sessions["kept"].sum()),
        "trials_read": len(read.trials),
        "trials_counted": len(kept),
        "exclusions": json.loads(analysis.to_json(results.exclusions.counts)),
        "settings": results.settings,
        "nothing": results.nothing,
        "tables": list(results.tables),
        "omitted": results.omitted,
        "warnings": list(results.warnings),
        "notes": list(read.notes),
    }


def in_words(results: Results, read: responses.Responses) -> str:
    """Returns the results as a terminal shows them."""
    lines = []
    if results.simulated:
        lines += ["SIMULATED LISTENERS: no person answered.", ""]
    if results.machine:
        lines += ["MACHINE LISTENERS: networks, no person answered.", ""]
    kept = results.exclusions
    if results.nothing:
        lines += [results.nothing, ""]
    who = "networks" if results.machine else "participants"
    lines.append(
        f"{len(read.sessions)} sessions read ({results.source}), "
        f"{int(kept.sessions['kept'].sum())} count: {len(kept.trials)} trials of "
        f"{kept.trials['participant'].nunique()} {who}"
    )
    counted = kept.counts[kept.counts["dropped"].fillna(0) > 0]
    lines += [
        f"  {dropped} dropped: {meaning}"
        for dropped, meaning in zip(counted["dropped"], counted["meaning"], strict=True)
    ]
    recognition = results.tables.get("recognition")
    if recognition is not None:
        lines += ["", _recognition_in_words(recognition)]
    compared = results.tables.get("compare_models")
    if compared is not None:
        lines += ["", _comparison_in_words(compared)]
    curves = results.tables.get("curve_summary")
    if curves is not None and curves["half_stage"].notna().any():
        lines += ["", _curves_in_words(curves)]
    if results.omitted:
        lines.append("")
    lines += [f"No {names}: {reason}" for reason, names in report.by_reason(results).items()]
    lines += [f"Note: {note}" for note in (*read.notes, *results.warnings)]
    return "\n".join(lines)


def _recognition_in_words(table: pd.DataFrame) -> str:
    shown = table[["model", "layer", "mean", "ci_low", "ci_high", "n", "trials"]].copy()
    shown["recognised"] = [
        f"{100 * mean:.0f} %" + ("" if math.isnan(a) else f" [{100 * a:.0f}, {100 * b:.0f}]")
        for mean, a, b in zip(shown["mean"], *plots.intervals(table), strict=True)
    ]
    title = f"Recognition by model and layer (chance {100 * table['chance'].iloc[0]:.1f} %):\n"
    return title + shown[["model", "layer", "recognised", "n", "trials"]].to_string(index=False)


def _curves_in_words(table: pd.DataFrame) -> str:
    shown = table[table["half_stage"].notna()]
    lines = [
        f"  {row['model']}: {row['half_stage']:.2f} [{row['half_low']:.2f}, "
        f"{row['half_high']:.2f}], {row['half_layers']}; slope {100 * row['slope']:.0f} points a "
        "layer"
        for row in shown.to_dict("records")
    ]
    return "\n".join(["Half recognised at layer (0 the first, 95 % interval):", *lines])


def _comparison_in_words(table: pd.DataFrame) -> str:
    many = len(table[["model_a", "model_b"]].drop_duplicates()) > 1
    rows = table[table["layer"] == "all"] if many else table
    columns = ["layer", "difference", "p", "p_holm", "n", "reason"]
    shown = rows[(["model_a", "model_b"] if many else []) + columns].rename(
        columns={"n": f"n ({table['unit'].iloc[0]})"}
    )
    for name in ("p", "p_holm"):
        shown[name] = [
            "-" if math.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}" for p in shown[name]
        ]
    first = rows.iloc[0]
    which = "" if many else f" {first['model_b']} less {first['model_a']},"
    return (
        f"Models compared:{which} listener the unit, paired t, Holm over layers\n"
        + shown.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="-")
        + ("\n(each layer: compare_models.csv)" if many else "")
    )
