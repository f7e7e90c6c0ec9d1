"""Published networks: from the checkpoint that their authors offer to a target of metamers.

found = load_published("cochcnn9", "checkpoint.pt", class_names="word_list.txt")
made = metamers.synthesize(
    key, sounds, ids, stage_fn=stage_fn(found.model, "relu2"), variables=found.variables,
    config=configs.SYNTHESIS_RECIPES["feather2023"],
)
"""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax
import numpy as np

from metamer_jax import configs, models
from metamer_jax.models import torch_checkpoints, torch_import
from metamer_jax.own_models import wrapping

# The layer whose outputs are the classes.
_READOUTS = ("classification", "fc")
# What the published model does to its input first: nothing, by the numbers that it holds.
_PREPROCESSING = {"preproc.normalize.new_mean": 0, "preproc.normalize.new_std": 1}
_FILTERS = re.compile(r"(^|\.)compute_subbands\.coch_filters$")


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """A network with its trained weights, and what belongs to it.

    Attributes:
        model: What metamers are made from, as `wrap_model` returns it: `stage_fn`, `verify` and
            all else take it. Its stages are the published ones; `final` has the classes.
        variables: Its weights and filters.
        class_names: What each entry of `final` stands for.
        network: The Flax module.
        weights: Its variables, without filters.
    """

    model: wrapping.OwnModel
    variables: wrapping.Variables = dataclasses.field(repr=False)
    class_names: tuple[str, ...] = dataclasses.field(repr=False)
    network: models.CochleagramNetwork
    weights: Mapping[str, Any] = dataclasses.field(repr=False)


def load_published(
    name: str,
    path: str | os.PathLike,
    *,
    class_names: str | os.PathLike | None = None,
    cochleagram: configs.CochleagramConfig | None = None,
) -> Published:
    """Reads a published checkpoint of Feather et al. (2023), without running code from it.

    Args:
        name: Which network it is: "cochcnn9", "cochresnet50" or "spectemp".
        path: The file, as it was downloaded: .pt, or a state dictionary as .npz or .safetensors.
            What stands before the network's names in it is found.
        class_names: A text file with a name a line, in the order of the classes, or with the
            number before each name; None: the classes are called by their numbers.
        cochleagram: What the network hears; None: `configs.COCHLEAGRAMS["feather2023"]`, by the
            fast method (verification takes the exact one all the same).

    Returns:
        The network, with as many classes as the file has.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is something else, or damaged, or does not fit the network; the
            message says what it holds.
    """
    if cochleagram is None:
        preset = configs.COCHLEAGRAMS["feather2023"]
        cochleagram = dataclasses.replace(preset, method="multirate")
    network, weights = read_network(name, path, cochleagram)
    names = read_class_names(class_names, network.num_words)
    model, variables = wrapping.wrap_model(
        # pyrefly: ignore[bad-argument-type]: Flax makes its modules hashable
        _stages_of(network),
        weights,
        cochleagram=cochleagram,
        batch_axis=True,
    )
    return Published(model, variables, names, network, weights)


@functools.lru_cache(maxsize=16)
def _stages_of(network):
    """The network as a function that returns its stages by name; one object a network."""

    def respond(variables, batch):
        return network.apply(variables, batch)[1]

    return respond


def read_network(
    name: str, path: str | os.PathLike, cochleagram: configs.CochleagramConfig
) -> tuple[models.CochleagramNetwork, dict[str, Any]]:
    """Reads a checkpoint as a network of the published widths and its variables.

    Args:
        name: As of `load_published`, or another preset of such a network.
        path: Likewise.
        cochleagram: What it hears.

    Returns:
        The network, with as many classes as the file has, and its variables, without filters.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As `load_published`.
    """
    _build(name, 2)  # Refuses one that is none of theirs.
    path = pathlib.Path(path)
    if path.suffix in (".npz", ".safetensors"):
        tensors = torch_import.read_state_dict(path)
        checkpoint = torch_checkpoints.Checkpoint(path, tensors, tensors, {})
    else:
        checkpoint = torch_checkpoints.read_checkpoint(path)
        tensors = checkpoint.tensors
    wanted = _names(name, cochleagram)
    prefix = torch_checkpoints.find_prefix(tensors, wanted)
    try:
        if prefix is None:
            raise ValueError(f"it has none of {', '.join(sorted(wanted)[:4])}, ...")
        own = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}
        # Without a readout `from_torch` says so.
        readouts = [own[f"{r}.bias"].shape for r in _READOUTS if f"{r}.bias" in wanted & own.keys()]
        num_classes = int(np.prod(readouts[0])) if readouts else 2
        _check_surroundings(tensors, cochleagram)
        network = _build(name, num_classes)
        return network, torch_import.from_torch(
            {key: _read(tensor) for key, tensor in own.items()},
            network,
            num_channels=cochleagram.num_channels,
            num_frames=cochleagram.num_frames,
        )
    except ValueError as error:
        told = [f"{key} is made by {kind}" for key, kind in checkpoint.foreign.items()]
        told = f"; no arrays: {', '.join(told[:3])}" if told else ""
        raise ValueError(
            f"{path} does not fit {name!r}: {error}; the file {checkpoint.describe()}{told}"
            f"{_fits_another(wanted, tensors, cochleagram)}"
        ) from error


