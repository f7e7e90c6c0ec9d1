"""Which sessions count: rules set before looking, each counted.

The paper dropped a condition, as one listener took it, below 100 % on the metamers made at the
cochleagram, which sound like their targets. The other rules are customary in experiments online.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from metamer_jax.configs.checks import check_fields, setting
from metamer_jax.listening.responses import trial_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExclusionRules:
    """What a session must meet; None, 0 or False switches a rule off."""

    reference_layer: str = setting("cochleagram", "Layer whose metamers all should recognise.")
    reference_min: float | None = setting(
        1.0, "Least share right there (the paper's rule); 0: off.", at_least=0, at_most=1
    )
    catch_min: float | None = setting(
        0.9, "Least share right on catch trials; 0: off.", at_least=0, at_most=1
    )
    headphones: bool = setting(True, "Drop sessions that failed the headphone check.")
    answered_min: float | None = setting(
        0.9, "Least share of sounds answered; 0: off.", at_least=0, at_most=1
    )
    repeats: bool = setting(True, "Drop what a participant took a second time.")
    # Names of rules that must find somebody to judge: those that were asked for. The reference rule
    # is always one of them, as a misspelt layer would turn it off.
    required: tuple[str, ...] = ("reference",)

    def __post_init__(self):
        check_fields(self)
        for name in ("reference_min", "catch_min", "answered_min"):
            object.__setattr__(self, name, getattr(self, name) or None)


@dataclasses.dataclass(frozen=True, eq=False)
class Exclusions:
    """What remains, and what became of the rest."""

    trials: pd.DataFrame  # Answered trials of the sessions kept, practice aside.
    sessions: pd.DataFrame  # A row per session: its measures, kept or not, and the first reason.
    counts: pd.DataFrame  # A row per rule: who failed it, and whom it dropped.


def exclude(
    trials: pd.DataFrame,
    rules: ExclusionRules = ExclusionRules(),
    *,
    presented: Mapping[int, int] | None = None,
    duplicates: int = 0,
    rejected: pd.DataFrame | None = None,
) -> Exclusions:
    """Applies the rules to a trial table.

    A rule that cannot be judged (no catch trials, no headphone check) drops nobody; the counts say
    how many sessions it could judge. Rows without a session, of tables of proportions, stay.

    Args:
        trials: As `responses.read` returns them.
        rules: Which rules, and their bounds.
        presented: Sounds of each condition, practice aside. None: those in the table, so that
            only blank answers make a session incomplete.
        duplicates: Sessions that the reader left out, to be counted with the rest.
        rejected: Sessions that cannot be of the experiment (`Responses.rejected`), to be listed
            and counted with the rest.

    Returns:
        What counts, and the accounts.

    Raises:
        ValueError: A rule of `rules.required` finds nobody to judge.
    """
    trials = trials.assign(_session=_numbers(trials))
    heard = trials[trials["kind"] != "practice"]
    table = _measure(heard, trials, rules, presented)
    checks = _checks(table, rules)
    _require_judgements(checks, rules, heard, table)
    failed = pd.DataFrame({name: fails for name, _, fails, _ in checks}, index=table.index)
    reasons = [
        next((name for name in failed.columns if row[name]), "") for _, row in failed.iterrows()
    ]
    table["reason"] = reasons
    table["kept"] = table["reason"] == ""
    kept = heard[heard["_session"].isin(table.index[table["kept"]])]
    blank = kept["correct"].isna()
    unfit = 0 if rejected is None else len(rejected)
    every = len(table) + duplicates + unfit
    twice = "the same session came twice; the first was taken"
    counts = [
        {"rule": rule, "meaning": meaning, "judged": every, "failed": n, "dropped": n}
        for rule, meaning, n in (
            ("duplicates in the files", twice, duplicates),
            ("unfit", "answers that the experiment cannot have given", unfit),
        )
    ]
    for name, meaning, fails, judged in checks:
        first = table["reason"] == name
        counts.append(
            {
                "rule": name,
                "meaning": meaning,
                "judged": int(judged.sum()),
                "failed": int(fails.sum()),
                "dropped": int(first.sum()),
                "dropped_trials": int(table.loc[first, "answered"].sum()),
            }
        )
    counts += [
        {
            "rule": "practice trials",
            "meaning": "never counted",
            "dropped_trials": len(trials) - len(heard),
        },
        {
            "rule": "blank answers",
            "meaning": "of the sessions kept; neither right nor wrong",
            "dropped_trials": int(blank.sum()),
        },
        {
            "rule": "kept",
            "meaning": "sessions and trials that count",
            "judged": every,
            "kept": int(table["kept"].sum()),
            "kept_participants": int(table.loc[table["kept"], "participant"].nunique()),
            "kept_trials": int((~blank).sum()),
        },
    ]
    columns = ("judged", "failed", "dropped", "dropped_trials")
    columns += ("kept", "kept_participants", "kept_trials")
    accounts = pd.DataFrame(counts, columns=["rule", "meaning", *columns])
    accounts[list(columns)] = accounts[list(columns)].astype("Int64")
    if rejected is not None and unfit:
        listed = rejected[[*trial_table.SESSION, "reason"]]
        condition = pd.to_numeric(listed["condition"], errors="coerce").astype("Int64")
        listed = listed.assign(kept=False, reason="unfit: " + listed["reason"], condition=condition)
        table = pd.concat([table, listed.astype({"kept": bool})])
    return Exclusions(
        kept[~blank].drop(columns="_session").reset_index(drop=True),
        table.reset_index(drop=True),
        accounts,
    )


def _numbers(trials: pd.DataFrame) -> np.ndarray:
    """Numbers the sessions, [trial] int, in order of appearance."""
    return trials.groupby(list(trial_table.SESSION), sort=False, dropna=False).ngroup().to_numpy()


def _measure(heard, trials, rules, presented) -> pd.DataFrame:
    """Returns a row per session, indexed by its number: what the rules go by."""
    told = [*trial_table.SESSION, "headphones"]
    table = trials.groupby("_session", sort=True)[told].first()
    table["condition"] = table["condition"].astype("Int64")
    # `first` skips what is missing: a session whose every trial lacks it keeps its blank.
    by_session = heard.groupby("_session")["correct"]
    table["presented"] = by_session.size().reindex(table.index, fill_value=0)
    table["answered"] = by_session.count().reindex(table.index, fill_value=0)
    if presented is not None:
        table["presented"] = [
            presented.get(condition, own)
            for condition, own in zip(table["condition"], table["presented"], strict=True)
        ]
    reference = (heard["kind"] == "metamer") & (heard["layer"] == rules.reference_layer)
    for name, rows in (("reference", reference), ("catch", heard["kind"] == "catch")):
        scores = heard[rows].groupby("_session")["correct"]
        table[f"{name}_trials"] = scores.count().reindex(table.index, fill_value=0)
        table[f"{name}_correct"] = scores.mean().reindex(table.index)
    tidy = table["session"] == ""
    table["repeat"] = ~tidy & table["condition"].notna() & _repeats(table)
    return table


def _repeats(table: pd.DataFrame) -> pd.Series:
    """Marks sessions of a condition that the participant takes another time.

    The first that was answered to the end stays, or the first, if none was: whoever begins anew
    after a breakdown has heard some of it before, and the row says so.

    Returns:
        [session] bool.
    """
    order = table.assign(_unfinished=_share_answered(table) < 1, _at=table.index)
    order = order.sort_values(["_unfinished", "_at"])
    return order.duplicated(["participant", "condition"]).reindex(table.index)


def _share_answered(table: pd.DataFrame) -> pd.Series:
    return table["answered"] / table["presented"].clip(lower=1)


def _checks(table, rules):
    """Returns name, meaning, [session] failed and [session] could be judged, of each rule."""
    tidy = table["session"] == ""
    checks = []
    if rules.repeats:
        meaning = "the participant took this condition in another session, which counts"
        checks.append(("repeat", meaning, table["repeat"], ~tidy))
    if rules.answered_min is not None:
        meaning = f"below {_percent(rules.answered_min)} of the sounds answered"
        low = _share_answered(table) < rules.answered_min
        checks.append(("incomplete", meaning, low, ~tidy))
    if rules.headphones:
        passed = table["headphones"].astype("boolean")
        meaning, failed = "the headphone check was failed", ~passed.fillna(True).astype(bool)
        checks.append(("headphones", meaning, failed, passed.notna()))
    if rules.catch_min is not None:
        meaning = f"below {_percent(rules.catch_min)} right on catch trials"
        low = table["catch_correct"] < rules.catch_min - 1e-9
        checks.append(("catch", meaning, low, table["catch_trials"] > 0))
    if rules.reference_min is not None:
        meaning = (
            f"below {_percent(rules.reference_min)} right on metamers of "
            f"{rules.reference_layer} (the paper's rule)"
        )
        # A table of proportions may be averaged over sessions: the rule is not for those.
        low = table["reference_correct"] < rules.reference_min - 1e-9
        checks.append(("reference", meaning, low, ~tidy & (table["reference_trials"] > 0)))
    return [(name, meaning, judged & bad, judged) for name, meaning, bad, judged in checks]


def _require_judgements(checks, rules, heard, table) -> None:
    """Refuses rules that were asked for and find nobody to judge: they would be off unseen."""
    switches = {"reference": "reference_min", "catch": "catch_min", "headphones": "headphones"}
    if not len(table) or (table["session"] == "").all():
        return  # Proportions, which no rule is for.
    for name, _, _, judged in checks:
        if name not in rules.required or judged.any():
            continue
        what = {
            "reference": f"no session answers a metamer of {rules.reference_layer!r}; the layers "
            f"are {', '.join(sorted(set(heard['layer']) - {''}))}",
            "catch": "no session has catch trials",
            "headphones": "no session tells how the headphone check went",
        }.get(name, "no session can be judged")
        off = "--noheadphones" if name == "headphones" else f"--{switches.get(name, name)}=0"
        raise ValueError(f"the exclusion rule {name!r} judges nobody: {what} ({off} turns it off)")


def _percent(share: float) -> str:
    return f"{100 * share:g} %" if math.isfinite(share) else "?"
