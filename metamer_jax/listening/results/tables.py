"""From responses to the tables of a paper, in a folder.

    read = responses.read(folder, experiment)
    found = analyze(read, presented=key.presented(), words=experiment.words)
    write(found, read, folder)

A table that cannot be made (one listener, one model) is left out, and `omitted` says why. The
folder then has tables (CSV, JSON), figures (PDF, PNG), report.html and summary.json.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from metamer_jax import analysis
from metamer_jax.analysis import discrimination, paired, suite
from metamer_jax.analysis.tables import single_trials
from metamer_jax.figures import listening as plots
from metamer_jax.listening import listeners, responses
from metamer_jax.listening.listeners import simulated
from metamer_jax.listening.results import exclusions

_RULES = exclusions.ExclusionRules()
_CONFIG = suite.AnalysisConfig()


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What was found; every table has a column `source` that tells whose answers they are."""

    source: str  # "page+server", "simulated", ...
    exclusions: exclusions.Exclusions
    tables: dict[str, pd.DataFrame]
    omitted: dict[str, str]  # Table to the reason why there is none.
    warnings: tuple[str, ...]
    settings: dict[str, Any]
    nothing: str = ""  # Why there is no table at all.

    @property
    def with_numbers(self) -> set[str]:
        """Names of the tables that hold more than reasons why there is nothing."""
        return {
            name
            for name, table in self.tables.items()
            if len(table) and ("reason" not in table or (table["reason"] == "").any())
        }

    @property
    def simulated(self) -> bool:
        """Whether the answers are simulated."""
        return self.source == simulated.SOURCE

    @property
    def machine(self) -> bool:
        """Whether networks answered."""
        return self.source == listeners.SOURCE