def _build(name: str, num_classes: int) -> models.CochleagramNetwork:
    network = models.build_model(name, num_classes)
    if not isinstance(network, models.CochleagramNetwork):
        known = ", ".join(models.COCHLEAGRAM_NETWORKS)
        raise ValueError(f"name must be a published network, one of {known}, got {name!r}")
    return network


def _read(tensor):
    return tensor.read() if isinstance(tensor, torch_checkpoints.Tensor) else tensor


def _names(name, cochleagram):
    """What the authors call the arrays of a network."""
    network = models.build_model(name, 2)
    shapes = network.variable_shapes(cochleagram.num_channels, cochleagram.num_frames)
    paths = flax.traverse_util.flatten_dict(shapes)
    return {torch_import.torch_name(path) for path in paths if path[0] != "normalization"}


def _fits_another(wanted, tensors, cochleagram):
    for other in models.COCHLEAGRAM_NETWORKS:
        names = _names(other, cochleagram)
        prefix = torch_checkpoints.find_prefix(tensors, names)
        if names != wanted and prefix is not None and {prefix + n for n in names} <= tensors.keys():
            return f"; it has all the names of {other!r}"
    return ""


def _check_surroundings(tensors, cochleagram):
    """What stands around the network must be what we put there: no scaling, the same filters."""
    for key, tensor in tensors.items():
        for end, expected in _PREPROCESSING.items():
            if key.endswith(end) and np.any(_read(tensor) != expected):
                raise ValueError(f"{key} must be {expected}, for inputs are taken as they are")
        expected = (cochleagram.num_channels, cochleagram.num_samples // 2 + 1)
        if _FILTERS.search(key) and tuple(tensor.shape[:2]) != expected:
            raise ValueError(
                f"{key} must have (channels, bins) {expected}, got {tuple(tensor.shape[:2])}: for "
                "cochleagrams of another rate, duration or number of channels"
            )


def read_class_names(path: str | os.PathLike | None, num_classes: int) -> tuple[str, ...]:
    """Reads what classes are called.

    Args:
        path: A text file (UTF-8) with a name a line, in the order of the classes, or with a number
            before every name ("17 dog", "17,dog"; a tab will do, too); None: their numbers.
        num_classes: How many there must be.

    Returns:
        [class] names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: There are more or fewer lines than classes, or names or numbers repeat.
    """
    if path is None:
        return tuple(str(number) for number in range(num_classes))
    try:
        lines = [line.strip() for line in pathlib.Path(path).read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"class_names must be a text file (UTF-8), {path} is not: {error}"
        ) from error
    lines = [line for line in lines if line]
    numbered = [re.fullmatch(r"(\d+)[\s,;:]+(.+)", line) for line in lines]
    matches = [match for match in numbered if match is not None]
    if lines and len(matches) == len(lines):
        numbers = [int(match[1]) for match in matches]
        if sorted(numbers) != list(range(len(lines))):
            raise ValueError(
                f"class_names must number classes 0 to {len(lines) - 1}, {path} does not"
            )
        lines = [match[2] for _, match in sorted(zip(numbers, matches, strict=True))]
    if len(lines) != num_classes:
        raise ValueError(f"class_names must be {num_classes} lines, {path} has {len(lines)}")
    if repeated := sorted({name for name in lines if lines.count(name) > 1}):
        raise ValueError(f"class_names must differ, {path} has {repeated[:5]} more than once")
    return tuple(lines)
