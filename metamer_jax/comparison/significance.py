"""The paper's tests on the answers, and analyses of variance, target by target."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from metamer_jax import analysis
from metamer_jax.comparison import effects
from metamer_jax.comparison.entries import Contrast, Entry
from metamer_jax.comparison.tables import Answers


def pairwise(
    answers: Answers, trials: pd.DataFrame, contrasts: Sequence[Contrast], *, seed: int = 0
) -> pd.DataFrame:
    """Tests every planned difference as the paper did, and over listeners.

    "paper" is Student's t over single trials, as if every answer were independent; "listener" a
    paired t over the raters (each its own network and seed), with targets and makers' seeds as
    they are. Both understate what another choice of targets or seeds would change: the intervals of
    `effects.differences` do not.

    Args:
        answers: Says who rates.
        trials: From `tables.recognition`.
        contrasts: The planned differences.
        seed: Of permutations and bootstrap.

    Returns:
        Rows of `analysis.compare_models` with a column `question`; model_b minus model_a is the
        contrast's `of` minus `against`. p is corrected by Holm over the stages of one contrast.
    """
    present = set(effects.entries_of(answers))
    found = []
    for contrast in contrasts:
        chosen = effects.raters(answers, contrast.connections)
        if not {contrast.of, contrast.against} <= present or not len(chosen):
            continue
        pair = (contrast.against.label, contrast.of.label)
        shared = effects.stages_of(answers, contrast.of, contrast.against)
        table = trials[trials["maker"].isin(pair) & trials["stage"].isin(shared)]
        if table.empty:
            continue
        names = table["scorer"].astype(str) + "-seed" + table["scorer_seed"].astype(str)
        table = table.assign(
            participant=names,
            model=table["maker"],
            layer=table["stage"],
            layer_index=table["stage_index"],
            correct=table["correct"].astype(float),
        )
        wanted = {f"{answers.scorers[i].entry.label}-seed{answers.scorers[i].seed}" for i in chosen}
        table = table[table["participant"].isin(wanted)]
        for method in analysis.paired.METHODS:
            compared = analysis.compare_models(
                table, method, models=pair, chance=answers.chance, resamples=0, seed=seed
            )
            found.append(compared.assign(question=contrast.question))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def variance(answers: Answers, *, permutations: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Analyses of variance with the targets as subjects: connection, size and stage.

    "connection x stage": the plain networks of every connection, each rated by the networks of
    other connections (so not all by the same). "connection x size": connections that have the same
    controls, rated by the networks of the first entry's connection alone; recognition is the mean
    over the networks' stages.

    Returns:
        Rows of `analysis.anova` with columns `design`, `entries` and `raters`; empty where there
        are too few entries or raters.
    """
    entries = effects.entries_of(answers)
    entries = [e for e in entries if isinstance(e, Entry)]
    plain = [e for e in entries if not e.variant and e.training is None]
    tables = [("connection x stage", plain, _by_connection_and_stage(answers, plain))]
    sized = _crossed(entries, plain)
    tables.append(("connection x size", sized, _by_connection_and_size(answers, sized)))
    found = []
    for name, used, table in tables:
        factors = [c for c in ("connection", "stage", "size") if c in table]
        if table.empty or any(table[f].nunique() < 2 for f in factors):
            continue
        if table["target"].nunique() < 2:
            continue
        result = analysis.anova(
            table,
            dv="recognition",
            subject="target",
            within=factors,
            permutations=permutations,
            seed=seed,
        )
        labels = ", ".join(entry.label for entry in used)
        found.append(result.assign(design=name, entries=labels, raters=table.attrs["raters"]))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _by_connection_and_stage(answers, entries) -> pd.DataFrame:
    rows, counts = [], []
    for entry in entries:
        chosen = effects.raters(answers, frozenset((entry.connection,)))
        counts.append(len(chosen))
        for stage in effects.stages_of(answers, *entries) if len(chosen) else ():
            values = effects.scores(answers, entry, chosen, stage)
            rows += _rows(answers, values, connection=entry.connection, stage=stage)
    table = pd.DataFrame(rows)
    table.attrs["raters"] = f"{min(counts, default=0)} to {max(counts, default=0)}"
    return table if counts and min(counts) else table.iloc[:0]


def _crossed(entries, plain):
    """Entries of the connections, the first one's apart, that have a control of the same kind."""
    if not plain:
        return []
    sized = {(e.connection, e.variant): e for e in entries if e.training is None}
    connections = [e.connection for e in plain if e.connection != entries[0].connection]
    variants = [v for v in dict.fromkeys(v for _, v in sized) if v.endswith("matched") or v == ""]
    shared = [v for v in variants if all((c, v) in sized for c in connections)]
    return [sized[c, v] for c in connections for v in shared]


def _by_connection_and_size(answers, entries) -> pd.DataFrame:
    if not entries:
        return pd.DataFrame()
    chosen = effects.raters(answers, frozenset(e.connection for e in entries))
    if not len(chosen):
        return pd.DataFrame()
    rows = []
    for entry in entries:
        values = effects.scores(answers, entry, chosen, effects.ALL)
        size = entry.variant or "as published"
        rows += _rows(answers, values, connection=entry.connection, size=size)
    table = pd.DataFrame(rows)
    table.attrs["raters"] = str(len(chosen))
    return table


def _rows(answers, values, **cell):
    """A row per target of [seed, rater, target]."""
    means = np.nanmean(values, axis=(0, 1))
    return [
        {"target": int(target), "recognition": mean, **cell}
        for target, mean in zip(answers.target_ids, means, strict=True)
    ]
