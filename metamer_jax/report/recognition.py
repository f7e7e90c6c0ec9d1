"""Who recognises a run's metamers: its other networks, people where they answered, the paper's."""

from typing import Any

import numpy as np
import pandas as pd

from metamer_jax import analysis, figures
from metamer_jax.analysis import intervals, paper
from metamer_jax.report.contents import RunContents

# Presets that are the paper's experiment, or show it in short.
_THE_PAPERS = ("paper", "quick")
_COLUMNS = ("who", "model", "layer", "correct", "trials", "proportion", "low", "high", "listeners")
PEOPLE, MACHINE, OWN, PAPER = figures.WHO


def curves(run: RunContents) -> pd.DataFrame:
    """Returns recognition by network and stage, curve by curve.

    Returns:
        A row per curve and stage: who ("people", "machine", "own" or "paper"), model, layer,
        correct and trials, proportion, low and high (95 %: of people over listeners, BCa; of a
        single listener Wilson's; of several networks Wilson's over metamers, each with the share
        of networks that recognise it), listeners.
    """
    rows = [*_people(run), *_machines(run)]
    if is_the_papers(run):
        rows += [row for row in _paper() if row["layer"] in run.stages.get(row["model"], ())]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def is_the_papers(run: RunContents) -> bool:
    """Whether the run is the paper's experiment, so that its numbers stand beside the paper's."""
    return run.config.preset in _THE_PAPERS and bool({*paper.CORRECT} & {*run.networks})


def _machines(run):
    """What the run's networks recognise: of each other's metamers, and of their own."""
    heard = run.heard
    if heard is None:
        return
    verified = heard[(heard["kind"] == "metamer") & (heard["verdict"] == "pass")]
    for model in run.networks:
        for layer in run.stages[model]:
            cell = verified[(verified["model"] == model) & (verified["layer"] == layer)]
            for who, part in (
                (MACHINE, cell[cell["participant"] != model]),
                (OWN, cell[cell["participant"] == model]),
            ):
                if part.empty:
                    continue
                count = len(part[["target_id", "seed"]].drop_duplicates())
                share = part["correct"].mean()
                low, high = intervals.wilson(share, count)
                yield {
                    **{"who": who, "model": model, "layer": layer, "proportion": share},
                    **{"correct": part["correct"].sum(), "trials": len(part)},
                    **{"low": low, "high": high, "listeners": part["participant"].nunique()},
                }


def _people(run):
    """People's answers, where `experiments.analyze_responses` left them."""
    table = run.files.csv("listening/analysis/recognition.csv")
    if table is None or not {"model", "layer", "mean", "n", "correct", "trials"} <= {*table}:
        return
    low, high = figures.listening.intervals(table)
    for row, *ends in zip(table.to_dict("records"), low, high, strict=True):
        yield {
            **{"who": PEOPLE, "model": row["model"], "layer": row["layer"]},
            **{"correct": row["correct"], "trials": row["trials"], "proportion": row["mean"]},
            **{"low": ends[0], "high": ends[1], "listeners": row["n"]},
        }


def _paper():
    for model, counts in paper.CORRECT.items():
        for layer, right in counts.items():
            low, high = intervals.wilson(right / paper.TRIALS, paper.TRIALS)
            yield {
                **{"who": PAPER, "model": model, "layer": layer, "correct": right},
                **{"trials": paper.TRIALS, "proportion": right / paper.TRIALS},
                **{"low": low, "high": high},
            }


def natural(run: RunContents) -> dict[str, float]:
    """Returns the share of the targets themselves that each network recognises."""
    if run.heard is None:
        return {}
    targets = run.heard[run.heard["kind"] == "natural"]
    return targets.groupby("participant", sort=False)["correct"].mean().to_dict()


def in_words(run: RunContents, table: pd.DataFrame) -> list[str]:
    """Returns the answer, a sentence a network: how far down its metamers are recognised."""
    sentences = []
    for who in (PEOPLE, MACHINE):
        for model in run.networks:
            rows = table[(table["who"] == who) & (table["model"] == model)]
            if rows.empty:
                continue
            by_stage = dict(zip(rows["layer"], rows["proportion"], strict=True))
            order = [stage for stage in run.stages[model] if stage in by_stage]
            shares = ", ".join(f"{100 * by_stage[stage]:.0f} % at {stage}" for stage in order)
            subject = "People recognise" if who == PEOPLE else _others(run, model)
            sentences.append(f"{subject} of {model}’s metamers {shares}.")
    return sentences


