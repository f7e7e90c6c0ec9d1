"""How often were metamers recognised: by model and layer, by word, and as what instead."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from metamer_jax.analysis import intervals, paired, tables

NO_ANSWER = "(none)"


def recognition(
    table: pd.DataFrame,
    by: str | Sequence[str] = ("model", "layer"),
    *,
    unit: str = "participant",
    kinds: Sequence[str] | None = ("metamer",),
    chance: float | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Shares of right answers by any columns: ("model", "layer"), ("model", "word"), "layer".

    Args:
        table: Trials or proportions with participant, correct and the columns of `by`.
        by: Columns; layers come in the order of layer_index, or as they come.
        unit: What counts as a listener: "participant", "session" or "condition".
        kinds: Rows to use of a table with a column `kind`; None for all.
        chance: Probability of a right answer by guessing, for the binomial test; None: no test.
        confidence: Of both intervals.
        resamples: Bootstrap samples of listeners.
        seed: Of the bootstrap.

    Returns:
        A row per combination that occurs, with the columns of `by`; correct, trials, proportion,
        wilson_low, wilson_high and p_chance of trials pooled, their `proportion_unit` being the
        trial (for a table of proportions NaN, but the mean); mean, ci_low and ci_high over
        listeners' own shares, with the BCa interval; unit and n, what listeners are and how many;
        chance; reason, why there is no BCa interval.

    Raises:
        ValueError: Naming the argument, or the column and row, at fault.
    """
    by = tables.as_names(by, "by")
    intervals.check_choice(unit, "unit", paired.UNITS)
    if chance is not None:
        intervals.check_share(chance, "chance")
    intervals.check_share(confidence, "confidence")
    intervals.check_count(resamples, "resamples", 0)
    columns = [*paired.listener_columns(unit), *by, "correct"]
    tables.check_columns(table, list(dict.fromkeys(columns)))
    table = tables.only_kinds(table, kinds)
    values = tables.numbers(table, "correct", share=True)
    who, keys, unit_name = paired.listener_units(table, unit)
    cell, labels = cells_of(table, by)
    means, _ = tables.cell_means(values, who, cell, (len(keys), len(labels)))
    rows = []
    for i, label in enumerate(labels):
        own = means[~np.isnan(means[:, i]), i]
        row = dict(zip(by, label, strict=True))
        row |= paired.pooled(values[cell == i], chance, confidence)
        low, high = intervals.bca(own, confidence, resamples, seed)
        reason = ""
        if len(own) == 1:
            reason = "one listener"
        elif np.ptp(own) < 1e-12:
            reason = "zero variance"
        row |= {"mean": own.mean(), "ci_low": low, "ci_high": high, "unit": unit_name}
        row |= {"proportion_unit": "trial" if row["trials"] > 0 else "proportion given"}
        row |= {"n": len(own), "chance": np.nan if chance is None else chance}
        rows.append(row | {"reason": reason})
    return pd.DataFrame(rows)


def recognition_matrix(trials: pd.DataFrame, *, chance: float | None = None) -> pd.DataFrame:
    """Returns how often every listener recognises every network's metamers, layer by layer.

    Args:
        trials: Of machine listeners, as `recognition` takes them; people's trials do as well.
        chance: Probability of a right answer by guessing, for the binomial test; None: no test.

    Returns:
        A row per listener, model and layer: own (the listener is the network they were made from),
        correct, trials, proportion, wilson_low, wilson_high, p_chance; proportion_unit "trial".
        No row where there are no trials.
    """
    kept = ["model", "layer", *paired.POOLED, "proportion_unit", "chance"]
    if trials.empty:
        return pd.DataFrame(columns=["listener", *kept[:2], "own", *kept[2:]])
    table = recognition(trials, ("participant", "model", "layer"), chance=chance, resamples=0)
    table = table[["participant", *kept]].rename(columns={"participant": "listener"})
    order = list(dict.fromkeys(trials["participant"]))
    table = table.sort_values("listener", key=lambda c: c.map(order.index), kind="stable")
    table.insert(3, "own", table["listener"] == table["model"])
    return table.reset_index(drop=True)


