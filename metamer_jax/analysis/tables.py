"""Checks and small summaries of response tables, shared by everything in analysis.

A trial table has a row per answer: participant, model, layer, correct (0 or 1), and often more
(session, condition, word, response, kind, layer_index). A proportion table has a row per
participant and cell instead, `correct` being the share of right answers. Errors name the row by its
index label, as pandas prints it.
"""

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import pandas as pd


def as_names(value: str | Sequence[str], argument: str) -> list[str]:
    """One column name or several, as a list without repetitions.

    Args:
        value: What was given.
        argument: Name of the argument.

    Returns:
        The names.

    Raises:
        ValueError: There is none, or one comes twice.
    """
    names = [value] if isinstance(value, str) else list(value)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{argument}: expected one or more column names, got {value!r}.")
    if len(set(names)) < len(names):
        raise ValueError(f"{argument}: a column is named twice in {names}.")
    return names


def check_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raises ValueError unless the table has these columns, each once, and at least one row.

    Args:
        table: Any table.
        columns: Names of columns that it must have.

    Raises:
        ValueError: One is missing or comes twice, or the table is empty.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"table: expected a pandas DataFrame, got {type(table).__name__}.")
    for column in columns:
        found = int(np.sum(table.columns == column))
        if found != 1:
            what = "no column" if found == 0 else f"{found} columns"
            raise ValueError(
                f"table: {what} named {column!r}; it has {[str(c) for c in table.columns]}."
            )
    if table.empty:
        raise ValueError("table: expected at least one row, got none.")


def select(
    table: pd.DataFrame,
    where: Mapping[str, Any] | None = None,
    exclude: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Keeps and drops rows by the values of columns.

    Args:
        table: Any table.
        where: Column to the value, or the list of values, to keep.
        exclude: Column to the value, or the list of values, to leave out.

    Returns:
        The rows that remain, with their index labels.

    Raises:
        ValueError: An unknown column, a value that no row has, or no row left.
    """
    keep = np.ones(len(table), bool)
    for argument, rules in (("where", where), ("exclude", exclude)):
        for column, wanted in (rules or {}).items():
            check_columns(table, [column])
            wanted = list(wanted) if pd.api.types.is_list_like(wanted) else [wanted]
            present = set(table[column].dropna())
            for value in wanted:
                if value not in present:
                    raise ValueError(
                        f"{argument}[{column!r}]: no row has {value!r}; found {brief(present)}."
                    )
            matches = table[column].isin(wanted).to_numpy()
            keep &= matches if argument == "where" else ~matches
    if not keep.any():
        raise ValueError(f"table: no row left after where={where!r}, exclude={exclude!r}.")
    return table[keep]


def only_kinds(table: pd.DataFrame, kinds: Sequence[str] | None) -> pd.DataFrame:
    """The rows of these kinds ("metamer", "natural", ...); everything without a column `kind`.

    Args:
        table: Any table.
        kinds: Those to keep; None for all.

    Returns:
        The rows that remain.

    Raises:
        ValueError: None remains.
    """
    if kinds is None or "kind" not in table.columns:
        return table
    kinds = as_names(kinds, "kinds")
    kept = table[table["kind"].isin(kinds).to_numpy()]
    if kept.empty:
        found = brief(set(table["kind"].dropna()))
        raise ValueError(f"table: no row of kind {kinds}; column 'kind' has {found}.")
    return kept


def reject_rows(column: pd.Series, bad: np.ndarray, expected: str) -> None:
    """Raises ValueError naming the first of the bad rows [row] of a column, if there are any.

    Args:
        column: What is checked.
        bad: [row] bool.
        expected: What the rows should hold.

    Raises:
        ValueError: A row is bad.
    """
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"column {column.name!r}, row {shown(column.index[at])}: expected {expected}, "
            f"got {shown(column.iloc[at])} ({int(bad.sum())} such rows)."
        )


def single_trials(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table of answers one by one; raises ValueError where it holds shares of them."""
    if not table["correct"].isin((0, 1)).all():
        raise ValueError("the table holds proportions, and this takes single trials")
    return table


def numbers(table: pd.DataFrame, column: str, *, share: bool = False) -> np.ndarray:
    """A column as float64 [row]; booleans become 0 and 1.

    Returns:
        The numbers.

    Raises:
        ValueError: A missing or non-numeric entry or, with `share`, one outside 0 to 1; the message
            names the row.
    """
    values = pd.to_numeric(table[column].astype(object), errors="coerce").to_numpy(float)
    bad = ~np.isfinite(values)
    expected = "a finite number"
    if share:
        bad |= ~((values >= 0) & (values <= 1))
        expected = "0 or 1, or a proportion between them"
    reject_rows(table[column], bad, expected)
    return values


def levels(column: pd.Series, *, appearance: bool = False) -> tuple[np.ndarray, list[Any]]:
    """Numbers the distinct values of a column.

    The order is that of the categories for a categorical column (those in use), else ascending, so
    that nothing depends on the order of rows, else, on request, that of first appearance.

    Returns:
        codes: [row] int.
        labels: [level].

    Raises:
        ValueError: A missing value; the message names the row.
    """
    reject_rows(column, column.isna().to_numpy(), "a label")
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.cat.remove_unused_categories()
        return column.cat.codes.to_numpy().astype(int), list(column.cat.categories)
    codes, labels = pd.factorize(column.astype(object))
    labels = list(labels)
    if appearance:
        return codes, labels
    try:
        order = sorted(range(len(labels)), key=lambda i: labels[i])
    except TypeError:  # Numbers beside strings have no order of their own.
        order = sorted(range(len(labels)), key=lambda i: (type(labels[i]).__name__, str(labels[i])))
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels))
    return rank[codes], [labels[i] for i in order]


