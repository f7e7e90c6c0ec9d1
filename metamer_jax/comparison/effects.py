"""What the answers say: means and planned differences, with intervals and tests.

A maker's score is how often others recognise its metamers. Raters of a difference between two
networks are the networks of neither's connection over frequency: no network rates its kin.
Networks that were not trained make metamers, but rate nothing. Scores are means over the raters, a
fixed panel; intervals are over what was sampled, the makers' seeds and the targets.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metamer_jax.comparison import bootstrap
from metamer_jax.comparison.entries import CONNECTION, SIZE, AnyEntry, Contrast
from metamer_jax.comparison.tables import Answers

ITSELF, OTHER_SEED, SAME_CONNECTION, OTHERS = WHO = (
    "itself",
    "same network, other seed",
    "same connection",
    "other connections",
)
ALL = "all"  # Mean over the stages of the networks, that is without the cochleagram.
NATURAL = "natural"  # The targets themselves: the ceiling.


class Resampling(NamedTuple):
    """How intervals are made."""

    resamples: int = 4000
    seed: int = 0
    confidence: float = 0.95


DEFAULT = Resampling()


def raters(answers: Answers, connections: frozenset[str]) -> np.ndarray:
    """Places, among the scorers, of the trained networks of none of these connections."""
    chosen = [
        i
        for i, scorer in enumerate(answers.scorers)
        if scorer.entry.listens and scorer.entry.connection not in connections
    ]
    return np.array(chosen, int)


def entries_of(answers: Answers) -> list[AnyEntry]:
    """The makers' entries, each once, in order."""
    return list(dict.fromkeys(maker.entry for maker in answers.makers))


def _makers(answers, entry):
    return np.array([i for i, maker in enumerate(answers.makers) if maker.entry == entry], int)


def network_stages(answers: Answers) -> np.ndarray:
    """Places of the stages that are networks': metamers of the cochleagram are no network's."""
    places = [i for i, stage in enumerate(answers.stages) if stage != "cochleagram"]
    return np.array(places, int)


def _by_stage(answers, entry, correct):
    """Yields (stage, [..., target]) of [..., stage, target] of one entry's metamers; last `ALL`."""
    names = stages_of(answers, entry)
    for i, stage in enumerate(answers.stages):
        yield stage, correct[..., i, :]
    places = [answers.stages.index(name) for name in names]
    yield ALL, correct[..., places, :].mean(axis=-2)


def stages_of(answers: Answers, *entries: AnyEntry) -> list[str]:
    """The stages of networks that all of some entries have, in order."""
    there = [(answers.heard[:, _makers(answers, e)] >= 0).any(axis=(0, 1, 3, 4)) for e in entries]
    shared = np.all(there, axis=0)
    return [answers.stages[i] for i in network_stages(answers) if shared[i]]


def compared_stages(answers: Answers, contrast: Contrast) -> list[str]:
    """The stages at which two networks can be set against each other.

    Returns:
        Those of both and, where neither has others, `ALL`: a mean over other stages is another
        thing.
    """
    shared = stages_of(answers, contrast.of, contrast.against)
    each = [stages_of(answers, entry) for entry in (contrast.of, contrast.against)]
    return [*shared, ALL] if shared == each[0] == each[1] else shared


def curves(answers: Answers, resampling: Resampling = DEFAULT) -> pd.DataFrame:
    """Recognition of every entry's metamers by stage, by who listens.

    Returns:
        A row per entry, who (of `WHO`) and stage (also `ALL`, and `NATURAL`: what these listeners
        recognise of the targets themselves): mean, low, high, verified_only (the mean over
        metamers that were verified), and the numbers of seeds, scorers and targets.
    """
    correct, rows = answers.correct, []
    passed = np.where(answers.passed.mean(axis=-1) == 1, 1.0, np.nan)
    for entry in entries_of(answers):
        makers = _makers(answers, entry)
        for who in WHO:
            there = _listens(answers, makers, who)
            scorers = np.flatnonzero(there.any(axis=1))
            if not len(scorers):
                continue
            mask = np.where(there[scorers], 1.0, np.nan)[:, :, None, None]
            own = _over_raters(correct[np.ix_(scorers, makers)] * mask)
            verified = dict(_by_stage(answers, entry, own * passed[makers]))
            about = {"entry": entry.label, "who": who, "seeds": int(there.any(axis=0).sum())}
            about |= {"scorers": len(scorers), "targets": correct.shape[-1]}
            for stage, values in _by_stage(answers, entry, own):
                if not np.isfinite(values).any():  # It has no such stage.
                    continue
                row = about | {"stage": stage} | _mean(values, resampling)
                rows.append(row | {"verified_only": _nanmean(verified[stage])})
            natural = _mean(answers.natural_correct[scorers].mean(axis=0), resampling)
            rows.append(about | {"stage": NATURAL, "seeds": 0} | natural)
    return pd.DataFrame(rows)


