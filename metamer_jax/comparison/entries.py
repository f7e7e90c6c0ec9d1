"""What is compared: entries, each a network with a way of training it, in several seeds.

entries = parse(["conv2d", "frequency_grouped", "conv2d:untrained"])
planned_contrasts(entries)      # which pairs say what
"""

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

from metamer_jax import configs, models

UNTRAINED = "untrained"

_CONNECTIONS = ("conv2d", "frequency_grouped", "frequency_local", "frequency_dense")
# frequency_local has the representation of conv2d as it is: no control of its own.
_MATCHED = (
    *(f"{name}_parameter_matched" for name in _CONNECTIONS[1:]),
    *("frequency_grouped_representation_matched", "frequency_dense_representation_matched"),
    *(f"{name}_matched" for name in _CONNECTIONS[1:]),
)
_TRAININGS = (
    "conv2d:adversarial_waveform_l2",
    "conv2d:random_waveform_l2",
    "conv2d:untrained",
)
SETS: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "paper": _CONNECTIONS[:2],
        "connections": _CONNECTIONS,
        "controls": (*_CONNECTIONS, *_MATCHED),
        "all": (*_CONNECTIONS, *_MATCHED, "conv2d_antialiased", *_TRAININGS),
    }
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of the networks that are compared, whatever its seed."""

    network: str  # For `models.build_model`.
    training: str | None = None  # Of `configs.TRAINING_RECIPES`; None: the comparison's own.

    def __post_init__(self):
        model = models.build_model(self.network, num_words=2)  # Refuses one that there is not.
        if not isinstance(model, models.WordNetwork):
            raise ValueError(
                f"{self.label} has stages of its own: only networks of "
                f"{tuple(models.WORD_NETWORKS)} are compared"
            )
        if self.training is not None and self.training not in configs.TRAINING_RECIPES:
            raise ValueError(
                f"the training of {self.label} must be one of "
                f"{sorted(configs.TRAINING_RECIPES)}, got {self.training!r}"
            )

    @property
    def label(self) -> str:
        """As it is given: "conv2d" or "conv2d:untrained"."""
        return self.network if self.training is None else f"{self.network}:{self.training}"

    @property
    def folder(self) -> str:
        """Its label as part of a folder's name."""
        return self.label.replace(":", "-")

    @property
    def connection(self) -> str:
        """How it connects over frequency: the network that it is a variant of."""
        return models.PRESETS[self.network]["name"]

    @property
    def variant(self) -> str:
        """What it changes of that network: "", "parameter_matched", "antialiased", ..."""
        return self.network.removeprefix(self.connection).removeprefix("_")

    @property
    def title(self) -> str:
        """For people: "frequency grouped, parameter matched".

        "Both" are parameters and dense representation.
        """
        variant = "both_matched" if self.variant == "matched" else self.variant
        parts = [self.connection, variant, self.training or ""]
        return ", ".join(part.replace("_", " ") for part in parts if part)

    @property
    def listens(self) -> bool:
        """Whether what it recognises of others' metamers says anything."""
        return self.training != UNTRAINED


@dataclasses.dataclass(frozen=True)
class SavedEntry:
    """A network of a run that is finished, somebody's own model or one that a run trained."""

    run: str  # The run's folder.
    network: str  # What it is called there.
    label: str  # What it is called here: the folder's name, and the network's where it has several.
    stages: tuple[str, ...]  # Those that it has metamers of, in processing order.
    seed: int
    listens: bool  # Whether the words of its targets are among its classes.
    digest: str  # Of its weights and metamers: others are another entry.

    variant: ClassVar[str] = ""
    training: ClassVar[None] = None

    @property
    def folder(self) -> str:
        """Its label, and what tells its weights and metamers from others, in names of files."""
        return re.sub(r"[^\w.-]", ".", self.label) + f"-{self.digest[:8]}"

    @property
    def connection(self) -> str:
        """A kind of its own: it is no kin of any other."""
        return self.label

    @property
    def title(self) -> str:
        """For people."""
        return self.label


AnyEntry: TypeAlias = Entry | SavedEntry