def analyze(
    read: responses.Responses,
    config: suite.AnalysisConfig = _CONFIG,
    *,
    rules: exclusions.ExclusionRules = _RULES,
    presented: Mapping[int, int] | None = None,
    words: Sequence[str] | None = None,
    pairing: analysis.Pairing | None = None,
    machines: pd.DataFrame | None = None,
    manifest: pd.DataFrame | None = None,
    networks: pd.DataFrame | None = None,
    planned: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> Results:
    """Excludes by rule, and makes every table that the answers allow.

    Args:
        read: From `responses`.
        config: How answers are analysed. Layers to leave out may be natural sounds that a table of
            proportions holds as a layer.
        rules: Who counts.
        presented: Sounds of each condition (`AnswerKey.presented`).
        words: The choices. None: unknown, as of tables of proportions.
        pairing: Which layers of different networks are compared: "name", "index", or a mapping
            (`analysis.pair_layers`). None: by name where all have the same, else by index.
        machines: Trials of machine listeners on the same metamers, to set beside the answers.
        manifest: Of the experiment: what the generating network says to each metamer.
        networks: Instead of that, a table of proportions of the generating networks.
        planned: Planned contrasts: `analysis.planned_contrasts`.

    Returns:
        The tables, and why others are missing.

    Raises:
        ValueError: Simulated or machine answers are mixed with people's, no trial is of a layer
            to exclude, or the answers do not tell the chance level and none is given.
    """
    found = exclusions.exclude(
        read.trials,
        rules,
        presented=presented,
        duplicates=read.duplicates,
        rejected=read.rejected,
    )
    source = _source(read.trials)
    chance = config.chance
    if chance is None:
        if not words:
            raise ValueError(
                "chance: the answers do not tell how many words were offered; give the probability "
                "of a right answer by guessing, such as 0.125 for eight words"
            )
        chance = 1 / len(words)
    excluded = list(config.exclude_layers)
    absent = set(excluded) - set(read.trials["layer"])
    if absent:
        raise ValueError(f"exclude_layers: no trial is of {sorted(absent)}")
    table = found.trials[~found.trials["layer"].isin(excluded)]
    noticed: list[str] = []
    metamers = levels = table[table["kind"] == "metamer"]
    if config.natural_layer and len(metamers):
        kinds = ("natural",) if (table["kind"] == "natural").any() else ("catch",)
        if kinds == ("catch",):
            noticed.append("natural sounds are catch trials, by which listeners were chosen")
        levels = analysis.with_natural_layer(table, kinds)
    if pairing is None:
        pairing = _usual_pairing(levels)
    if len(levels):
        analysis.pair_layers(levels, pairing)  # A mistake in a table of pairs is said now.
    drawn = {"resamples": config.resamples, "seed": config.seed}
    counted = {"unit": config.unit, "chance": chance, **drawn}
    within = ["layer"] + (["model"] if metamers["model"].nunique() > 1 else [])
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "recognition": lambda: analysis.recognition(levels, **counted),
        "recognition_by_model": lambda: analysis.recognition(metamers, "model", **counted),
        "recognition_by_word": lambda: analysis.recognition(
            _known(metamers, "word"), ("model", "word"), **counted
        ),
        "recognition_of_other_sounds": lambda: analysis.recognition(
            _others(table), "kind", kinds=None, **counted
        ),
        "confusion": lambda: analysis.confusion(_known(metamers, "word"), "model", words=words),
        "confusion_by_layer": lambda: analysis.confusion(
            _known(metamers, "word"), ("model", "layer"), words=words
        ),
        "compare_models": lambda: analysis.compare_models(
            levels,
            pairing=pairing,
            missing="drop",
            permutations=config.permutations,
            **counted,
        ),
        "compare_models_paper": lambda: analysis.compare_models(
            single_trials(metamers),
            "paper",
            pairing=pairing,
            permutations=0,
            **counted,
        ),
        "anova": lambda: analysis.anova(
            _with_every_cell(
                _shared_layers(_raters_of_all(source, levels), pairing),
                paired.listener_columns(config.unit),
                within,
            ),
            dv="correct",
            subject=paired.listener_columns(config.unit),
            within=within,
            permutations=config.permutations,
            scheme=config.scheme,
            seed=config.seed,
        ),
        "gee": lambda: analysis.gee(single_trials(metamers)),
        "power": lambda: _power(_people(source, metamers), config.seed),
    }
    others = None if machines is None else listeners.of_others(machines)
    if networks is None and manifest is not None and len(metamers):
        networks, reason = _generating_networks(levels, manifest, machines)
        noticed += [reason] if reason else []
    elif networks is not None:
        networks = networks[~networks["layer"].isin(excluded)]
    makers |= suite.makers(
        suite.Material(
            metamers=metamers,
            levels=levels,
            chance=chance,
            machines=others,
            networks=networks,
            words=words,
            planned=planned,
            pairing=pairing,
            config=config,
        )
    )
    mixed = f"{source} and {listeners.SOURCE}"
    if source == listeners.SOURCE or (others is None and networks is None):
        mixed = source
    for task, answers in discrimination.ANSWERS.items():
        if set(words or ()) == set(answers):
            makers["discrimination"] = lambda task=task: discrimination.sensitivity(
                metamers, task, **drawn
            )
    tables, omitted = {}, {}
    noticed += [
        f"the exclusion rule {row.rule!r} is on and finds nobody to judge"
        for row in found.counts.itertuples()
        if row.rule in ("catch", "headphones") and row.judged == 0
    ]
    nothing = _why_nothing(found) if metamers.empty else ""
    for name, make in makers.items():
        if nothing:
            omitted[name] = "no trials are left"
            continue
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                made = make()
            whose = mixed if name in suite.BESIDE_MACHINES else source
            tables[name] = made.assign(source=whose)
            noticed += [f"{name}: {warning.message}" for warning in caught]
        except (ValueError, ImportError) as error:  # An optional package is not there.
            omitted[name] = str(error)
    settings: dict[str, Any] = dataclasses.asdict(rules) | dataclasses.asdict(config)
    settings |= {"chance": chance, "exclude_layers": excluded}
    settings |= {"pairing": pairing if isinstance(pairing, str) else dict(pairing)}
    said = tuple(dict.fromkeys(noticed))
    return Results(source, found, tables, omitted, said, settings, nothing)


def _generating_networks(
    metamers: pd.DataFrame, manifest: pd.DataFrame, machines: pd.DataFrame | None
) -> tuple[pd.DataFrame | None, str]:
    """What each network says to the sounds that listeners heard, and what to know of it."""
    own = None
    if machines is not None:
        own = machines[machines["participant"].isin(set(metamers["model"]))]
    try:
        found = analysis.network_trials(metamers, manifest, own)
    except ValueError:
        return None, ""
    missing = sorted(set(metamers["layer"]) - set(found["layer"]))
    if missing:
        return found, (
            f"what networks say to the sounds of {', '.join(missing)} is not known: they are not "
            "in the comparison with them (metamer-jax listen machines tells it)"
        )
    return found, ""