# Stages of this package's networks and of published tables, from the input to the output.
KNOWN_LAYERS = (
    *("natural", "natural_audio", "input_after_preproc", "cochleagram"),
    *("filtered_signal", "spectempfilter_power", "conv1", "conv1_relu1"),
    *("relu0", "conv2", "layer1", "relu1", "layer2", "relu2", "layer3", "relu3", "layer4", "relu4"),
    *("avgpool", "dense", "relufc", "final", "logits"),
)
_KNOWN_RANK: dict[Hashable, int] = {name: rank for rank, name in enumerate(KNOWN_LAYERS)}


def own_layers(table: pd.DataFrame) -> dict[Hashable, list[Hashable]]:
    """Each model's layers from the input to the output; of a table without models, one list.

    By the model's own layer_index where all its rows have one, else in the order of `KNOWN_LAYERS`
    where it has no others, else as they come.

    Returns:
        Model (None in a table without), in the order of all tables, to its layers.
    """
    codes, labels = levels(table["layer"], appearance=True)
    if "model" in table.columns:
        model_codes, models = levels(table["model"])
    else:
        model_codes, models = np.zeros(len(table), int), [None]
    index = np.full(len(table), np.nan)
    if "layer_index" in table.columns:
        missing = table["layer_index"].isna().to_numpy()
        index[~missing] = numbers(table[~missing], "layer_index")
    found = {}
    for i, model in enumerate(models):
        rows = model_codes == i
        present = list(dict.fromkeys(codes[rows]))
        if not np.isnan(index[rows]).any():
            depth = {j: index[rows & (codes == j)].mean() for j in present}
            present.sort(key=depth.__getitem__)
        elif all(labels[j] in _KNOWN_RANK for j in present):
            present.sort(key=lambda j: _KNOWN_RANK[labels[j]])
        found[model] = [labels[j] for j in present]
    return found


def layer_levels(table: pd.DataFrame) -> tuple[np.ndarray, list[Hashable]]:
    """Layers from the input to the output, in an order that agrees with each model's own.

    The orders of `own_layers` are merged (a topological sort; among layers that may come next, the
    one that lies nearest to the input of its models). An index averaged over models would not do:
    of networks of different depth, one's last layer lies before another's last but one. Where two
    models contradict each other there is no such order, and the layer nearest to the input goes
    first.

    Returns:
        codes: [row] int.
        labels: [level].
    """
    codes, labels = levels(table["layer"], appearance=True)
    orders = list(own_layers(table).values())
    before: dict[Hashable, set[Hashable]] = {label: set() for label in labels}
    depths: dict[Hashable, list[float]] = {label: [] for label in labels}
    for order in orders:
        for place, label in enumerate(order):
            before[label].update(order[:place])
            depths[label].append(place / max(len(order) - 1, 1))
    nearest = sorted(
        labels, key=lambda label: (np.mean(depths[label]), _KNOWN_RANK.get(label, len(_KNOWN_RANK)))
    )
    merged: list[Hashable] = []
    while nearest:
        free = [label for label in nearest if not before[label] - set(merged)]
        merged.append((free or nearest)[0])
        nearest.remove(merged[-1])
    rank = np.array([merged.index(label) for label in labels])
    return rank[codes], merged