def parse(labels: Sequence[str]) -> tuple[Entry, ...]:
    """Reads "network" or "network:training recipe", or the name of a set, in order.

    Returns:
        The entries, each once.

    Raises:
        ValueError: There is no such network, recipe or set, or one is named twice.
    """
    found = []
    for label in labels:
        for one in SETS.get(label, (label,)):
            network, _, training = one.partition(":")
            found.append(Entry(network, training or None))
    if len(set(found)) < len(found) or not found:
        raise ValueError(
            f"entries must be one or more, each once, got {[entry.label for entry in found]}"
        )
    return tuple(found)


def settings(base: configs.ExperimentConfig, entry: Entry, seed: int) -> configs.ExperimentConfig:
    """The settings of one entry's run: the comparison's, with its network, training and seed.

    Epochs at most are the comparison's where they are fewer than the recipe's. Targets and the
    null distribution's recordings follow from `base`, so that all runs share them.

    Returns:
        The run's settings.
    """
    training = base.training
    if entry.training is not None:
        training = configs.TRAINING_RECIPES[entry.training]
        usual = configs.TRAINING_RECIPES.get(base.training.recipe)
        if usual is not None and base.training.epochs != usual.epochs:
            epochs = min(training.epochs, base.training.epochs)
            training = dataclasses.replace(training, epochs=epochs)
    return dataclasses.replace(
        base,
        networks=(entry.network,),
        training=training,
        seed=seed,
        target_seed=base.resolved_target_seed,
    )


@dataclasses.dataclass(frozen=True)
class Contrast:
    """A difference that was planned: recognition of `of`'s metamers minus that of `against`'s."""

    question: str
    of: AnyEntry
    against: AnyEntry

    @property
    def connections(self) -> frozenset[str]:
        """Those of the two: networks of these do not rate them."""
        return frozenset((self.of.connection, self.against.connection))


CONNECTION, SIZE, SAVED = "connection", "size", "saved model"


def planned_contrasts(entries: Sequence[AnyEntry]) -> tuple[Contrast, ...]:
    """Says which pairs of the entries answer which question.

    "connection": another connection against the first entry's, at the widths as published;
    "connection, parameter matched" and the like, at equal sizes. "size": variants of a connection
    that differ in their widths alone. "antialiased" and "training": a network against itself
    without it. "saved model": one of a finished run against the first entry.

    Returns:
        The contrasts, those of one question together.
    """
    everything, entries = entries, [e for e in entries if isinstance(e, Entry)]
    first = everything[0]
    found = {(e.connection, e.variant, e.training): e for e in entries}
    reference = found.get((first.connection, "", None))
    others = dict.fromkeys(e.connection for e in entries if e.connection != first.connection)
    variants = [v for v in dict.fromkeys(e.variant for e in entries) if v == "" or _is_size(v)]
    contrasts = []
    for variant in variants:
        name = "both matched" if variant == "matched" else variant.replace("_", " ")
        question = f"{CONNECTION}, {name}" if variant else CONNECTION
        for connection in others:
            entry = found.get((connection, variant, None)) or _as_it_is(found, connection, variant)
            if entry is not None and reference is not None:
                contrasts.append(Contrast(question, entry, reference))
    for entry in entries:
        plain = found.get((entry.connection, "", None))
        untaught = found.get((entry.connection, entry.variant, None))
        if entry.training is not None and untaught is not None:
            contrasts.append(Contrast("training", entry, untaught))
        elif entry.training is None and entry.variant and plain is not None:
            question = SIZE if _is_size(entry.variant) else entry.variant.replace("_", " ")
            contrasts.append(Contrast(question, entry, plain))
    for entry in everything:
        if isinstance(entry, SavedEntry) and entry != first:
            contrasts.append(Contrast(SAVED, entry, reference or first))
    order = list(dict.fromkeys(contrast.question for contrast in contrasts))
    return tuple(sorted(contrasts, key=lambda contrast: order.index(contrast.question)))


def _is_size(variant: str) -> bool:
    return variant.endswith("matched")


def _as_it_is(found, connection: str, variant: str) -> Entry | None:
    """The plain network of a connection, where its widths are those of the control already."""
    plain, control = found.get((connection, "", None)), f"{connection}_{variant}"
    if plain is None or control not in models.PRESETS:
        return None
    same = models.build_model(control, 2) == models.build_model(plain.network, 2)
    return plain if same else None