def _why_nothing(found: exclusions.Exclusions) -> str:
    """Says which rules dropped everything, the first to blame first."""
    counts = found.counts
    dropped = counts[counts["dropped"].fillna(0) > 0].sort_values("dropped", ascending=False)
    rules = "; ".join(f"{row.dropped} as {row.meaning}" for row in dropped.itertuples())
    kept = int(found.sessions["kept"].sum())
    if kept:
        return f"No metamer is among the trials of the {kept} sessions that count" + (
            f" ({rules})." if rules else "."
        )
    return f"No session counts: of {len(found.sessions)}, {rules}."


def _source(trials: pd.DataFrame) -> str:
    sources = sorted(set(trials["source"]))
    if len(sources) > 1 and set(sources) & set(plots.LABELS):
        raise ValueError(
            f"trials must be people's or simulated, not both, nor mixed with machines': their "
            f"sources are {sources}"
        )
    return "+".join(sources)


def _people(source: str, table: pd.DataFrame) -> pd.DataFrame:
    if source == listeners.SOURCE:
        raise ValueError("machines need no planning")
    return table


def _raters_of_all(source: str, table: pd.DataFrame) -> pd.DataFrame:
    """Leaves out networks that do not rate themselves: an ANOVA needs every cell."""
    if source != listeners.SOURCE:
        return table
    models = table.groupby("participant")["model"].transform("nunique")
    return table[models == models.max()]


def _with_every_cell(
    table: pd.DataFrame, subject: Sequence[str], within: Sequence[str]
) -> pd.DataFrame:
    """Leaves out listeners without an answer in some cell, which an ANOVA needs; warns of it."""
    answered = table[table["correct"].notna()]
    cells = answered.drop_duplicates([*subject, *within])
    whole = cells.groupby(list(subject), sort=False).size()
    every = len(cells.drop_duplicates(list(within)))
    lacking = whole.index[whole < every]
    if not len(lacking) or len(lacking) == len(whole):
        return table  # Of nobody who has all, the ANOVA itself says what is missing.
    names = [str(name) for name in lacking]
    warnings.warn(
        f"{len(names)} of {len(whole)} listeners have no answer in some cell and are left out: "
        f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}",
        stacklevel=2,
    )
    index = pd.MultiIndex.from_frame(table[list(subject)])
    gone = pd.MultiIndex.from_tuples(
        [name if isinstance(name, tuple) else (name,) for name in lacking], names=list(subject)
    )
    return table[~index.isin(gone)]


def _known(table: pd.DataFrame, column: str) -> pd.DataFrame:
    known = table[table[column] != ""]
    if known.empty:
        raise ValueError(f"the responses do not tell the {column}")
    return known


def _others(table: pd.DataFrame) -> pd.DataFrame:
    others = table[table["kind"] != "metamer"]
    if others.empty:
        raise ValueError("only metamers were heard")
    return others


def _usual_pairing(metamers: pd.DataFrame) -> str:
    names = metamers.groupby("model")["layer"].agg(frozenset)
    if names.nunique() <= 1 or metamers["layer_index"].isna().any():
        return "name"
    return "index"


def _shared_layers(metamers: pd.DataFrame, pairing: analysis.Pairing) -> pd.DataFrame:
    """Leaves the layers that all networks have, under their common names; warns of the others."""
    shared = suite.shared_layers(metamers, pairing)
    if len(shared) < len(metamers):
        left_out = sorted({*metamers["layer"]} - {*shared["own_layer"]})
        warnings.warn(f"layers that not all networks have are left out: {left_out}", stacklevel=2)
    return shared


_ITEM_SD = 0.5  # Logit, of metamers: as simulated listeners have it.


def _power(metamers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """For the next experiment: as many trials and metamers a cell as in this one.

    First without a difference between metamers, then with one, the same metamers for all listeners.

    Returns:
        Rows of `analysis.power`, first those without a difference between metamers.

    Raises:
        ValueError: The answers are shares: the number of trials is not known.
    """
    cells = single_trials(metamers).groupby(["participant", "session", "model", "layer"])
    trials = max(1, int(cells.size().median()))
    people = metamers["participant"].nunique()
    sizes = sorted({5, 7, 10, 15, 20, 30, max(2, people)})
    items = int(metamers.groupby(["model", "layer"])["stimulus_id"].nunique().median())
    shared = {"item_sd": _ITEM_SD, "items": max(items, trials)}
    found = [
        analysis.power(sizes, trials=trials, seed=seed),
        analysis.power(sizes, trials=trials, seed=seed, simulations=2000, **shared),
    ]
    return pd.concat(found, ignore_index=True)