def coded(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[np.ndarray, list[Hashable]]]:
    """Of each column the number [row] of its level, and the labels; layers in their order."""
    return [
        layer_levels(table) if column == "layer" else levels(table[column]) for column in columns
    ]


PAIRINGS = ("name", "index")
Pairing = str | Mapping[str, Mapping[Hashable, Hashable]]


def pair_layers(
    table: pd.DataFrame, pairing: Pairing = "name", models: Sequence[Hashable] | None = None
) -> pd.DataFrame:
    """Gives layers of different models that are to be compared the same name.

    Args:
        table: Rows with model and layer, and layer_index to pair by.
        pairing: "name": layers of the same name. "index": those of the same layer_index, named
            after all of them ("relufc / avgpool"). A mapping of names to each model's layer, such
            as {"first": {"cochcnn9": "relu0", "cochresnet50": "conv1_relu1"}}: these alone.
        models: Whose layers, named in this order; a mapping may tell of others. None: all.

    Returns:
        The table with `layer` so named, the model's own name in `own_layer`, and layer_index in
        the order of the names; rows whose layer the mapping does not have are left out.

    Raises:
        ValueError: The pairing is none of these, a layer has no or several indices, two layers of
            a model have the same, or the mapping names what the table does not have.
    """
    check_columns(table, ["model", "layer"])
    if models is None:
        models = levels(table["model"])[1]
        named = {m for layers in pairing.values() for m in layers} if _is_mapping(pairing) else {}
        for model in named:
            if model not in models:
                raise ValueError(f"pairing: no row has model {model!r}; found {brief(models)}.")
    if not _is_mapping(pairing) and pairing not in PAIRINGS:
        raise ValueError(f"pairing: expected one of {PAIRINGS} or a mapping, got {pairing!r}.")
    if pairing == "name":
        codes, _ = layer_levels(table)
        return table.assign(own_layer=table["layer"], layer_index=codes)
    own = own_layers(table)
    if pairing == "index":
        places = _names_by_index(table, models)
    else:
        places = _names_by_table(own, pairing, models)
    names = [places.get(key) for key in zip(table["model"], table["layer"], strict=True)]
    kept = np.array([name is not None for name in names])
    if not kept.any():
        raise ValueError("pairing: no row has any of its layers.")
    order = list(dict.fromkeys(places.values()))
    named = pd.Series(names, index=table.index, dtype=object)[kept]
    return table[kept].assign(
        own_layer=table["layer"][kept], layer=named, layer_index=named.map(order.index).astype(int)
    )


def _is_mapping(pairing: Any) -> TypeGuard[Mapping[str, Mapping[Hashable, Hashable]]]:
    return isinstance(pairing, Mapping) and all(isinstance(v, Mapping) for v in pairing.values())


def _names_by_index(table, models) -> dict[tuple[Hashable, Hashable], str]:
    """The common name of each model's layer, in the order of the index."""
    check_columns(table, ["layer_index"])
    index = numbers(table, "layer_index")
    rows = pd.DataFrame(
        {"model": table["model"].to_numpy(), "layer": table["layer"].to_numpy(), "index": index}
    ).drop_duplicates()
    for keys, what in ((["model", "layer"], "several indices"), (["model", "index"], "two layers")):
        twice = rows[rows.duplicated(keys)]
        if len(twice):
            first = list(twice.iloc[0][keys])
            raise ValueError(
                f"pairing: by index, but {describe(keys, first)} has {what}; pair by name or by a "
                "table."
            )
    rank = {model: i for i, model in enumerate(models)}
    rows = rows[rows["model"].isin(rank)].sort_values(
        ["index", "model"], key=lambda c: c.map(rank) if c.name == "model" else c
    )
    joined: dict[Any, str] = {
        at: " / ".join(dict.fromkeys(map(str, g["layer"]))) for at, g in rows.groupby("index")
    }
    several = pd.Series(joined).duplicated(keep=False)
    names = {at: f"{name} ({at:g})" if several[at] else name for at, name in joined.items()}
    return {(r.model, r.layer): names[r.index] for r in rows.itertuples(index=False)}