def _listens(answers, makers, who) -> np.ndarray:
    """[scorer, maker] whether the scorer is of that kind to the maker."""

    def kind(scorer, maker):
        if scorer == maker:
            return ITSELF
        if not scorer.entry.listens:
            return None
        if scorer.entry == maker.entry:
            return OTHER_SEED
        return SAME_CONNECTION if scorer.entry.connection == maker.entry.connection else OTHERS

    return np.array(
        [[kind(scorer, answers.makers[m]) == who for m in makers] for scorer in answers.scorers]
    )


def _mean(values, resampling):
    mean, low, high = bootstrap.mean_interval(
        values,
        resamples=resampling.resamples,
        seed=resampling.seed,
        confidence=resampling.confidence,
    )
    return {"mean": mean, "low": low, "high": high}


def _over_raters(values):
    """Mean along the first axis of what is there; NaN where nothing is."""
    there = np.isfinite(values)
    sums, counts = np.where(there, values, 0.0).sum(axis=0), there.sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _nanmean(values):
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def matrix(answers: Answers, resampling: Resampling = DEFAULT) -> pd.DataFrame:
    """The recognition matrix: how often every entry recognises every entry's metamers.

    Returns:
        A row per scorer, maker and stage: mean over seeds of both and targets; low, high over the
        maker's seeds and targets; `itself`, whether the very network that they were made from
        listens. Of one entry in several seeds, the others are rows of their own.
    """
    correct, rows = answers.correct, []
    scorer_entries = list(dict.fromkeys(scorer.entry for scorer in answers.scorers))
    for scorer_entry in scorer_entries:
        scorers = [i for i, s in enumerate(answers.scorers) if s.entry == scorer_entry]
        for entry in entries_of(answers):
            makers = _makers(answers, entry)
            same = np.array(
                [[answers.scorers[i] == answers.makers[j] for j in makers] for i in scorers]
            )
            for itself in (True, False):
                if not (same == itself).any():
                    continue
                mask = np.where(same == itself, 1.0, np.nan)[:, :, None, None]
                values = _over_raters(correct[np.ix_(scorers, list(makers))] * mask)
                about = {"scorer": scorer_entry.label, "maker": entry.label, "itself": itself}
                for stage, of_stage in _by_stage(answers, entry, values):
                    if np.isfinite(of_stage).any():
                        rows.append(about | {"stage": stage} | _mean(of_stage, resampling))
    return pd.DataFrame(rows)


# Differences.


def scores(answers: Answers, entry: AnyEntry, chosen: np.ndarray, stage: str) -> np.ndarray:
    """What raters (places in the scorers) recognise at a stage or `ALL`: [seed, rater, target]."""
    correct = np.moveaxis(answers.correct[np.ix_(chosen, _makers(answers, entry))], 1, 0)
    return dict(_by_stage(answers, entry, correct))[stage]


@functools.lru_cache(maxsize=256)
def _weights(what: str, count: int, resampling: Resampling) -> np.ndarray:
    """Weights of a factor: the same whenever the same factor is drawn, so that draws are paired."""
    key = [resampling.seed, *what.encode()]
    return bootstrap.draw_weights(count, resampling.resamples, np.random.default_rng(key))


def _draws(answers, entry, chosen, stage, resampling) -> tuple[float, np.ndarray]:
    """Mean score and its draws; targets are drawn jointly for all entries."""
    values = scores(answers, entry, chosen, stage).mean(axis=1)
    weights = [
        _weights(f"seeds of {entry.label}", values.shape[0], resampling),
        _weights("targets", values.shape[1], resampling),
    ]
    return _nanmean(values), bootstrap.weighted_means(values, weights)


