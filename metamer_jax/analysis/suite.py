"""How an experiment is analysed, and all its further analyses in one call.

    material = suite.Material(metamers=trials, levels=trials, chance=1 / 8)
    for name, make in suite.makers(material).items():
        table = make()      # or a ValueError that says why there is none

What a table needs (single trials, machines, the networks' own judgements) is in `Material`; without
it the table's maker says so.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from metamer_jax.analysis import (
    bayes,
    confusions,
    contrasts,
    curves,
    equivalence,
    intervals,
    mixed,
    observers,
    paired,
    reaction_times,
    reliability,
    scores,
    tables,
    variance,
)
from metamer_jax.analysis.tables import single_trials
from metamer_jax.configs.checks import check_fields, seed_setting, setting

NETWORK = "the network itself"
# Tables in which machines stand beside listeners, where there are any.
BESIDE_MACHINES = frozenset(
    "recognition_by_observer anova_observers noise_ceiling machine_correlation error_consistency "
    "error_consistency_pairs confusion_similarity".split()
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """How answers are analysed, whoever gave them."""

    chance: float | None = setting(
        None,
        "Right answers by guessing. None: one of the experiment's words; needed without any.",
        above=0,
        below=1,
    )
    unit: str = setting("participant", "What counts as a listener.", choices=paired.UNITS)
    seed: int = seed_setting(0, "Of permutations, bootstrap and simulated listeners.")
    permutations: int = setting(10_000, "Permutations of each test.", at_least=0)
    resamples: int = setting(10_000, "Bootstrap samples of each interval.", at_least=0)
    exclude_layers: tuple[str, ...] = setting((), "Layers to leave out of every table.")
    natural_layer: bool = setting(
        False,
        "Natural sounds (without any, catch trials) are level 0 of the layers of every network.",
    )
    scheme: str = setting(
        "residual",
        "Permutations of analyses of variance; 'feather2023' is that of Feather et al. (2023).",
        choices=variance.SCHEMES,
    )
    correction: str = setting(
        "holm", "Over the family of planned contrasts.", choices=intervals.CORRECTIONS
    )
    bound: float = setting(
        0.1,
        "Smallest difference of recognition that would matter (equivalence tests).",
        above=0,
        below=1,
    )

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What is analysed, and how."""

    metamers: pd.DataFrame  # Trials (or proportions) of listeners that count.
    levels: pd.DataFrame  # The same, or with natural sounds as a layer (`with_natural_layer`).
    chance: float  # Share of right answers by guessing, whatever `config` says.
    machines: pd.DataFrame | None = None  # Trials of other networks, `participant` their name.
    networks: pd.DataFrame | None = None  # The generating networks' on each listener's own sounds.
    words: Sequence[str] | None = None
    planned: Mapping[str, Sequence[contrasts.Term]] | None = None
    pairing: tables.Pairing = "name"
    config: AnalysisConfig = AnalysisConfig()