def confusion(
    table: pd.DataFrame,
    by: str | Sequence[str] | None = "model",
    *,
    words: Sequence[str] | None = None,
    kinds: Sequence[str] | None = ("metamer",),
) -> pd.DataFrame:
    """Counts which word was answered to which.

    Args:
        table: Trials with word and response, and the columns of `by`; an empty response is counted
            as "(none)".
        by: Columns to count apart, such as "model" or ("model", "layer"); None pools everything.
        words: The words offered, in the order wanted; None takes those that occur, ascending.
        kinds: Rows to use of a table with a column `kind`; None for all.

    Returns:
        A row per combination, word and response, zeros included: the columns of `by`, word,
        response, count, share (of the word's trials; NaN where there are none), unit "trial" and n,
        the word's trials. `matrix` makes a square of it.

    Raises:
        ValueError: An unknown column, or a word or response not among `words`, with its row.
    """
    by = [] if by is None else tables.as_names(by, "by")
    counts, labels, words, responses = count_answers(table, by, words, kinds)
    rows = []
    for i, label in enumerate(labels):
        for j, word in enumerate(words):
            total = int(counts[i, j].sum())
            for k, response in enumerate(responses):
                row = dict(zip(by, label, strict=True)) | {"word": word, "response": response}
                count = int(counts[i, j, k])
                share = count / total if total else np.nan
                rows.append(row | {"count": count, "share": share, "unit": "trial", "n": total})
    return pd.DataFrame(rows)


def count_answers(
    table: pd.DataFrame,
    by: Sequence[str],
    words: Sequence[str] | None = None,
    kinds: Sequence[str] | None = ("metamer",),
) -> tuple[np.ndarray, list[tuple[Any, ...]], list[str], list[str]]:
    """Counts which word was answered to which, as `confusion` does.

    Args:
        table: Trials with word and response, and the columns of `by`.
        by: Columns to count apart; may be empty.
        words: The words offered; None takes those that occur, ascending.
        kinds: Rows to use of a table with a column `kind`; None for all.

    Returns:
        counts: [combination, word, response] int.
        labels: [combination] tuples of the columns of `by`.
        words: [word].
        responses: [response], the words and "(none)" where there was no answer.

    Raises:
        ValueError: As `confusion`.
    """
    tables.check_columns(table, list(dict.fromkeys([*by, "word", "response"])))
    table = tables.only_kinds(table, kinds)
    heard = table["word"].astype(object)
    tables.levels(heard)
    answered = table["response"].astype(object)
    blank = answered.isna().to_numpy() | (answered == "").to_numpy()
    answered = answered.where(~blank, NO_ANSWER)
    if words is None:
        words = sorted(set(heard) | set(answered[~blank]))
    words = list(words)
    responses = words + ([NO_ANSWER] if blank.any() else [])
    for column, allowed in ((heard, words), (answered, responses)):
        tables.reject_rows(column, ~column.isin(allowed).to_numpy(), f"one of {words}")
    cell, labels = cells_of(table, by) if by else (np.zeros(len(table), int), [()])
    counts = np.zeros((len(labels), len(words), len(responses)), int)
    at_word = heard.map({word: i for i, word in enumerate(words)}).to_numpy(int)
    at_response = answered.map({word: i for i, word in enumerate(responses)}).to_numpy(int)
    np.add.at(counts, (cell, at_word, at_response), 1)
    return counts, labels, words, responses


def matrix(confusions: pd.DataFrame, value: str = "count") -> pd.DataFrame:
    """A square [word, response] of the rows of `confusion` that belong to one combination.

    Args:
        confusions: Rows of `confusion` of one combination.
        value: Column of the entries, "count" or "share".

    Returns:
        [word, response].

    Raises:
        ValueError: A pair of word and response comes twice.
    """
    tables.check_columns(confusions, ["word", "response", value])
    if confusions.duplicated(["word", "response"]).any():
        raise ValueError("confusions: more than one row per word and response; choose one model.")
    square = confusions.pivot(index="word", columns="response", values=value)
    return square.loc[list(confusions["word"].unique()), list(confusions["response"].unique())]


def cells_of(table: pd.DataFrame, by: Sequence[str]) -> tuple[np.ndarray, list[tuple[Any, ...]]]:
    """Numbers the combinations of columns that occur, in the order of their levels.

    A model's layers come in its own order, also where another model has them in another.

    Returns:
        Number [row] of each row's combination, and the combinations.
    """
    unique, cell, labels = tables.combinations(tables.coded(table, by))
    if "layer" in by and "model" in by:
        model, layer = by.index("model"), by.index("layer")
        own = tables.own_layers(table)
        keys = unique.copy()
        keys[:, layer] = [own[label[model]].index(label[layer]) for label in labels]
        order = sorted(range(len(labels)), key=lambda i: tuple(keys[i]))
        rank = np.empty(len(order), int)
        rank[order] = np.arange(len(order))
        cell, labels = rank[cell], [labels[i] for i in order]
    return cell, labels