def difference(
    answers: Answers, contrast: Contrast, stage: str, resampling: Resampling = DEFAULT
) -> tuple[float, float, np.ndarray]:
    """Scores of the two networks of a contrast, and draws of their difference.

    Targets are resampled jointly (the difference is paired over targets and raters), seeds of the
    two networks each by themselves.

    Returns:
        Mean of `of`, mean of `against`, [resample] differences.
    """
    chosen = raters(answers, contrast.connections)
    of, draws_of = _draws(answers, contrast.of, chosen, stage, resampling)
    against, draws_against = _draws(answers, contrast.against, chosen, stage, resampling)
    return of, against, draws_of - draws_against


def differences(
    answers: Answers, contrasts: Sequence[Contrast], resampling: Resampling = DEFAULT
) -> pd.DataFrame:
    """Planned differences of recognition, stage by stage and over all of the networks' stages.

    Returns:
        A row per contrast and stage of `compared_stages`: question, of, against, stage,
        mean_of, mean_against, difference, low, high, seeds_of, seeds_against, scorers, targets,
        reason (why there is no interval).
    """
    rows = []
    present = set(entries_of(answers))
    for contrast in contrasts:
        if not {contrast.of, contrast.against} <= present:
            continue
        chosen = raters(answers, contrast.connections)
        shared = compared_stages(answers, contrast)
        for stage in shared or [ALL]:
            row = {"question": contrast.question, "of": contrast.of.label}
            row |= {"against": contrast.against.label, "stage": stage}
            row |= {
                "seeds_of": len(_makers(answers, contrast.of)),
                "seeds_against": len(_makers(answers, contrast.against)),
                "scorers": len(chosen),
                "targets": len(answers.target_ids),
                "reason": _reason(shared, chosen),
            }
            if not row["reason"]:
                of, against, draws = difference(answers, contrast, stage, resampling)
                low, high = bootstrap.interval(draws, resampling.confidence)
                row |= {"mean_of": of, "mean_against": against, "difference": of - against}
                row |= {"low": low, "high": high}
            rows.append(row)
    columns = [
        *("question", "of", "against", "stage", "mean_of", "mean_against", "difference"),
        *("low", "high", "seeds_of", "seeds_against", "scorers", "targets", "reason"),
    ]
    return pd.DataFrame(rows, columns=columns)


def _reason(shared, chosen) -> str:
    """Why two networks are not set against each other; nothing where they are."""
    if not shared:
        return "no stage in common"
    return "" if len(chosen) else "no trained network of another connection"


def magnitudes(
    answers: Answers, contrasts: Sequence[Contrast], resampling: Resampling = DEFAULT
) -> pd.DataFrame:
    """How large differences of each kind are, and connection's less size's.

    Without regard to sign: the mean over a question's contrasts of |difference|. Chance alone makes
    that positive, of all kinds alike where they rest on as many metamers; the last rows, the
    connection's minus the size's, are what to read.

    Returns:
        A row per question and stage, then per connection question the row "<question> minus size":
        contrasts (how many), magnitude, low, high.
    """
    present = set(entries_of(answers))
    found: dict[tuple[str, str], tuple[int, float, np.ndarray]] = {}
    for question in dict.fromkeys(contrast.question for contrast in contrasts):
        usable = [
            c
            for c in contrasts
            if c.question == question
            and {c.of, c.against} <= present
            and len(raters(answers, c.connections))
        ]
        shared = [compared_stages(answers, c) for c in usable]
        for stage in dict.fromkeys(itertools.chain(*shared)):
            here = [c for c, stages in zip(usable, shared, strict=True) if stage in stages]
            each = [difference(answers, c, stage, resampling) for c in here]
            size = float(np.mean([abs(of - against) for of, against, _ in each]))
            draws = np.mean([np.abs(draws) for _, _, draws in each], axis=0)
            found[question, stage] = len(here), size, draws
    for question, stage in [key for key in found if key[0].startswith(CONNECTION)]:
        if (SIZE, stage) in found:
            count, size, draws = found[question, stage]
            _, other_size, other = found[SIZE, stage]
            found[f"{question} minus size", stage] = count, size - other_size, draws - other
    rows = []
    for (question, stage), (count, size, draws) in found.items():
        low, high = bootstrap.interval(draws, resampling.confidence)
        row = {"question": question, "stage": stage, "contrasts": count, "magnitude": size}
        rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(
        rows, columns=["question", "stage", "contrasts", "magnitude", "low", "high"]
    )