def makers(material: Material) -> dict[str, Callable[[], pd.DataFrame]]:
    """Returns what makes each table, by name; each raises ValueError where it cannot.

    `bayes_factors` and `equivalence` are of the paired tests of `compare_models`;
    `noise_ceiling` and `machine_correlation` take other machines, or else the generating networks.

    Args:
        material: What is analysed.

    Returns:
        Name to a function without arguments.
    """
    m, config = material, material.config
    random = {"seed": config.seed}
    drawn = {"resamples": config.resamples, **random}
    splits = {"splits": max(1, min(1000, config.resamples)), **random}

    @functools.cache
    def compared():
        return paired.compare_models(
            m.levels,
            pairing=m.pairing,
            unit=config.unit,
            missing="drop",
            permutations=0,
            resamples=0,
            **random,
        )

    @functools.cache
    def consistency():
        return reliability.error_consistency(single_trials(m.metamers), _of_machines(m), **drawn)

    found = {
        "recognition_by_observer": lambda: scores.recognition(
            observers.both_observers(m.levels, _networks(m)),
            ("observer", "model", "layer"),
            chance=m.chance,
            **drawn,
        ),
        "anova_observers": lambda: observers.observer_anova(
            m.levels,
            _networks(m),
            subject=paired.listener_columns(config.unit),
            permutations=config.permutations,
            scheme=config.scheme,
            **random,
        ),
        "contrasts": lambda: contrasts.planned_contrasts(
            m.levels,
            m.planned or {},
            correction=config.correction,
            unit=config.unit,
            permutations=config.permutations,
            **drawn,
        ),
        "bayes_factors": lambda: bayes.bayes_factors(compared()),
        "equivalence": lambda: equivalence.equivalence_tests(compared(), config.bound),
        "mixed_model": lambda: mixed.mixed_model(
            shared_layers(single_trials(m.metamers), m.pairing)
        ),
        "curve_summary": lambda: curves.curve_summary(
            m.levels, chance=m.chance, resamples=min(1000, config.resamples), **random
        ),
        "split_half": lambda: reliability.split_half(m.metamers, **splits),
        "noise_ceiling": lambda: reliability.noise_ceiling(m.metamers, _any_machines(m), **drawn),
        "machine_correlation": lambda: reliability.machine_correlation(
            m.metamers, _some_machines(m), **splits
        ),
        "error_consistency": lambda: consistency()[0],
        "error_consistency_pairs": lambda: consistency()[1],
        "stimuli": lambda: reliability.stimuli(single_trials(m.metamers)),
        "transmitted_information": lambda: confusions.transmitted_information(
            _answered(m.metamers), words=m.words
        ),
        "response_bias": lambda: confusions.response_bias(
            _answered(m.metamers), words=m.words, **drawn
        ),
        "confusion_similarity": lambda: confusions.confusion_similarity(
            _answered(m.metamers), _answered(_some_machines(m)), words=m.words
        ),
        "response_times": lambda: reaction_times.response_times(m.metamers),
        "order_effects": lambda: reaction_times.order_effects(m.metamers),
    }
    if m.planned is None:
        del found["contrasts"]
    return found


def _networks(material: Material) -> pd.DataFrame:
    if material.networks is None:
        raise ValueError("what the generating networks say to these sounds is not known")
    return material.networks


def _of_machines(material: Material) -> pd.DataFrame | None:
    """Machines' answers to the very stimuli that listeners heard, or None."""
    if material.machines is None:
        return None
    heard = set(material.metamers["stimulus_id"]) - {""}
    same = material.machines[material.machines["stimulus_id"].isin(heard)]
    return same if len(same) else None


def _any_machines(material: Material) -> pd.DataFrame | None:
    """Other machines, or else the generating networks as one observer; None without either."""
    if material.machines is not None and len(material.machines):
        return material.machines
    if material.networks is None:
        return None
    return material.networks.assign(participant=NETWORK)


def _some_machines(material: Material) -> pd.DataFrame:
    machines = _any_machines(material)
    if machines is None:
        raise ValueError("no machine listened to these sounds")
    return machines


def _answered(table: pd.DataFrame) -> pd.DataFrame:
    known = table[table["word"] != ""]
    if known.empty or (known["response"].fillna("") == "").all():
        raise ValueError("the responses do not tell what was answered")
    return known


def shared_layers(table: pd.DataFrame, pairing: tables.Pairing) -> pd.DataFrame:
    """Leaves the layers that all models have, under their common names.

    Args:
        table: Rows with model and layer.
        pairing: As of `tables.pair_layers`.

    Returns:
        The rows of `pair_layers` that have a partner in every model.

    Raises:
        ValueError: No layer is shared.
    """
    named = tables.pair_layers(table, pairing)
    models = named.groupby("layer")["model"].nunique()
    shared = named[named["layer"].map(models) == table["model"].nunique()]
    if shared.empty:
        raise ValueError("no layer is shared by all networks")
    return shared
