"""Analysis of variance with repeated measures: one or two within factors, one between factor.

Every effect is a test on contrasts. With Y [subject, cell] and orthonormal contrasts C
[cell, contrast] of an effect's within part, Z = Y C holds all that the effect is about: its mean
over subjects is the effect, its scatter within groups the error, its covariance the sphericity.
Groups of different size are weighted as in MATLAB's `ranova` (type III sums of squares).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.linalg
import scipy.stats

from metamer_jax.analysis import intervals, tables

SCHEMES = ("residual", "feather2023")
COLUMNS = (
    *("effect", "ss", "df1", "ss_error", "df2", "F", "p", "p_gg", "p_hf", "p_lb"),
    *("eps_gg", "eps_hf", "eps_lb", "np2", "p_perm", "permutations", "scheme"),
    *("unit", "n", "design", "reason"),
)
_CHUNK = 2_000_000  # Numbers held at once while permuting: 16 MB.


@dataclasses.dataclass(frozen=True, eq=False)
class _Data:
    """Cell means of a complete design."""

    y: np.ndarray  # [subject, first within factor, (second)]
    group: np.ndarray  # [subject] int; all 0 without a between factor
    within: tuple[str, ...]
    between: str | None
    description: str


@dataclasses.dataclass(frozen=True)
class _Effect:
    axes: tuple[int, ...]  # which within factors take part
    between: bool  # whether the between factor takes part


def anova(
    table: pd.DataFrame,
    *,
    dv: str,
    subject: str | Sequence[str],
    within: str | Sequence[str],
    between: str | None = None,
    where: Mapping[str, Any] | None = None,
    exclude: Mapping[str, Any] | None = None,
    permutations: int = 10_000,
    scheme: str = "residual",
    seed: int = 0,
) -> pd.DataFrame:
    """Repeated-measures or mixed analysis of variance with sphericity corrections.

    Rows are averaged to one value per subject and cell first, so trials and proportions both serve.
    Greenhouse-Geisser and Huynh-Feldt (in Lecoutre's form) epsilons come from the covariance pooled
    over groups, as in MATLAB's `ranova`; the lower bound is 1/df1 of the within part.

    Permutation p of `scheme="residual"`, (b + 1) / (permutations + 1): an effect with the between
    factor shuffles subjects between groups, which keeps each subject's profile; one without it
    shuffles the levels of its factors within each subject, on what remains once all other effects,
    subjects included, are taken away. It takes levels as exchangeable under the null hypothesis.
    `scheme="feather2023"` is that of Feather et al. (2023), floored at 1 / permutations: scores
    are averaged over the factors that take no part; labels of the between factor are shuffled over
    subjects and all cells within each subject. The null distribution of an interaction
    then lacks the main effects too: it is there to reproduce their values.

    Args:
        table: A row per trial or per cell.
        dv: Column of the scores.
        subject: Column or columns that together name a subject, such as ["observer",
            "participant"] where numbers repeat between groups.
        within: One or two columns; each subject must have every combination of their levels.
        between: Column of the groups, constant in each subject.
        where: Column to value or values: the rows to keep.
        exclude: Column to value or values: the rows to leave out, such as {"layer": "logits"}.
        permutations: Number of draws for p_perm; 0 leaves it undefined.
        scheme: "residual" or "feather2023".
        seed: Of the permutations.

    Returns:
        A row per effect ("observer", "layer", "observer:layer"), in columns `COLUMNS`. A between
        effect has no sphericity: it repeats p and epsilon 1. NaN and a reason where F is
        undefined.

    Raises:
        ValueError: An unknown column, a bad value (with its row), a missing cell (with its
            subject), a factor with one level, or fewer than two subjects more than groups.
    """
    intervals.check_choice(scheme, "scheme", SCHEMES)
    intervals.check_count(permutations, "permutations", 0)
    subject = tables.as_names(subject, "subject")
    data = _read(table, dv, subject, tables.as_names(within, "within"), between, where, exclude)
    rows = []
    for effect in _effects(data):
        row = _test(data, effect)
        row["p_perm"] = np.nan
        if permutations and not row["reason"]:
            # A stream per effect: what one effect draws must not depend on the others.
            rng = np.random.default_rng([seed, *effect.axes, 7 + effect.between])
            row["p_perm"] = _permutation_p(data, effect, row["F"], permutations, scheme, rng)
        row |= {"permutations": permutations, "scheme": scheme, "design": data.description}
        rows.append(row | {"unit": ", ".join(subject), "n": len(data.y)})
    return pd.DataFrame(rows)[list(COLUMNS)]


def _read(table, dv, subject, within, between, where, exclude) -> _Data:
    if len(within) > 2:
        raise ValueError(f"within: expected one or two columns, got {within}.")
    if between is not None and not isinstance(between, str):
        raise ValueError(f"between: expected one column name or None, got {between!r}.")
    roles = [("dv", dv), *(("within", name) for name in within)]
    roles += [("between", between)] if between is not None else []
    for (role, name), (other, same) in itertools.combinations(roles, 2):
        if name == same:
            raise ValueError(f"{other}: column {name!r} is already given as {role}.")
    for role, name in roles[: 1 + len(within)]:
        if name in subject:
            raise ValueError(f"subject: column {name!r} is already given as {role}.")
    used = [dv, *within, *subject, *([between] if between is not None else [])]
    tables.check_columns(table, list(dict.fromkeys(used)))
    table = tables.select(table, where, exclude)
    values = tables.numbers(table, dv)
    who, keys = tables.subjects(table, subject)
    factors = {name: tables.levels(table[name]) for name in within}
    for name, (_, labels) in factors.items():
        if len(labels) < 2:
            raise ValueError(f"within: {name!r} needs two levels or more, has only {labels}.")
    shape = tuple(len(labels) for _, labels in factors.values())
    cell = np.ravel_multi_index([codes for codes, _ in factors.values()], shape)
    means, counts = tables.cell_means(values, who, cell, (len(keys), int(np.prod(shape))))
    if (counts == 0).any():
        i, j = np.argwhere(counts == 0)[0]
        labels = [factors[n][1][k] for n, k in zip(within, np.unravel_index(j, shape), strict=True)]
        raise ValueError(
            f"table: no row for subject ({tables.describe(subject, keys[i])}) in cell "
            f"({tables.describe(within, labels)}); {int((counts == 0).sum())} cells are missing. "
            "Leave the subject or the level out with `exclude`."
        )
    group, names = _groups(table, between, who, keys, subject)
    if len(keys) - len(names) < 1:
        raise ValueError(
            f"subject: {len(keys)} subjects in {len(names)} groups leave no error term; expected "
            "at least one subject more than groups."
        )
    parts = [f"{name} ({size}, within)" for name, size in zip(within, shape, strict=True)]
    if between is not None:
        sizes = zip(names, np.bincount(group), strict=True)
        listed = ", ".join(f"{name} {size}" for name, size in sizes)
        parts.insert(0, f"{between} ({listed}, between)")
    y = means.reshape(len(keys), *shape)
    return _Data(y, group, tuple(within), between, " x ".join(parts))


def _groups(table, between, who, keys, subject) -> tuple[np.ndarray, list]:
    """The group of each subject [subject] and the groups' names."""
    if between is None:
        return np.zeros(len(keys), int), [None]
    codes, names = tables.levels(table[between])
    if len(names) < 2:
        raise ValueError(f"between: {between!r} needs two levels or more, has only {names}.")
    group = np.empty(len(keys), int)
    group[who] = codes
    mixed = np.flatnonzero(group[who] != codes)
    if mixed.size:
        key = tables.describe(subject, keys[who[mixed[0]]])
        raise ValueError(
            f"between: subject ({key}) has more than one {between!r}; if these are different "
            f"subjects, give subject={[between, *subject]}."
        )
    return group, names


def _effects(data: _Data) -> list[_Effect]:
    """In the order observer, layer, observer:layer, model, ..., layer:model."""
    subsets = [(), *((i,) for i in range(len(data.within)))]
    subsets += [(0, 1)] if len(data.within) == 2 else []
    both = (False, True) if data.between is not None else (False,)
    return [_Effect(axes, b) for axes in subsets for b in both if axes or b]


def _marginal(data: _Data, effect: _Effect) -> np.ndarray:
    """Scores averaged over the within factors that take no part: [subject, level, ...]."""
    out = tuple(1 + i for i in range(len(data.within)) if i not in effect.axes)
    return data.y.mean(axis=out) if out else data.y


def _contrasts(shape: Sequence[int]) -> np.ndarray:
    """Orthonormal contrasts of an interaction of factors: [cell, contrast]; [1, 1] for none."""
    basis = np.ones((1, 1))
    for size in shape:
        basis = np.kron(basis, scipy.linalg.helmert(size).T)
    return basis


def _sums(z: np.ndarray, group: np.ndarray, between: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of effect and error.

    Args:
        z: [..., subject, contrast].
        group: [subject] int.
        between: Tests differences between groups; else the unweighted mean of the groups.

    Returns:
        ss, ss_error, both [...].
    """
    sizes = np.bincount(group)
    share = (group == np.arange(len(sizes))[:, None]) / sizes[:, None]  # [group, subject]
    means = share @ z  # [..., group, contrast]
    weighted = np.einsum("g,...gc->...", sizes, means**2)
    error = np.maximum(np.einsum("...sc,...sc->...", z, z) - weighted, 0)
    if between:
        ss = weighted - len(group) * (z.mean(axis=-2) ** 2).sum(axis=-1)
    else:
        ss = (means.mean(axis=-2) ** 2).sum(axis=-1) * len(sizes) ** 2 / (1 / sizes).sum()
    return np.maximum(ss, 0), error


def _degrees(data: _Data, effect: _Effect) -> tuple[int, int]:
    groups = int(data.group.max()) + 1
    contrasts = int(np.prod([data.y.shape[1 + i] - 1 for i in effect.axes], dtype=int))
    return contrasts * (groups - 1 if effect.between else 1), contrasts * (len(data.y) - groups)


def epsilons(covariance: np.ndarray, subjects: int, groups: int = 1) -> tuple[float, float, float]:
    """Corrections of the degrees of freedom where sphericity does not hold.

    Greenhouse and Geisser (1959); Huynh and Feldt (1976) in the form of Lecoutre (1991).

    Args:
        covariance: [contrast, contrast], of orthonormal contrasts, pooled within groups.
        subjects: Number of subjects.
        groups: Number of groups.

    Returns:
        Greenhouse-Geisser, Huynh-Feldt (at most 1) and lower bound.
    """
    p = len(covariance)
    if p == 1:
        return 1.0, 1.0, 1.0
    gg = float(np.trace(covariance) ** 2 / (p * (covariance**2).sum()))
    denominator = p * (subjects - groups - p * gg)
    # The denominator reaches zero as epsilon reaches the rank of the covariance over p.
    hf = ((subjects - groups + 1) * p * gg - 2) / denominator if denominator > 1e-9 else 1.0
    return gg, float(np.clip(hf, 1 / p, 1.0)), 1 / p


def _test(data: _Data, effect: _Effect) -> dict[str, Any]:
    y = _marginal(data, effect)
    contrasts = _contrasts(y.shape[1:])
    # Averaging over cells keeps their number out of the squares; this puts it back.
    repeats = data.y[0].size / y[0].size
    z = y.reshape(len(y), -1) @ contrasts * np.sqrt(repeats)
    ss, error = map(float, _sums(z, data.group, effect.between))
    df1, df2 = _degrees(data, effect)
    names = [data.within[i] for i in effect.axes]
    if effect.between and data.between is not None:
        names.insert(0, data.between)
    row = {"effect": ":".join(names), "ss": ss, "df1": df1, "ss_error": error, "df2": df2}
    # What rounding leaves of a sum of squares that is zero.
    nothing = 1e-26 * data.y.size * max(1e-300, float(np.abs(data.y).max()) ** 2)
    if error <= nothing:
        undefined = ("F", "p", "p_gg", "p_hf", "p_lb", "eps_gg", "eps_hf", "eps_lb", "np2")
        return row | dict.fromkeys(undefined, np.nan) | {"reason": "zero variance"}
    groups = int(data.group.max()) + 1
    centred = z - np.stack([z[data.group == g].mean(axis=0) for g in range(groups)])[data.group]
    gg, hf, lb = epsilons(centred.T @ centred / (len(z) - groups), len(z), groups)
    f = ss / df1 / (error / df2)
    row |= {"F": f, "eps_gg": gg, "eps_hf": hf, "eps_lb": lb, "np2": ss / (ss + error)}
    for name, epsilon in (("p", 1.0), ("p_gg", gg), ("p_hf", hf), ("p_lb", lb)):
        row[name] = float(scipy.stats.f.sf(f, df1 * epsilon, df2 * epsilon))
    return row | {"reason": ""}


def _permutation_p(data, effect, f, permutations, scheme, rng) -> float:
    y = _marginal(data, effect)
    contrasts = _contrasts(y.shape[1:])
    df1, df2 = _degrees(data, effect)
    published = scheme == "feather2023"
    if not published and not effect.between:
        y = _residual(y, data.group, contrasts)
    # Published: draws as extreme as the data count for effects of observer, not for the others.
    strict = published and not effect.between
    threshold = f * (1 + (1e-9 if strict else -1e-9))
    beyond, done = 0, 0
    while done < permutations:
        draws = min(permutations - done, max(1, _CHUNK // y.size))
        done += draws
        drawn = np.broadcast_to(y, (draws, *y.shape))
        if effect.between:
            order = rng.permuted(np.broadcast_to(np.arange(len(y)), (draws, len(y))), axis=1)
            drawn = y[order]
        drawn = _shuffle(drawn, effect, published, rng)
        z = drawn.reshape(draws * len(y), -1) @ contrasts
        ss, error = _sums(z.reshape(draws, len(y), -1), data.group, effect.between)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn_f = np.nan_to_num(ss / df1 / (error / df2), nan=0.0, posinf=np.inf)
        beyond += int(np.sum(drawn_f > threshold if strict else drawn_f >= threshold))
    if published:
        return max(beyond, 1) / permutations
    return (beyond + 1) / (permutations + 1)


def _residual(y, group, contrasts) -> np.ndarray:
    """The effect's own part of each subject's scores, without what differs between groups."""
    z = y.reshape(len(y), -1) @ contrasts
    means = np.stack([z[group == g].mean(axis=0) for g in range(group.max() + 1)])
    z = z - means[group] + means.mean(axis=0)
    return (z @ contrasts.T).reshape(y.shape)


def _shuffle(drawn, effect, published, rng) -> np.ndarray:
    """Shuffles within each subject of each draw: [draw, subject, level, ...]."""
    if published:
        flat = drawn.reshape(*drawn.shape[:2], -1)
        return rng.permuted(flat, axis=2) if flat.shape[2] > 1 else flat
    if effect.between:
        return drawn
    # Whole levels of each factor: rows and columns of residuals sum to zero, and stay so.
    for axis in range(2, drawn.ndim):
        size = drawn.shape[axis]
        order = rng.permuted(np.broadcast_to(np.arange(size), (*drawn.shape[:2], size)), axis=2)
        shape = [*drawn.shape[:2], *(1 for _ in drawn.shape[2:])]
        shape[axis] = size
        drawn = np.take_along_axis(drawn, order.reshape(shape), axis=axis)
    return drawn