def yields_in_words(run: RunContents, yields: pd.DataFrame | None) -> list[str]:
    """Returns how many metamers were verified, a sentence a network."""
    sentences = []
    if yields is None or run.metamers is None:
        return sentences
    for model in run.networks:
        rows = yields[yields["network"] == model].to_dict("records")
        parts = [
            f"{row['passed']} of {row['metamers']} at {row['stage']} (median error "
            f"{row['median_relative_error']:.2g})".replace("-", "\N{NON-BREAKING HYPHEN}")
            for row in rows
        ]
        if parts:
            sentences.append(f"Metamers of {model} that were verified: {', '.join(parts)}.")
        said = run.metamers.loc[run.metamers["network"] == model]
        said = said.drop_duplicates("target_id")["target_prediction"]
        if len(said) > 1 and said.nunique() == 1 and said.iloc[0]:
            sentences.append(
                f"{model} takes all {len(said)} targets for “{said.iloc[0]}”: that a metamer keeps "
                "its class says nothing here."
            )
    return sentences


def unjudged(run: RunContents) -> str:
    """Says why nothing tells whether the networks recognise anything; empty where it is told."""
    if run.heard is None or not run.heard.empty:
        return ""
    if not any(run.classes(network) for network in run.networks):
        return "No classes of the model were named (logits), so it recognises nothing"
    return "What the sounds are called (words) are no classes of the model"


def _others(run, model):
    others = [name for name in run.networks if name != model]
    if len(others) == 1:
        return f"Machine listener: {others[0]} recognises"
    return f"Machine listeners: the other {len(others)} networks recognise"


def table_1(run: RunContents) -> list[dict[str, Any]]:
    """Returns the paper's Table 1 with the same test on this run's answers beside it.

    Returns:
        A row per layer and one for all: layer, paper (what was recognised of each network), p
        as printed, and machine and people, each {"shares", "p"} or None.
    """
    names = [*paper.CORRECT]
    if not is_the_papers(run) or not {*names} <= {*run.networks}:
        return []
    ours = {MACHINE: _compared_machines(run, names), PEOPLE: _compared_people(run)}
    rows = []
    for layer, p in paper.P_VALUES.items():
        total = [
            (sum(counts.values()), paper.TRIALS * len(counts))
            if layer == "all"
            else (counts[layer], paper.TRIALS)
            for counts in paper.CORRECT.values()
        ]
        row: dict[str, Any] = {"layer": layer, "paper": total, "p": p}
        for who, table in ours.items():
            row[who] = None
            if table is not None and layer in table.index:
                row[who] = table.loc[layer].to_dict()
        rows.append(row)
    return rows


def _compared_machines(run, names):
    if run.heard is None:
        return None
    heard = run.heard
    used = heard[
        (heard["kind"] == "metamer")
        & (heard["verdict"] == "pass")
        & (heard["participant"] != heard["model"])
        & heard["model"].isin(names)
    ]
    if used["model"].nunique() < 2:
        return None
    used = used.assign(correct=used["correct"].astype(int))
    compared = analysis.compare_models(used, "paper", models=names, permutations=0, resamples=0)
    return compared.set_index("layer")


def _compared_people(run):
    table = run.files.csv("listening/analysis/compare_models_paper.csv")
    needed = {"layer", "proportion_a", "proportion_b", "p"}
    if table is None or not needed <= {*table} or table["layer"].duplicated().any():
        return None
    return table.set_index("layer")


def draw(run: RunContents, table: pd.DataFrame) -> figures.Figure | None:
    """Draws the curves; None where nobody has listened."""
    if table[table["who"] != PAPER].empty:
        return None
    stages = list(dict.fromkeys(s for n in run.networks for s in run.stages[n]))
    # People choose among the words; a network among its classes, which may be more.
    counts = {len(run.classes(network)) for network in run.networks}
    if (table["who"] == PEOPLE).any():
        counts = {len(run.words)}
    chance = 1 / counts.pop() if len(counts) == 1 and counts != {0} else None
    return figures.recognition_curves(table, networks=run.networks, stages=stages, chance=chance)


def shown(run: RunContents, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the table beside the curves: a row per network and stage, a cell per curve."""
    cells = {
        (row["who"], row["model"], row["layer"]): row
        for row in table.replace({np.nan: None}).to_dict("records")
    }
    return [
        {"network": model, "stage": stage, **{w: cells.get((w, model, stage)) for w in figures.WHO}}
        for model in run.networks
        for stage in run.stages[model]
        if any((w, model, stage) in cells for w in (PEOPLE, MACHINE, OWN))
    ]