def _names_by_table(own, pairing, models) -> dict[tuple[Hashable, Hashable], str]:
    places: dict[tuple[Hashable, Hashable], str] = {}
    for name, layers in pairing.items():
        for model, layer in layers.items():
            if model not in models:
                continue
            if layer not in own.get(model, ()):
                raise ValueError(
                    f"pairing[{name!r}]: model {model!r} has no layer {layer!r}; found "
                    f"{brief(own.get(model, ()))}."
                )
            if (model, layer) in places:
                raise ValueError(f"pairing: layer {layer!r} of {model!r} is named twice.")
            places[model, layer] = str(name)
    return places


def subjects(table: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray, list[tuple]]:
    """Numbers the distinct combinations of several columns, in ascending order.

    Returns:
        codes: [row] int.
        keys: [subject] tuples of labels.
    """
    _, codes, keys = combinations([levels(table[column]) for column in columns])
    return codes, keys


def combinations(
    coded: Sequence[tuple[np.ndarray, list[Hashable]]],
) -> tuple[np.ndarray, np.ndarray, list[tuple]]:
    """Numbers the combinations of levels that occur, in their order.

    Returns:
        [combination, column] levels, [row] combination, [combination] tuples of labels.
    """
    stacked = np.stack([codes for codes, _ in coded], axis=1)
    unique, codes = np.unique(stacked, axis=0, return_inverse=True)
    keys = [tuple(coded[i][1][code] for i, code in enumerate(row)) for row in unique]
    return unique, codes.reshape(-1), keys


def cell_means(
    values: np.ndarray, subject: np.ndarray, cell: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Averages rows to cells.

    Args:
        values: [row].
        subject: [row] int.
        cell: [row] int.
        shape: (subjects, cells).

    Returns:
        means: [subject, cell]; NaN where there is no row.
        counts: [subject, cell] rows.
    """
    flat = np.ravel_multi_index((subject, cell), shape)
    # Sorted first: a sum must not depend on the order of rows, not even in its last bit.
    order = np.lexsort((values, flat))
    sums = np.bincount(flat[order], weights=values[order], minlength=shape[0] * shape[1])
    counts = np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
    with np.errstate(invalid="ignore"):
        return sums.reshape(shape) / np.where(counts, counts, np.nan), counts


def describe(columns: Sequence[str], key: Sequence[Hashable]) -> str:
    """A combination of labels in words: "observer='human', participant=3".

    Args:
        columns: Names.
        key: The label of each.

    Returns:
        The words.
    """
    return ", ".join(f"{column}={shown(value)}" for column, value in zip(columns, key, strict=True))


def shown(value: Any) -> str:
    """A label or number as a person would write it: 3, not np.int64(3).

    Args:
        value: Anything.

    Returns:
        Its `repr`, without NumPy.
    """
    return repr(value.item() if isinstance(value, np.generic) else value)


def brief(values: Any, most: int = 8) -> str:
    """A few of the values, for an error message.

    Args:
        values: Any number of them.
        most: How many are named.

    Returns:
        The words.
    """
    names = sorted(map(shown, values))
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain dictionaries for JSON; undefined numbers become None, as JSON has no NaN.

    Args:
        table: Any table of results.

    Returns:
        A dictionary per row.
    """

    def plain(value):
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not np.isfinite(value):
            return None
        return None if value is pd.NA or value is pd.NaT else value

    columns = [str(column) for column in table.columns]
    rows = table.itertuples(index=False, name=None)
    return [dict(zip(columns, map(plain, row), strict=True)) for row in rows]


def to_json(table: pd.DataFrame) -> str:
    """A result table as strict JSON: a list with an object per row.

    Args:
        table: Any table of results.

    Returns:
        The text.
    """
    return json.dumps(to_records(table), indent=1, allow_nan=False)
